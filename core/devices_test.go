package core

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/core/jetstream"
	"sallyport/core/location"
	"sallyport/core/push"
	"sallyport/core/push/apns"
	"sallyport/core/push/pushtest"
	"sallyport/core/wake"
)

// apple is Apple's push service and a core's devices, joined as a core joins
// them.
type apple struct {
	*pushtest.APNs
	*Server
	said *bytes.Buffer
}

func newApple(t *testing.T) *apple {
	t.Helper()
	// How the sender rests when Apple hangs up on bad tokens is told in
	// core/push/apns; here it would make a thousand of them last for minutes.
	sim := pushtest.NewAPNs(pushtest.APNsConfig{BadTokenLimit: 1 << 20})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := sim.Serve(ctx, l); err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	<-sim.Ready()
	p8, kid, team := sim.NewKey()
	dir := t.TempDir()
	for name, text := range map[string][]byte{"key.p8": p8, "ca.pem": sim.CA()} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	client, err := apns.New(apns.Config{
		BundleID: "org.example.phone", TeamID: team, KeyID: kid, KeyFile: filepath.Join(dir, "key.p8"),
		Endpoint: sim.URL(), CAFile: filepath.Join(dir, "ca.pem"),
	}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	a := &apple{APNs: sim, Server: &Server{}, said: &bytes.Buffer{}}
	a.loc = location.New(location.Config{}, &location.Memory{}, nil)
	a.pushes = push.New(push.Config{Enabled: true, Targets: a.target, Feedback: a.told},
		[]push.App{{ID: "org.example.phone", Provider: push.ProviderAPNs, TeamID: team, Sender: client}},
		slog.New(slog.NewTextHandler(a.said, &slog.HandlerOptions{Level: slog.LevelWarn})), nil)
	a.waker = wake.New(wake.Config{Flow: a.flowOf, Scored: a.scored}, a.pushes, nil, nil)
	return a
}

// phone binds a device that sleeps, with a token for each channel that Apple
// knows as env's.
func (a *apple) phone(t *testing.T, n int, env string) location.DeviceID {
	t.Helper()
	b := location.Binding{
		AOR: fmt.Sprintf("sip:user%d@example.com", n), Instance: "<urn:uuid:phone>", Token: fmt.Sprintf("T%d", n),
		Expires: time.Now().Add(time.Hour), Registered: time.Now().Add(-time.Minute),
	}
	var tokens []location.Token
	for kind, suffix := range map[string]string{"voip": ".voip", "alert": ""} {
		token := pushtest.NewToken()
		a.Register(token, pushtest.Device{Topic: "org.example.phone" + suffix, Env: env})
		tokens = append(tokens, location.Token{Provider: "apns", Kind: kind, App: "org.example.phone", Value: token})
	}
	if err := a.loc.Bind(b, tokens, "split"); err != nil {
		t.Fatal(err)
	}
	return b.ID()
}

func (a *apple) ring(t *testing.T, id location.DeviceID, callID string) push.Result {
	t.Helper()
	target, ok := a.target(id.String())
	if !ok {
		t.Fatalf("%v is gone", id)
	}
	return a.pushes.Call(t.Context(), target, push.Call{CallID: callID, RingUntil: time.Now().Add(13 * time.Second)})
}

func (a *apple) token(id location.DeviceID, kind string) location.Token {
	d, _ := a.loc.Device(id)
	for _, t := range d.Tokens {
		if t.Kind == kind {
			return t
		}
	}
	return location.Token{}
}

func TestP11_A410CountsIfTheClientHasNotRegisteredSince(t *testing.T) {
	a := newApple(t)
	back, gone := a.phone(t, 1, ""), a.phone(t, 2, "")
	// Registered a minute ago: dead two minutes ago, and half a minute ago.
	a.Unregister(a.token(back, "voip").Value, time.Now().Add(-2*time.Minute))
	a.Unregister(a.token(gone, "voip").Value, time.Now().Add(-30*time.Second))
	for _, id := range []location.DeviceID{back, gone} {
		if r := a.ring(t, id, "c"); r.Outcome != push.DeadToken {
			t.Fatalf("%+v", r)
		}
	}
	if a.token(back, "voip").Dead {
		t.Error("a 410 older than the registration killed the token")
	}
	if !a.token(gone, "voip").Dead || a.token(gone, "alert").Dead {
		t.Errorf("a newer 410: voip dead %v, alert dead %v", a.token(gone, "voip").Dead, a.token(gone, "alert").Dead)
	}
	sent := len(a.Pushes())
	if r := a.ring(t, gone, "c2"); r.Outcome != push.NoRoute || len(a.Pushes()) != sent {
		t.Errorf("the dead token was pushed to, or another in its place: %+v", r)
	}
	target, _ := a.target(gone.String())
	if r := a.pushes.Note(t.Context(), target, push.Note{Event: push.EventMissed, CallID: "c2"}); r.Outcome != push.Accepted {
		t.Errorf("the alert token: %+v", r)
	}
}

func TestP12_AWrongEnvironmentDeletesNothingAndIsOneAlarm(t *testing.T) {
	const phones = 1000
	a := newApple(t)
	ids := make([]location.DeviceID, phones)
	for i := range ids {
		ids[i] = a.phone(t, i, "sandbox")
	}
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := w; i < phones; i += 4 {
				if r := a.ring(t, ids[i], fmt.Sprint("c", i)); r.Outcome == push.Accepted || r.Outcome == push.DeadToken {
					t.Errorf("call %d: %+v", i, r)
				}
			}
		})
	}
	wg.Wait()
	dead, quarantined := 0, 0
	for _, id := range ids {
		token := a.token(id, "voip")
		if token.Value == "" || token.Dead {
			dead++
		}
		if token.Suspects > 0 {
			quarantined++
		}
	}
	if dead != 0 || quarantined >= 60 {
		t.Errorf("%d deleted, %d quarantined; want none, and those before the alarm", dead, quarantined)
	}
	if n := strings.Count(a.said.String(), "push tokens refused in masses"); n != 1 {
		t.Errorf("%d alarms, want one:\n%.2000s", n, a.said.String())
	}
	app := a.pushes.Apps()[0]
	for _, w := range []string{"wrong environment, topic or project", "BadDeviceToken", "check that environment"} {
		if app.OK || !strings.Contains(app.LastError, w) {
			t.Errorf("the status lacks %q: %+v", w, app)
		}
	}
	// The environment is put right: who was quarantined rings at the first call.
	for _, id := range ids[:100] {
		a.Register(a.token(id, "voip").Value, pushtest.Device{Topic: "org.example.phone.voip"})
		if r := a.ring(t, id, "again"+id.AOR); r.Outcome != push.Accepted {
			t.Fatalf("%+v", r)
		}
		if a.token(id, "voip").Suspects != 0 {
			t.Error("quarantined although it was accepted")
		}
	}
}

func TestALostKeyFileStopsTheStartWithItsRemedy(t *testing.T) {
	dir := t.TempDir()
	start := func(f func(s *Server)) error {
		s := &Server{cfg: Config{Store: StoreConfig{Dir: dir}}, log: slog.New(slog.DiscardHandler)}
		var err error
		if s.store, err = jetstream.Open(t.Context(), jetstream.Config{Dir: dir}, nil); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = s.store.Close() }()
		if err := s.openDevices(t.Context(), "core1"); err != nil {
			return err
		}
		f(s)
		return nil
	}
	err := start(func(s *Server) {
		if err := s.loc.Bind(location.Binding{AOR: "sip:a@example.com", Expires: time.Now().Add(time.Hour)},
			[]location.Token{{Provider: "fcm", Value: "v"}}, ""); err != nil {
			t.Fatal(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(dir, "token.key")
	if err := os.Rename(key, key+".away"); err != nil {
		t.Fatal(err)
	}
	err = start(func(*Server) { t.Error("started without the devices' key") })
	for _, w := range []string{"store.key_file " + key, "1 of 1 devices", "put back the file", "KV_sallyport_devices"} {
		if err == nil || !strings.Contains(err.Error(), w) {
			t.Fatalf("%v lacks %q", err, w)
		}
	}
	if err := os.Rename(key+".away", key); err != nil {
		t.Fatal(err)
	}
	if err := start(func(s *Server) {
		if len(s.loc.Lookup("sip:a@example.com")) != 1 {
			t.Error("the device did not come back")
		}
	}); err != nil {
		t.Error(err)
	}
}
