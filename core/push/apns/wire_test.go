package apns_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/core/push"
	"sallyport/core/push/apns"
	"sallyport/core/push/pushtest"
)

func TestP1_VoIPPushIsSentOnceAndNeverStored(t *testing.T) {
	a := newApple(t, pushtest.APNsConfig{})
	c := a.client(a.config())
	n := ring(a.phone(push.KindVoIP))
	wantOutcome(t, c.Send(callContext(t), n), push.Accepted)

	got := a.Accepted()[0]
	if got.Expiration != "0" {
		t.Errorf("apns-expiration %q, want 0", got.Expiration)
	}
	if got.PushType != "voip" || got.Topic != bundle+".voip" || got.Priority != "10" || got.ID != n.ID {
		t.Errorf("sent %+v", got)
	}
	if ok, last := c.Health(); !ok || last != "" {
		t.Errorf("health %v %q", ok, last)
	}
	a.clean()
}

func TestP1_NoteIsKeptUntilItsExpiration(t *testing.T) {
	a := newApple(t, pushtest.APNsConfig{})
	c := a.client(a.config())
	n := tell(a.phone(push.KindAlert))
	n.Expiration = time.Unix(4102444800, 0)
	n.CollapseID = strings.Repeat("c", 80)
	wantOutcome(t, c.Send(t.Context(), n), push.Accepted)

	got := a.Accepted()[0]
	if got.Expiration != "4102444800" || got.PushType != "alert" || got.Topic != bundle {
		t.Errorf("sent %+v", got)
	}
	if len(got.CollapseID) != 64 {
		t.Errorf("collapse id of %d bytes, want 64", len(got.CollapseID))
	}
	a.clean()
}

// Apple refuses a background push of priority 10, and one that shows something.
func TestABackgroundPushIsSentAsOne(t *testing.T) {
	a := newApple(t, pushtest.APNsConfig{})
	n := tell(a.phone(push.KindAlert))
	n.Background, n.Priority = true, 5
	n.Payload = []byte(`{"aps":{"content-available":1},"event":"register"}`)
	wantOutcome(t, a.client(a.config()).Send(t.Context(), n), push.Accepted)
	if got := a.Accepted()[0]; got.PushType != "background" || got.Priority != "5" || got.Topic != bundle {
		t.Errorf("sent %+v", got)
	}
	a.clean()
}

func TestP11_DeathHasItsTime(t *testing.T) {
	a := newApple(t, pushtest.APNsConfig{})
	c := a.client(a.config())
	voip, alert := a.phone(push.KindVoIP), a.phone(push.KindAlert)
	died := time.Now().Add(-time.Hour)
	a.Unregister(voip.Value, died)
	r := c.Send(callContext(t), ring(voip))
	wantOutcome(t, r, push.DeadToken)
	if d := died.Sub(r.DeadSince); d < 0 || d >= time.Second {
		t.Errorf("dead since %v, want %v but for a second", r.DeadSince, died)
	}
	wantOutcome(t, c.Send(t.Context(), tell(alert)), push.Accepted)
}

func TestP23_DeadTokenIsAnsweredAtOnce(t *testing.T) {
	inBubble(t, pushtest.APNsConfig{}, func(t *testing.T, a *apple, l *pushtest.Listener) {
		cfg := a.config()
		cfg.Dial = l.Dial
		c := a.client(cfg)
		phone := a.phone(push.KindVoIP)
		a.Register(phone.Value, pushtest.Device{Expired: true})
		start := time.Now()
		wantOutcome(t, c.Send(callContext(t), ring(phone)), push.DeadToken)
		if took := time.Since(start); took > time.Second {
			t.Errorf("took %v", took)
		}
	})
}

func TestP25_TooLargeNeverLeaves(t *testing.T) {
	a := newApple(t, pushtest.APNsConfig{})
	c := a.client(a.config())
	fill := func(n int) []byte {
		return []byte(`{"aps":{},"x":"` + strings.Repeat("x", n-len(`{"aps":{},"x":""}`)) + `"}`)
	}
	call, note := ring(a.phone(push.KindVoIP)), tell(a.phone(push.KindAlert))
	call.Payload, note.Payload = fill(5120), fill(4096)
	wantOutcome(t, c.Send(callContext(t), call), push.Accepted)
	wantOutcome(t, c.Send(t.Context(), note), push.Accepted)
	call.Payload, note.Payload = fill(5121), fill(4097)
	wantOutcome(t, c.Send(callContext(t), call), push.Refused)
	wantOutcome(t, c.Send(t.Context(), note), push.Refused)
	if n := len(a.Pushes()); n != 2 {
		t.Errorf("%d requests, want 2", n)
	}
}

func TestHostileTokenNeverReachesThePath(t *testing.T) {
	a := newApple(t, pushtest.APNsConfig{})
	c := a.client(a.config())
	for _, value := range []string{"", "../../x", "ab?c", "abc", "\r\nx: y", strings.Repeat("ab", 300)} {
		wantOutcome(t, c.Send(callContext(t), ring(push.Token{Value: value})), push.Refused)
	}
	if n := a.Stats().Connections; n != 0 {
		t.Errorf("%d connections", n)
	}
}

func TestP28_LogNamesNoTokenAndNoPayload(t *testing.T) {
	a := newApple(t, pushtest.APNsConfig{})
	var log logs
	cfg := a.config()
	c, err := apns.New(cfg, log.logger(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s := push.New(push.Config{Enabled: true}, []push.App{{ID: bundle, Provider: push.ProviderAPNs, TeamID: cfg.TeamID, Sender: c}}, log.logger(), nil)
	phone := a.phone(push.KindVoIP)
	call := push.Call{CallID: "c1", FromName: "Carol Sekrit", FromURI: "sip:carol@example.com"}
	s.Call(t.Context(), push.Target{Tokens: []push.Token{phone}}, call)
	a.Unregister(phone.Value, time.Now())
	s.Call(t.Context(), push.Target{Tokens: []push.Token{phone}}, call)
	a.Disconnect()
	a.Inject(pushtest.Fault{Reset: true, Count: 2})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s.Call(ctx, push.Target{Tokens: []push.Token{phone}}, call)
	other := a.phone(push.KindVoIP)
	s.Call(t.Context(), push.Target{Tokens: []push.Token{other}}, call)
	down := a.config()
	down.Endpoint = "https://127.0.0.1:1"
	dc, err := apns.New(down, log.logger(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer dc.Close()
	r := dc.Send(callContext(t), ring(phone))
	wantOutcome(t, r, push.ProviderDown)

	text := log.String() + r.Reason
	for _, secret := range []string{phone.Value, phone.Value[:20], other.Value, "Sekrit", "carol", "bearer", "PRIVATE"} {
		if strings.Contains(text, secret) {
			t.Errorf("log shows %q:\n%s", secret, text)
		}
	}
	if !strings.Contains(text, phone.Value[len(phone.Value)-6:]) {
		t.Error("log does not tell tokens apart")
	}
}

func TestConfigErrorsNameTheKey(t *testing.T) {
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad.p8")
	if err := os.WriteFile(bad, []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	good := apns.Config{BundleID: bundle, TeamID: "T", KeyID: "K", KeyFile: bad}
	for want, change := range map[string]func(*apns.Config){
		"id: ":                        func(c *apns.Config) { c.BundleID = "" },
		"team_id: ":                   func(c *apns.Config) { c.TeamID = "" },
		"key_file: must":              func(c *apns.Config) { c.KeyFile = "" },
		"environment: ":               func(c *apns.Config) { c.Environment = "staging" },
		"endpoint: ":                  func(c *apns.Config) { c.Endpoint = "http://127.0.0.1:2197" },
		"ca_file: ":                   func(c *apns.Config) { c.CAFile = filepath.Join(dir, "none.pem") },
		"ca_file: " + bad + " holds":  func(c *apns.Config) { c.CAFile = bad },
		"push.proxy: ":                func(c *apns.Config) { c.Proxy = "proxy:3128" },
		"key_file: " + bad + ": not ": func(*apns.Config) {},
	} {
		cfg := good
		change(&cfg)
		if _, err := apns.New(cfg, nil, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
	good.KeyFile = filepath.Join(dir, "none.p8")
	if _, err := apns.New(good, nil, nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing key file: %v", err)
	}
}
