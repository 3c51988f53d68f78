package apns_test

import (
	"context"
	"net"
	"strings"
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

// Our clock is 65 minutes ahead of Apple's, or more, or behind. No new token
// helps then, but for a while the grid's may: it is up to half an hour older.
func TestP13_AClockThatIsAnHourWrongIsAnAlarmAndNoLoop(t *testing.T) {
	for _, skew := range []time.Duration{-65 * time.Minute, -95 * time.Minute, 95 * time.Minute} {
		inBubble(t, pushtest.APNsConfig{ClockSkew: skew}, func(t *testing.T, a *apple, l *pushtest.Listener) {
			cfg := a.config()
			cfg.Dial = l.Dial
			c := a.client(cfg)
			phone := a.phone(push.KindVoIP)
			accepted := 0
			for range 360 { // an hour
				r := c.Send(callContext(t), ring(phone))
				if r.Outcome == push.Accepted {
					accepted++
					time.Sleep(10 * time.Second)
					continue
				}
				wantOutcome(t, r, push.ProviderDown)
				if co := c.Condition(); co.Trouble == nil || co.Trouble.Kind != push.TroubleClock || !co.Open {
					t.Errorf("condition %+v", co)
				}
				time.Sleep(10 * time.Second)
			}
			if accepted == 360 || accepted > 0 && skew != -65*time.Minute {
				t.Errorf("%d accepted with a clock that is wrong by %v", accepted, skew)
			}
			if n := len(a.Pushes()) - accepted; n > 30 {
				t.Errorf("%d requests refused in an hour", n)
			}
			if n := a.Stats().Connections; n > 8 {
				t.Errorf("%d connections in an hour", n)
			}
		})
	}
}

// Half an hour is bridged: the grid's token is too old for Apple, one of this
// minute is not.
func TestP13_AClockThatIsHalfAnHourWrongIsBridged(t *testing.T) {
	for _, skew := range []time.Duration{-29 * time.Minute, 45 * time.Minute} {
		inBubble(t, pushtest.APNsConfig{ClockSkew: skew}, func(t *testing.T, a *apple, l *pushtest.Listener) {
			cfg := a.config()
			cfg.Dial = l.Dial
			c := a.client(cfg)
			phone := a.phone(push.KindVoIP)
			time.Sleep(29 * time.Minute)
			wantOutcome(t, c.Send(callContext(t), ring(phone)), push.Accepted)
			if n := a.Stats().Connections; n > 2 {
				t.Errorf("%d connections", n)
			}
			a.clean()
		})
	}
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
