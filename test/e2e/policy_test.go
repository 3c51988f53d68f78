package e2e

import (
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/core"
	"sallyport/core/admin"
	"sallyport/core/push/aes128gcm"
	"sallyport/core/push/pushtest"
	"sallyport/test/phone"
)

// quiet are quiet hours that never end, for everybody.
func quiet(messages string) Config {
	return Config{Core: func(c *core.Config) {
		c.Push.Quiet = []core.QuietConfig{{AOR: "*", Timezone: "UTC", Messages: messages, VIP: []string{"carol@" + Domain}}}
	}}
}

func TestP30_InQuietHoursNobodyIsWokenAndTheCallerHearsItAtOnce(t *testing.T) {
	at(t, Domain, quiet("push"), func(s *scene) {
		alice, bob := s.caller("alice"), s.asleep("bob")
		call := s.call(alice, "bob")
		if took := s.ends(call, 480); took > atOnce {
			s.t.Errorf("480 after %v, want it at once", took)
		}
		if p := s.pushed(1); p.Channel != "message" || p.Event != "missed" || p.CallID != call.CallID() {
			s.t.Errorf("pushed %+v, want the missed call", p)
		}
		tr, steps := s.traced("bob")
		i := slices.Index(steps, "push_refused")
		if i < 0 || !strings.Contains(tr.Steps[i].Detail, "quiet hours") || slices.Contains(steps, "registered") {
			s.t.Errorf("trace %+v", tr)
		}
		s.registers(bob, "bob")
		talking := s.call(alice, "bob")
		theirs := s.talks(bob, talking) // who looks is called
		ok(s.t, talking.Bye(s.ctx))
		ok(s.t, theirs.WaitBye(s.ctx))
		s.onlyPushes(1)
	})
}

func TestP30_AVIPWakesInQuietHours(t *testing.T) {
	at(t, Domain, quiet("hold"), func(s *scene) {
		carol, bob := s.caller("carol"), s.asleep("bob")
		s.wakesFor(carol, bob, "bob", 1)
	})
}

func TestP30_DoNotDisturbHoldsNotesUntilItIsSwitchedOffAndOutlivesARestart(t *testing.T) {
	at(t, Domain, Config{}, func(s *scene) {
		alice := s.caller("alice")
		s.asleep("bob")
		var list []admin.DND
		s.post("/api/v1/dnd", admin.DNDRequest{AOR: "bob@" + s.domain, On: true, For: "2h"}, &list)
		if len(list) != 1 || list[0].AOR != s.uri("bob") || list[0].Until == nil || time.Until(*list[0].Until) < time.Hour {
			s.t.Errorf("list %+v", list)
		}
		call := s.call(alice, "bob")
		if took := s.ends(call, 480); took > atOnce {
			s.t.Errorf("480 after %v, want it at once", took)
		}
		s.Stop("core")
		ok(s.t, s.StartCore())
		ok(s.t, s.Ready(s.ctx))
		if s.get("/api/v1/dnd", &list); len(list) != 1 {
			s.t.Errorf("after the restart: %+v", list)
		}
		if n := len(s.pushes()); n != 0 {
			s.t.Errorf("%d pushes left", n)
		}
		s.post("/api/v1/dnd", admin.DNDRequest{AOR: s.uri("bob")}, &list)
		if p := s.pushed(1); p.Event != "missed" || p.CallID != call.CallID() || len(list) != 0 {
			s.t.Errorf("pushed %+v, want the missed call that was held; list %+v", p, list)
		}
	})
}

func TestAPushTestExplainsBothChannelsAndSeesThePhoneComeBack(t *testing.T) {
	at(t, Domain, quiet("hold"), func(s *scene) {
		bob := s.asleep("bob")
		answered := make(chan admin.PushTestAnswer, 1)
		go func() {
			var answer admin.PushTestAnswer
			s.post("/api/v1/push/test", admin.PushTestRequest{AOR: s.uri("bob"), Wait: "20s"}, &answer)
			answered <- answer
		}()
		s.pushed(1)
		s.registers(bob, "bob")
		answer := <-answered
		r := answer.Results[0]
		if r.CameBack == nil || !*r.CameBack || r.CameBackMS < 1 || r.State != "suspended" || r.Class != "split" || r.Quiet != "quiet hours" || r.Meaning == "" {
			s.t.Errorf("result %+v", r)
		}
		if len(r.Ways) != 2 || r.Ways[0].Channel != "voip" || r.Ways[1].Channel != "message" {
			s.t.Fatalf("ways %+v", r.Ways)
		}
		for _, w := range r.Ways {
			if w.Problem != "" || w.App != App || w.Provider != "apns" || len(w.Token) > 12 || w.Registered == nil || len(w.Facts) < 2 {
				s.t.Errorf("way %+v", w)
			}
		}
		s.onlyPushes(1)
	})
}

// The REGISTERs that the document shows are taken, and their tokens can be
// pushed to.
func TestARegisterAsTheDocumentHasItIsTaken(t *testing.T) {
	text := string(must[[]byte](t)(os.ReadFile("../../docs/push.md")))
	found := regexp.MustCompile(`(?s)<!-- register: (\S+) (.*?) -->.*?Contact: <[^>]*?(;pn-provider[^>]*)>`).FindAllStringSubmatch(text, -1)
	if len(found) < 4 {
		t.Fatalf("%d REGISTERs", len(found))
	}
	at(t, Domain, Config{FCM: true, WebPush: true}, func(s *scene) {
		for _, m := range found {
			params := strings.ReplaceAll(m[3], "ABCDE12345", s.TeamID)
			params = strings.ReplaceAll(params, "example-project", pushtest.DefaultProject)
			p := s.new("bob")
			s.registersAs(p, phone.Registration{Push: phone.Raw(params), RegID: 1})
			c, known := s.client(p)
			var kinds []string
			for _, token := range c.Tokens {
				kinds = append(kinds, token.Kind)
				if token.Provider != m[1] || token.State != admin.TokenLive {
					s.t.Errorf("%s: token %+v", m[1], token)
				}
			}
			if want := strings.Fields(m[2]); !known || len(kinds) == 0 || !slices.Equal(kinds, want[:len(kinds)]) {
				s.t.Errorf("%s %s: tokens %v", m[1], m[2], kinds)
			}
			s.sleeps(p)
		}
	})
}

// reader is a device that brought the key for what it alone may read.
type reader struct {
	key  *ecdh.PrivateKey
	auth []byte
}

func newReader(t *testing.T) reader {
	t.Helper()
	k := reader{must[*ecdh.PrivateKey](t)(ecdh.P256().GenerateKey(rand.Reader)), make([]byte, aes128gcm.AuthLen)}
	_, _ = rand.Read(k.auth)
	return k
}

func (k reader) params() string {
	return ";pn-key=" + base64.RawURLEncoding.EncodeToString(k.key.PublicKey().Bytes()) + ";pn-auth=" + base64.RawURLEncoding.EncodeToString(k.auth)
}

// open reads an envelope.
func (k reader) open(t *testing.T, envelope string) (inside map[string]any) {
	t.Helper()
	body := must[[]byte](t)(base64.RawURLEncoding.DecodeString(envelope))
	ok(t, json.Unmarshal(must[[]byte](t)(aes128gcm.Open(body, k.key, k.auth)), &inside))
	return inside
}

// On the wire to Apple and to Google stands nothing of who calls a device that
// brought a key; the device reads it all.
func TestP26_OnTheWireNobodyReadsWhoCalls(t *testing.T) {
	cfg := window(time.Second)
	cfg.FCM = true
	at(t, Domain, cfg, func(s *scene) {
		alice := s.new("alice", func(c *phone.Config) { c.DisplayName = "Alice Sekrit" })
		s.registers(alice, "alice")
		k := newReader(s.t)
		iphone, droid := s.new("bob"), s.new("bob")
		both := ";pn-provider=apns;pn-param=" + s.TeamID + "." + App + ".voip&remote;pn-prid=" + Token("bob", "voip") + ":voip&" + Token("bob", "alert") + ":remote"
		s.registersAs(iphone, phone.Registration{Push: phone.Raw(both + k.params()), RegID: 1})
		token := pushtest.NewFCMToken()
		s.FCM.Register(token, pushtest.FCMApp{})
		s.registersAs(droid, phone.Registration{RegID: 1, Push: phone.Raw(
			";pn-provider=fcm;pn-param=" + pushtest.DefaultProject + ";pn-prid=" + strings.ReplaceAll(token, ":", "%3A") + k.params())})
		s.sleeps(iphone)
		s.sleeps(droid)
		s.ends(s.call(alice, "bob"), 480)
		s.until("four pushes", func() bool { return len(s.APNs.Accepted()) >= 2 && len(s.FCM.Accepted()) >= 2 })
		var wire, envelopes []string
		for _, p := range s.APNs.Accepted() {
			wire = append(wire, string(p.Payload)+p.CollapseID)
			var clear struct{ E2E string }
			ok(s.t, json.Unmarshal(p.Payload, &clear))
			envelopes = append(envelopes, clear.E2E)
		}
		for _, m := range s.FCM.Accepted() {
			wire = append(wire, string(m.Body))
			envelopes = append(envelopes, m.Data["e2e"])
		}
		for _, text := range wire {
			for _, secret := range []string{"Sekrit", "alice", "bob@"} {
				if strings.Contains(text, secret) {
					s.t.Errorf("%q is on the wire: %s", secret, text)
				}
			}
		}
		for _, e := range envelopes {
			if inside := k.open(s.t, e); inside["from_name"] != "Alice Sekrit" || inside["number"] != "alice" || inside["to"] != s.uri("bob") {
				s.t.Errorf("the device reads %v", inside)
			}
		}
	})
}
