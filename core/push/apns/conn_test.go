package apns_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/core/push"
	"sallyport/core/push/pushtest"
)

// burst sends n calls at once and returns how long the last one took.
func burst(t *testing.T, c push.Sender, phone push.Token, n int) time.Duration {
	t.Helper()
	start := time.Now()
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			if r := c.Send(callContext(t), ring(phone)); r.Outcome != push.Accepted {
				t.Errorf("outcome %s: %s", r.Outcome, r.Reason)
			}
		})
	}
	wg.Wait()
	return time.Since(start)
}

func TestP6_ColdBurstUsesOneConnection(t *testing.T) {
	for _, n := range []int{20, 200, 500} {
		inBubble(t, pushtest.APNsConfig{}, func(t *testing.T, a *apple, l *pushtest.Listener) {
			cfg := a.config()
			cfg.Dial = l.Dial
			a.SetLatency(50 * time.Millisecond)
			took := burst(t, a.client(cfg), a.phone(push.KindVoIP), n)
			st := a.Stats()
			if st.Connections != 1 || st.Refused != 0 {
				t.Errorf("%d pushes: %d connections, %d refused streams; want 1 and 0", n, st.Connections, st.Refused)
			}
			if took > 500*time.Millisecond {
				t.Errorf("%d pushes took %v", n, took)
			}
			a.clean()
		})
	}
}

func TestP7_DeadPathCostsTwoSeconds(t *testing.T) {
	inBubble(t, pushtest.APNsConfig{}, func(t *testing.T, a *apple, l *pushtest.Listener) {
		cfg := a.config()
		cfg.Dial = l.Dial
		c := a.client(cfg)
		phone := a.phone(push.KindVoIP)
		wantOutcome(t, c.Send(callContext(t), ring(phone)), push.Accepted)
		a.BlackHole()
		n := ring(phone)
		start := time.Now()
		wantOutcome(t, c.Send(callContext(t), n), push.Accepted)
		if took := time.Since(start); took > push.CallTimeout {
			t.Errorf("took %v, want at most %v", took, push.CallTimeout)
		}
		if last := a.Accepted()[1]; last.ID != n.ID || last.Conn != 2 {
			t.Errorf("resent as %s on connection %d, want %s on 2", last.ID, last.Conn, n.ID)
		}
		start = time.Now()
		wantOutcome(t, c.Send(callContext(t), ring(phone)), push.Accepted)
		if took := time.Since(start); took > time.Second {
			t.Errorf("the next call took %v", took)
		}
	})
}

func TestP7_NobodyAnswersAtAll(t *testing.T) {
	inBubble(t, pushtest.APNsConfig{}, func(t *testing.T, a *apple, l *pushtest.Listener) {
		cfg := a.config()
		cfg.Dial = l.Dial
		c := a.client(cfg)
		a.Inject(pushtest.Fault{Drop: true, Count: 10})
		start := time.Now()
		r := c.Send(callContext(t), ring(a.phone(push.KindVoIP)))
		wantOutcome(t, r, push.ProviderDown)
		if took := time.Since(start); took > push.CallTimeout {
			t.Errorf("took %v, want at most %v", took, push.CallTimeout)
		}
		if r.Reason != "no answer in time" {
			t.Errorf("reason %q", r.Reason)
		}
		if ok, _ := c.Health(); ok {
			t.Error("health is good")
		}
	})
}

func TestP8_GoAwayLosesNothing(t *testing.T) {
	inBubble(t, pushtest.APNsConfig{}, func(t *testing.T, a *apple, l *pushtest.Listener) {
		cfg := a.config()
		cfg.Dial = l.Dial
		c := a.client(cfg)
		phone := a.phone(push.KindVoIP)
		wantOutcome(t, c.Send(callContext(t), ring(phone)), push.Accepted)
		a.SetLatency(20 * time.Millisecond)
		var wg sync.WaitGroup
		wg.Go(func() { burst(t, c, phone, 300) })
		for len(a.Pushes()) < 50 {
			wantOutcome(t, c.Send(callContext(t), ring(phone)), push.Accepted)
		}
		a.GoAway("Shutdown")
		wg.Wait()
		if n := a.Stats().Connections; n > 3 {
			t.Errorf("%d connections, want one more than before", n)
		}
		seen := make(map[string]bool)
		for _, p := range a.Accepted() {
			if seen[p.ID] {
				t.Errorf("push %s arrived twice", p.ID)
			}
			seen[p.ID] = true
		}
	})
}

func TestP18_CallNeverWaitsBehindNotes(t *testing.T) {
	inBubble(t, pushtest.APNsConfig{}, func(t *testing.T, a *apple, l *pushtest.Listener) {
		cfg := a.config()
		cfg.Dial = l.Dial
		c := a.client(cfg)
		voip, alert := a.phone(push.KindVoIP), a.phone(push.KindAlert)
		a.Inject(pushtest.Fault{Drop: true, Token: alert.Value, Count: 1000})
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for range 200 {
			wg.Go(func() { c.Send(ctx, tell(alert)) })
		}
		synctest.Wait() // all of them wait for an answer
		start := time.Now()
		wantOutcome(t, c.Send(callContext(t), ring(voip)), push.Accepted)
		if took := time.Since(start); took > time.Second {
			t.Errorf("the call took %v", took)
		}
		cancel()
		wg.Wait()
	})
}

func TestP33_AppsShareNoConnection(t *testing.T) {
	a := newApple(t, pushtest.APNsConfig{})
	one := a.client(a.config())
	cfg := a.config()
	p8, public, err := pushtest.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	cfg.TeamID, cfg.KeyID, cfg.KeyFile = "ZZZZZ99999", "OTHERKEY01", a.write("other.p8", p8)
	a.AddKey(cfg.KeyID, pushtest.Key{Team: cfg.TeamID, Public: public})
	two := a.client(cfg)
	phone := a.phone(push.KindVoIP)
	for range 3 {
		wantOutcome(t, one.Send(callContext(t), ring(phone)), push.Accepted)
		wantOutcome(t, two.Send(callContext(t), ring(phone)), push.Accepted)
	}
	team := make(map[int]string)
	for _, p := range a.Accepted() {
		if was, ok := team[p.Conn]; ok && was != p.TeamID {
			t.Errorf("connection %d served teams %s and %s", p.Conn, was, p.TeamID)
		}
		team[p.Conn] = p.TeamID
	}
	if len(team) != 2 {
		t.Errorf("%d connections, want 2", len(team))
	}
}

func TestCallThatIsWithdrawnStopsThePush(t *testing.T) {
	a := newApple(t, pushtest.APNsConfig{})
	c := a.client(a.config())
	phone := a.phone(push.KindVoIP)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wantOutcome(t, c.Send(ctx, ring(phone)), push.ProviderDown)
	if n := len(a.Pushes()); n != 0 {
		t.Errorf("%d pushes left", n)
	}
	if ok, last := c.Health(); !ok {
		t.Errorf("health suffers: %s", last)
	}
}

// A note has more time than a call, and finds the dead path too.
func TestP7_NoteOnADeadPathIsSentAgainOnAnother(t *testing.T) {
	inBubble(t, pushtest.APNsConfig{}, func(t *testing.T, a *apple, l *pushtest.Listener) {
		cfg := a.config()
		cfg.Dial = l.Dial
		c := a.client(cfg)
		alert := a.phone(push.KindAlert)
		wantOutcome(t, c.Send(t.Context(), tell(alert)), push.Accepted)
		a.BlackHole()
		n := tell(alert)
		start := time.Now()
		wantOutcome(t, c.Send(t.Context(), n), push.Accepted)
		if took := time.Since(start); took > 16*time.Second {
			t.Errorf("took %v", took)
		}
		if last := a.Accepted()[1]; last.ID != n.ID || last.Conn != 2 {
			t.Errorf("resent as %s on connection %d, want %s on 2", last.ID, last.Conn, n.ID)
		}
	})
}

// Each bad token lowers the streams to one (rule 4), and ten of them end the
// connection (rule 5): the good ones among them arrive, once.
func TestP8_BadTokensAmongGoodOnesLoseNothing(t *testing.T) {
	inBubble(t, pushtest.APNsConfig{}, func(t *testing.T, a *apple, l *pushtest.Listener) {
		cfg := a.config()
		cfg.Dial = l.Dial
		c := a.client(cfg)
		a.SetLatency(20 * time.Millisecond)
		var wg sync.WaitGroup
		for i := range 300 {
			phone, want := a.phone(push.KindVoIP), push.Accepted
			if i%12 == 5 {
				phone.Value, want = pushtest.NewToken(), push.Refused
			}
			wg.Go(func() {
				n := ring(phone)
				n.Until = time.Now().Add(waitFor)
				if r := c.Send(t.Context(), n); r.Outcome != want {
					t.Errorf("outcome %s (%s), want %s", r.Outcome, r.Reason, want)
				}
			})
		}
		wg.Wait()
		if got := a.acceptedOnce(); got != 275 {
			t.Errorf("%d accepted, want 275", got)
		}
		if st := a.Stats(); st.Connections > 4 {
			t.Errorf("%d connections", st.Connections)
		}
		a.clean()
	})
}
