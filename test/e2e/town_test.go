package e2e

import (
	"context"
	"encoding/json"
	"log/slog"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sallyport/test/phone"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// inTown starts a town for one test.
func inTown(t *testing.T, cfg Config) (*Town, context.Context) {
	t.Helper()
	return inTownFor(t, 30*time.Second, cfg)
}

// inTownFor is inTown for a story that may take as long as given where the
// machine is busy.
func inTownFor(t *testing.T, patience time.Duration, cfg Config) (*Town, context.Context) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	cfg.Dir = t.TempDir()
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
	}
	if cfg.Users == nil {
		cfg.Users = []string{"alice", "bob", "carol", "witness"}
	}
	town, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(town.Close)
	if err := town.Start(ctx); err != nil {
		t.Fatal(err)
	}
	return town, ctx
}

// must fails the test on an error.
func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// online makes a phone and registers it.
func online(t *testing.T, ctx context.Context, town *Town, user, domain string, tr phone.Transport) *phone.Phone {
	t.Helper()
	p := town.Phone(user, domain, tr)
	t.Cleanup(p.Close)
	ok(t, p.Connect(ctx))
	must[*phone.Message](t)(p.Register(ctx, phone.Registration{Push: town.PushOf(user), RegID: 1}))
	return p
}

// comesBack wakes a phone: it connects and registers, as an app does in its
// push handler.
func comesBack(t *testing.T, ctx context.Context, town *Town, user string, p *phone.Phone) {
	t.Helper()
	ok(t, p.Connect(ctx))
	must[*phone.Message](t)(p.Register(ctx, phone.Registration{Push: town.PushOf(user), RegID: 1}))
}

// pushed waits for the next push that Apple accepts.
func pushed(t *testing.T, ctx context.Context, town *Town, n int) map[string]any {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for len(town.APNs.Accepted()) < n {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%d pushes, want %d", len(town.APNs.Accepted()), n)
		}
	}
	var payload map[string]any
	ok(t, json.Unmarshal(town.APNs.Accepted()[n-1].Payload, &payload))
	return payload
}

func ring(t *testing.T, ctx context.Context, p *phone.Phone) *phone.Incoming {
	t.Helper()
	select {
	case in := <-p.Calls():
		return in
	case <-ctx.Done():
		t.Fatal("the phone did not ring")
		return nil
	}
}

func TestASleepingPhoneIsWokenByPushAndAnswers(t *testing.T) {
	for _, tr := range []phone.Transport{phone.TLS, phone.WSS} {
		t.Run(string(tr), func(t *testing.T) {
			town, ctx := inTown(t, Config{})
			alice := online(t, ctx, town, "alice", Domain, phone.WSS)
			bob := online(t, ctx, town, "bob", Domain, tr)
			bob.Sleep()
			call := must[*phone.Dialog](t)(alice.Call(ctx, "sip:bob@"+Domain))
			payload := pushed(t, ctx, town, 1)
			if payload["event"] != "call" || payload["call_id"] != call.CallID() || payload["number"] != "alice" {
				t.Errorf("payload %v", payload)
			}
			comesBack(t, ctx, town, "bob", bob)
			in := ring(t, ctx, bob)
			ok(t, in.Ring())
			must[*phone.Message](t)(call.Wait(ctx, 180))
			answered := must[*phone.Dialog](t)(in.Answer())
			ok(t, call.Answered(ctx))
			ok(t, answered.WaitAck(ctx))
			ok(t, call.Bye(ctx))
			ok(t, answered.WaitBye(ctx))
			if n := len(town.APNs.Accepted()); n != 1 {
				t.Errorf("%d pushes, want 1", n)
			}
			for _, p := range []*phone.Phone{alice, bob} {
				for _, c := range p.Complaints() {
					t.Errorf("%s complains: %s", p.AOR(), c)
				}
			}
			for _, v := range town.APNs.Violations() {
				t.Errorf("Apple's rules: %s", v)
			}
		})
	}
}
