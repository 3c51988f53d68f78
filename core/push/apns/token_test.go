package apns_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/core/push"
	"sallyport/core/push/apns"
	"sallyport/core/push/pushtest"
)

// inBubble runs f with a simulator and no real time.
func inBubble(t *testing.T, cfg pushtest.APNsConfig, f func(t *testing.T, a *apple, dial *pushtest.Listener)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := pushtest.NewListener()
		f(t, newAppleOn(t, cfg, l), l)
	})
}

func TestP13_ProviderTokenOverADay(t *testing.T) {
	inBubble(t, pushtest.APNsConfig{}, func(t *testing.T, a *apple, l *pushtest.Listener) {
		cfg := a.config()
		cfg.Dial = l.Dial
		one, two := a.client(cfg), a.client(cfg)
		phone := a.phone(push.KindVoIP)
		time.Sleep(29 * time.Minute) // a token of the grid that is old when it is first used
		for end := time.Now().Add(24 * time.Hour); time.Now().Before(end); time.Sleep(7 * time.Minute) {
			wantOutcome(t, one.Send(callContext(t), ring(phone)), push.Accepted)
			wantOutcome(t, two.Send(callContext(t), ring(phone)), push.Accepted)
		}
		var last time.Time
		changes := 0
		pushes := a.Pushes()
		for i := 0; i < len(pushes); i += 2 {
			p, q := pushes[i], pushes[i+1]
			if !p.Issued.Equal(q.Issued) || p.Bearer != q.Bearer {
				t.Fatalf("two cores sent different tokens at %v", p.At)
			}
			if age := p.At.Sub(p.Issued); age > 50*time.Minute {
				t.Errorf("token of age %v", age)
			}
			if !p.Issued.Equal(last) {
				last, changes = p.Issued, changes+1
			}
		}
		if changes < 40 || changes > 49 {
			t.Errorf("%d tokens in 24 h, want one for each half hour", changes)
		}
		if n := a.Stats().Connections; n != 2 {
			t.Errorf("%d connections, want one for each core", n)
		}
		if n := len(a.Accepted()); n != len(pushes) {
			t.Errorf("%d of %d pushes accepted", n, len(pushes))
		}
		a.clean()
	})
}

func TestP13_WrongClockIsAnAlarmAndNoLoop(t *testing.T) {
	inBubble(t, pushtest.APNsConfig{}, func(t *testing.T, a *apple, l *pushtest.Listener) {
		cfg := a.config()
		cfg.Dial = l.Dial
		c := a.client(cfg)
		phone := a.phone(push.KindVoIP)
		a.Inject(pushtest.Fault{Status: 403, Reason: "ExpiredProviderToken", Count: 1000})
		for range 30 {
			wantOutcome(t, c.Send(callContext(t), ring(phone)), push.ProviderDown)
			time.Sleep(10 * time.Second)
		}
		if n := len(a.Pushes()); n > 12 {
			t.Errorf("%d requests in 5 min with a clock that is wrong", n)
		}
		if n := a.Stats().Connections; n > 2 {
			t.Errorf("%d connections, want 2", n)
		}
		ok, last := c.Health()
		if ok || !strings.Contains(last, "clock") {
			t.Errorf("health %v %q does not name the clock", ok, last)
		}
		a.ClearFaults()
		time.Sleep(5 * time.Minute)
		wantOutcome(t, c.Send(callContext(t), ring(phone)), push.Accepted)
		if ok, _ := c.Health(); !ok {
			t.Error("health stays bad")
		}
	})
}

func TestP34_QuietHourBehindANATThatForgets(t *testing.T) {
	inBubble(t, pushtest.APNsConfig{}, func(t *testing.T, a *apple, l *pushtest.Listener) {
		cfg := a.config()
		cfg.Dial = l.Dial
		c := a.client(cfg)
		phone := a.phone(push.KindVoIP)
		wantOutcome(t, c.Send(callContext(t), ring(phone)), push.Accepted)
		time.Sleep(time.Hour)
		if n := a.Stats().Pings; n > 120 {
			t.Errorf("%d pings in an hour", n)
		}
		a.BlackHole()
		start := time.Now()
		wantOutcome(t, c.Send(callContext(t), ring(phone)), push.Accepted)
		if took := time.Since(start); took > push.CallTimeout {
			t.Errorf("took %v", took)
		}
		a.BlackHole()
		time.Sleep(2 * time.Minute) // the ping finds it first
		start = time.Now()
		wantOutcome(t, c.Send(callContext(t), ring(phone)), push.Accepted)
		if took := time.Since(start); took > time.Second {
			t.Errorf("took %v on a path found dead before", took)
		}
	})
}

func TestP14_NewKeyIsUsedOnAConnectionOfItsOwn(t *testing.T) {
	a := newApple(t, pushtest.APNsConfig{})
	cfg := a.config()
	c := a.client(cfg)
	phone := a.phone(push.KindVoIP)
	wantOutcome(t, c.Send(callContext(t), ring(phone)), push.Accepted)

	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					if r := c.Send(callContext(t), ring(phone)); r.Outcome != push.Accepted {
						t.Errorf("during the change: %s %s", r.Outcome, r.Reason)
						return
					}
				}
			}
		})
	}
	p8, kid, _ := a.NewKey()
	if err := os.WriteFile(cfg.KeyFile, p8, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := c.Rekey(kid); err != nil {
		t.Fatal(err)
	}
	after := ring(phone)
	wantOutcome(t, c.Send(callContext(t), after), push.Accepted)
	close(stop)
	wg.Wait()
	keys := make(map[int]string)
	for _, p := range a.Pushes() {
		if was := keys[p.Conn]; was != "" && was != p.KeyID {
			t.Errorf("connection %d saw keys %s and %s", p.Conn, was, p.KeyID)
		}
		keys[p.Conn] = p.KeyID
		if p.ID == after.ID && p.KeyID != kid {
			t.Errorf("a push after the change with key %s, want %s", p.KeyID, kid)
		}
	}
	a.clean()
}

func TestP14_KeyFileThatChangesIsRead(t *testing.T) {
	inBubble(t, pushtest.APNsConfig{}, func(t *testing.T, a *apple, l *pushtest.Listener) {
		cfg := a.config()
		cfg.Dial = l.Dial
		c, err := apns.New(cfg, testLog(t), nil)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { _ = c.Run(ctx) })
		defer wg.Wait()
		defer cancel()
		phone := a.phone(push.KindVoIP)
		wantOutcome(t, c.Send(callContext(t), ring(phone)), push.Accepted)

		p8, public, err := pushtest.GenerateKey()
		if err != nil {
			t.Fatal(err)
		}
		a.AddKey(cfg.KeyID, pushtest.Key{Team: cfg.TeamID, Public: public})
		if err := os.WriteFile(cfg.KeyFile, []byte("half a fi"), 0o600); err != nil {
			t.Fatal(err)
		}
		time.Sleep(11 * time.Second)
		if ok, last := c.Health(); ok || !strings.Contains(last, filepath.Base(cfg.KeyFile)) {
			t.Errorf("health %v %q does not name the file", ok, last)
		}
		if err := os.WriteFile(cfg.KeyFile, p8, 0o600); err != nil {
			t.Fatal(err)
		}
		wantOutcome(t, c.Send(callContext(t), ring(phone)), push.Accepted) // refused, read, resent
		if ok, last := c.Health(); !ok {
			t.Errorf("health: %s", last)
		}
		cancel()
		wg.Wait()
		if r := c.Send(callContext(t), ring(phone)); r.Outcome != push.ProviderDown || r.Reason != "shutting down" {
			t.Errorf("after the end: %+v", r)
		}
	})
}

func TestSandboxTokensGoToTheSandbox(t *testing.T) {
	for env, want := range map[string][2]string{
		"":              {"api.push.apple.com:443", "api.sandbox.push.apple.com:443"},
		apns.Production: {"api.push.apple.com:443", "api.sandbox.push.apple.com:443"},
		apns.Sandbox:    {"api.sandbox.push.apple.com:443", "api.sandbox.push.apple.com:443"},
	} {
		inBubble(t, pushtest.APNsConfig{}, func(t *testing.T, a *apple, l *pushtest.Listener) {
			var dialled []string
			cfg := a.config()
			cfg.Endpoint, cfg.Environment = "", env
			cfg.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
				dialled = append(dialled, addr)
				return l.Dial(ctx, network, addr)
			}
			c := a.client(cfg)
			phone := a.phone(push.KindVoIP)
			for _, sandbox := range []bool{false, true} {
				phone.Sandbox = sandbox
				wantOutcome(t, c.Send(callContext(t), ring(phone)), push.Accepted)
			}
			if dialled[0] != want[0] || dialled[len(dialled)-1] != want[1] {
				t.Errorf("environment %q dialled %v, want %v", env, dialled, want)
			}
		})
	}
}
