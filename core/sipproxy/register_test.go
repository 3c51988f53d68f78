package sipproxy

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// What becomes of a REGISTER: decisions 4 and 11, and the parts of RFC 8599
// and RFC 5626 that meet there.

func TestD11_ThePBXIsGivenAContactOfOursAndNothingOfTheClients(t *testing.T) {
	each(t, []int{1}, func(t *testing.T, w *town, phones []*phone) {
		ph := phones[0].connects()
		ph.say(ph.register("P-Asserted-Identity: <sip:boss@example.com>", "Path: <sip:evil.example;lr>",
			"Remote-Party-ID: <sip:boss@example.com>", "P-Charging-Vector: icid-value=1", "Require: outbound, foo")...)
		req := w.pbx.hears("REGISTER sip:example.com SIP/2.0")
		contact := first(req, "Contact")
		uri, params, _ := strings.Cut(strings.TrimPrefix(contact, "<"), ">")
		if len(header(req, "Contact")) != 1 || len(uri) > 128 || params != ";expires=86400" || first(req, "Expires") != "86400" {
			t.Errorf("Contact %q, Expires %q", contact, first(req, "Expires"))
		}
		if strings.Contains(req, "pn-") {
			t.Error("PN-16: push parameters went to the PBX")
		}
		for _, name := range []string{"P-Asserted-Identity", "Remote-Party-ID", "Path", "P-Charging-Vector"} {
			if first(req, name) != "" {
				t.Errorf("%s of a client went to the PBX", name)
			}
		}
		if got := first(req, "Require"); got != "foo" {
			t.Errorf("Require %q: outbound ends here", got)
		}
		if v := header(req, "Via"); len(v) != 2 || !strings.HasPrefix(v[0], "SIP/2.0/TCP 10.0.0.5:5060;") || !strings.Contains(v[1], "received=192.0.2.7") {
			t.Errorf("Via %q", v)
		}
		w.pbx.say(reply(req, 200)...)
		ph.hears("SIP/2.0 200")
		for range 2 { // the token is the same each time
			ph.sleeps()
			ph.connects().say(ph.register()...)
			req := w.pbx.hears("REGISTER")
			if got := first(req, "Contact"); got != contact {
				t.Errorf("Contact %q, was %q", got, contact)
			}
			w.pbx.say(reply(req, 200)...)
		}
	})
}

func TestD11_The2xxHoldsTheClientsOwnContactFirst(t *testing.T) {
	each(t, []int{2}, func(t *testing.T, w *town, phones []*phone) {
		phones[1].awake()
		ph := phones[0].connects()
		ok := ph.registers()
		cs := header(ok, "Contact")
		own := first(strings.Join(ph.register(), "\r\n"), "Contact")
		if len(cs) != 2 || cs[0] != own+";expires=600" {
			t.Errorf("Contact %q, want first %q", cs, own+";expires=600")
		}
		if strings.Contains(cs[1], "pn-") || !strings.Contains(cs[1], phones[1].urn) {
			t.Errorf("the other device's contact is %q", cs[1])
		}
	})
}

func TestD11_ContactsOfAllKindsComeBackAsTheyWere(t *testing.T) {
	for _, contact := range []string{
		`<sip:k3j2@f8s7.invalid;transport=ws>;+sip.ice;reg-id=1;+sip.instance="<urn:uuid:aa>"`, // JsSIP
		`"A \"quoted\", name" <sip:Alice.X%40y@[2001:db8::7]:5060;transport=TLS;ob>;q=0.5;+sip.instance="<urn:uuid:AB>"`,
		`<sip:alice@192.0.2.7:5060>`, // no instance
		`<sips:alice@client.example.com>;audio;description="a;b,c"`,
	} {
		inTown(t, func(t *testing.T, w *town) {
			ph := w.phone("alice", "wss").connects()
			ph.contact = contact
			ok := ph.registers()
			if got := first(ok, "Contact"); got != contact+";expires=600" {
				t.Errorf("Contact\n%q, want\n%q", got, contact+";expires=600")
			}
			c := w.calls("call-1")
			inv := ph.hears("INVITE ")
			uri := contact[strings.Index(contact, "<")+1 : strings.Index(contact, ">")]
			if got := strings.Fields(firstLine(inv))[1]; got != uri {
				t.Errorf("Request-URI %q, want %q", got, uri)
			}
			ph.refuses(inv, 486)
			c.ends(486)
		})
	}
}

func TestD11_AChangeOfKeysLeavesTokensAsTheyAre(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "tls").asleep()
		old := w.token(ph)
		w.restart(func(c *Config) { c.TokenKeys = [][]byte{[]byte("a new key"), []byte("an old key")} })
		c := w.callsAt("sip:"+old+"@"+advertise, "call-1")
		ph.wakes()
		ph.refuses(ph.rings("call-1"), 486)
		c.hears("SIP/2.0 180")
		c.ends(486)
		if got := w.token(ph); got != old {
			t.Error("the PBX has two contacts of one phone now")
		}
		w.restart(func(c *Config) { c.TokenKeys = [][]byte{[]byte("a newer key"), []byte("a new key")} })
		w.callsAt("sip:"+old+"@"+advertise, "call-2").cancels() // location keeps it
		ph.connects().say(ph.register()...)
		reg := w.pbx.hearsOf(ph.callID, "REGISTER")
		cs := header(reg, "Contact")
		if len(cs) != 2 || strings.Contains(cs[0], old) || !strings.Contains(cs[1], old) || !strings.HasSuffix(cs[1], ";expires=0") {
			t.Errorf("Contact to the PBX %q: the old one is to be taken back", cs)
		}
		w.pbx.say(reply(reg, 200)...)
	})
}

func TestD4_ARefreshIsAnsweredByTheCoreOnTheVeryFlowOnly(t *testing.T) {
	each(t, []int{1}, func(t *testing.T, w *town, phones []*phone) {
		ph := phones[0].awake()
		for range 3 {
			pass(9 * time.Minute)
			ph.say(ph.register()...)
			ok := ph.hears("SIP/2.0 200")
			if !strings.HasSuffix(first(ok, "Contact"), ";expires=600") {
				t.Errorf("Contact %q", first(ok, "Contact"))
			}
			w.pbx.silence()
		}
		for name, change := range map[string]func(*phone){
			"another contact":  func(ph *phone) { ph.contact = first(strings.Join(ph.register(), "\r\n"), "Contact") + ";q=0.3" },
			"another token":    func(ph *phone) { ph.push = strings.ReplaceAll(ph.push, "aaalice", "ddalice") },
			"another flow":     func(ph *phone) { ph.connects() },
			"another instance": func(ph *phone) { ph.urn = "urn:uuid:1" },
		} {
			other := *ph
			change(&other)
			other.say(other.register()...)
			if w.pbx.hears("REGISTER"); len(other.heard) != 0 {
				t.Errorf("%s: answered without the PBX", name)
			}
		}
		ph.say(ph.register("Expires: 0")...)
		w.pbx.hears("REGISTER")
	})
}

func TestD4_NoRefreshIsAnsweredHereOnceTheGrantIsHalfUsed(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "tls").connects()
		ph.say(ph.register("Expires: 3600")...)
		w.grants("3600") // less than the 24 h that were asked for
		ph.hears("SIP/2.0 200")
		pass(29 * time.Minute)
		ph.say(ph.register("Expires: 3600")...)
		if got := first(ph.hears("SIP/2.0 200"), "Contact"); !strings.HasSuffix(got, ";expires=1860") {
			t.Errorf("Contact %q: more than the PBX's grant is promised", got)
		}
		pass(time.Minute)
		ph.say(ph.register("Expires: 3600")...)
		w.grants("3600")
		ph.hears("SIP/2.0 200")
		if got := w.proxy.ShortGrants(); got["example.com"] != time.Hour {
			t.Errorf("short grants %v", got)
		}
	})
}

// grants is accepts with an expiry of the PBX's own.
func (w *town) grants(seconds string) {
	w.t.Helper()
	req := w.pbx.hears("REGISTER")
	c, _, _ := strings.Cut(first(req, "Contact"), ";expires")
	w.pbx.say(reply(req, 200, "Contact: "+c+";expires="+seconds)...)
}

func TestD4_AStrangerWhoKnowsInstanceAndTokensStealsNothing(t *testing.T) {
	each(t, []int{1}, func(t *testing.T, w *town, phones []*phone) {
		ph := phones[0].awake()
		stranger := *ph
		stranger.connects().say(stranger.register()...)
		w.pbx.say(reply(w.pbx.hears("REGISTER"), 401, `WWW-Authenticate: Digest realm="example.com", nonce="n"`)...)
		stranger.hears("SIP/2.0 401")
		stranger.say(stranger.register(`Authorization: Digest username="alice"`)...)
		w.pbx.say(reply(w.pbx.hears("REGISTER"), 403)...)
		stranger.hears("SIP/2.0 403")
		stranger.say(stranger.dials("sip:carol@example.com", "theft")...)
		stranger.hears("SIP/2.0 403")
		w.pbx.silence()
		c := w.calls("call-1")
		stranger.say("SIP/2.0 200 OK", "CSeq: 1 INVITE", "Via: SIP/2.0/TLS "+public+";branch=z9hG4bKguess",
			"From: <sip:carol@example.com>;tag=carol", "To: <sip:alice@example.com>;tag=x", "Call-ID: call-1")
		inv := ph.rings("call-1")
		c.hears("SIP/2.0 180")
		ph.refuses(inv, 486)
		c.ends(486)
		w.pushed(1)
	})
}

func TestPN2_OB6_The2xxTellsOfPushAndOutbound(t *testing.T) {
	each(t, []int{1}, func(t *testing.T, w *town, phones []*phone) {
		ph := phones[0].connects()
		ph.say(ph.register()...)
		if got := w.pbx.heard[0]; first(got, "Feature-Caps") != `*;+sip.pns="apns"` {
			t.Errorf("PN-1: Feature-Caps to the PBX %q", first(got, "Feature-Caps"))
		}
		w.accepts(`Feature-Caps: *;+sip.pns="apns"`, "Flow-Timer: 5")
		ok := ph.hears("SIP/2.0 200")
		if got := header(ok, "Feature-Caps"); len(got) != 1 || !strings.HasPrefix(got[0], `*;+sip.pns="apns";+sip.pnspurr="`) {
			t.Errorf("Feature-Caps %q", got)
		}
		if first(ok, "Require") != "outbound" || strings.Join(header(ok, "Flow-Timer"), ",") != "120" {
			t.Errorf("Require %q, Flow-Timer %q", first(ok, "Require"), header(ok, "Flow-Timer"))
		}
		plain := w.phone("alice2", ph.transport)
		plain.push, plain.urn = "", ""
		ok = plain.connects().registers()
		if first(ok, "Feature-Caps")+first(ok, "Require")+first(ok, "Flow-Timer") != "" {
			t.Errorf("a client that asked for nothing is told\n%s", ok)
		}
		ph.say(ph.register("Expires: 0")...)
		w.accepts()
		if ok = ph.hears("SIP/2.0 200"); first(ok, "Feature-Caps")+first(ok, "Require") != "" {
			t.Errorf("who left is told\n%s", ok)
		}
	})
}

func TestPN20_SeveralBindingsOfOneInstanceRingOnce(t *testing.T) {
	each(t, []int{1}, func(t *testing.T, w *town, phones []*phone) {
		ph := phones[0].awake()
		second := *ph
		second.contact = strings.Replace(first(strings.Join(ph.register(), "\r\n"), "Contact"), "reg-id=1", "reg-id=2", 1)
		second.connects().registers()
		c := w.calls("call-1")
		synctest.Wait()
		if n := len(ph.heard) + len(second.heard); n != 1 {
			t.Fatalf("%d INVITEs for one instance", n)
		}
		at := &second
		if len(ph.heard) == 1 {
			at = ph
		}
		at.refuses(at.hears("INVITE"), 486)
		c.ends(486)
		w.pushed(1)
	})
}

func TestOB9_AClosedFlowSuspendsItsBindingsAndRemovesNone(t *testing.T) {
	each(t, []int{1}, func(t *testing.T, w *town, phones []*phone) {
		ph := phones[0].awake()
		ph.sleeps()
		dev, ok := w.loc.Device(ph.id())
		if !ok || dev.Flow() != "" || len(dev.Tokens) != 2 || w.proxy.State(dev).String() != "suspended" {
			t.Errorf("the device is %v, known: %v", w.proxy.State(dev), ok)
		}
	})
}

func TestABindingThatCannotBeKeptIsNotConfirmed(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "tls").connects()
		ph.contact = "<" + ph.uri() + `;x=` + strings.Repeat("y", 17<<10) + `>;+sip.instance="<urn:uuid:1>"`
		ph.say(ph.register()...)
		w.accepts()
		ph.hears("SIP/2.0 500")
	})
}
