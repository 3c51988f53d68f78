package fcm_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/core/push"
	"sallyport/core/push/pushtest"
)

// A NAT between here and Google forgets the connection in silence.
func TestADeadPathIsReplacedWithinACall(t *testing.T) {
	inBubble(t, pushtest.FCMConfig{}, func(t *testing.T, g *google) {
		c := g.client(g.config())
		wantOutcome(t, c.Send(callContext(t), ring(g.phone())), push.Accepted)
		g.BlackHole()
		start := time.Now()
		wantOutcome(t, c.Send(callContext(t), ring(g.phone())), push.Accepted)
		if took := time.Since(start); took > push.CallTimeout {
			t.Errorf("took %v", took)
		}
		if n := len(g.Accepted()); n != 2 {
			t.Errorf("%d accepted, want 2", n)
		}
		wantOutcome(t, c.Send(t.Context(), tell(g.phone())), push.Accepted)
		g.BlackHole()
		start = time.Now()
		wantOutcome(t, c.Send(t.Context(), tell(g.phone())), push.Accepted)
		if took := time.Since(start); took > 16*time.Second {
			t.Errorf("a note took %v", took)
		}
		if ok, last := c.Health(); !ok {
			t.Errorf("health: %s", last)
		}
		g.clean()
	})
}

// The transport looks after an idle connection itself, so that the next call
// does not pay for it.
func TestP34_AnIdlePathThatDiedIsNoticedBeforeTheNextCall(t *testing.T) {
	inBubble(t, pushtest.FCMConfig{}, func(t *testing.T, g *google) {
		c := g.client(g.config())
		wantOutcome(t, c.Send(callContext(t), ring(g.phone())), push.Accepted)
		g.BlackHole()
		time.Sleep(time.Hour)
		g.BlackHole()
		start := time.Now()
		wantOutcome(t, c.Send(callContext(t), ring(g.phone())), push.Accepted)
		if took := time.Since(start); took > 100*time.Millisecond {
			t.Errorf("took %v", took)
		}
	})
}

// A slow answer is no dead path: what is under way is not sent again.
func TestASlowFCMIsNotAskedTwice(t *testing.T) {
	inBubble(t, pushtest.FCMConfig{}, func(t *testing.T, g *google) {
		c := g.client(g.config())
		wantOutcome(t, c.Send(callContext(t), ring(g.phone())), push.Accepted)
		slow := ring(g.phone())
		g.Inject(pushtest.Fault{Token: slow.Token.Value, Drop: true, Count: -1})
		var wg sync.WaitGroup
		var r push.Result
		start := time.Now()
		var took time.Duration
		wg.Go(func() { r = c.Send(t.Context(), slow); took = time.Since(start) })
		time.Sleep(time.Second)
		wantOutcome(t, c.Send(callContext(t), ring(g.phone())), push.Accepted)
		wg.Wait()
		if r.Outcome != push.ProviderDown || !strings.Contains(r.Reason, "though other pushes are answered") {
			t.Errorf("%+v", r)
		}
		if took > push.CallTimeout {
			t.Errorf("took %v", took)
		}
		if n := len(g.Pushes()); n != 3 {
			t.Errorf("%d requests, want 3", n)
		}
	})
}

func TestP18_CallsHaveAConnectionOfTheirOwn(t *testing.T) {
	inBubble(t, pushtest.FCMConfig{}, func(t *testing.T, g *google) {
		c := g.client(g.config())
		wantOutcome(t, c.Send(callContext(t), ring(g.phone())), push.Accepted)
		var wg sync.WaitGroup
		stuck := g.phone()
		g.Inject(pushtest.Fault{Token: stuck.Value, Drop: true, Count: -1})
		for range 150 { // more than a connection takes
			wg.Go(func() { c.Send(t.Context(), tell(stuck)) })
		}
		time.Sleep(100 * time.Millisecond)
		start := time.Now()
		wantOutcome(t, c.Send(callContext(t), ring(g.phone())), push.Accepted)
		if took := time.Since(start); took > 0 {
			t.Errorf("a call waited %v behind notes", took)
		}
		wg.Wait()
		m := map[bool]map[int]bool{true: {}, false: {}}
		for _, p := range g.Pushes() {
			m[p.TTLText == "0s"][p.Conn] = true
		}
		for conn := range m[true] {
			if len(m[true]) != 1 || m[false][conn] {
				t.Errorf("connections of calls %v, of notes %v", m[true], m[false])
			}
		}
	})
}

func TestP6_ACrowdOfColdCallsSharesOneConnection(t *testing.T) {
	for _, n := range []int{20, 200, 500} {
		inBubble(t, pushtest.FCMConfig{}, func(t *testing.T, g *google) {
			g.SetLatency(50 * time.Millisecond)
			c := g.running(g.config())
			phone := g.phone()
			g.Register(phone.Value, pushtest.FCMApp{})
			var wg sync.WaitGroup
			start := time.Now()
			for range n {
				r := ring(g.phone())
				r.Until = start.Add(5 * time.Second)
				wg.Go(func() {
					if res := c.Send(t.Context(), r); res.Outcome != push.Accepted {
						t.Errorf("%+v", res)
					}
				})
			}
			wg.Wait()
			if took := time.Since(start); took > 500*time.Millisecond {
				t.Errorf("%d calls took %v", n, took)
			}
			if opened, _ := g.Connections(); opened != 2 || g.TokenRequests() != 1 { // one is OAuth's
				t.Errorf("%d connections, %d access tokens", opened, g.TokenRequests())
			}
			g.clean()
		})
	}
}

func TestP8_NothingIsLostOrDoubledWhenFCMGoesAway(t *testing.T) {
	for name, cfg := range map[string]pushtest.FCMConfig{
		"goes away each 50 pushes": {GoAwayAfter: 50},
		"takes 7 at a time":        {MaxStreams: 7},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, cfg, func(t *testing.T, g *google) {
				g.SetLatency(5 * time.Millisecond)
				c := g.client(g.config())
				var wg sync.WaitGroup
				start := time.Now()
				for i := range 500 {
					n := ring(g.phone())
					n.Until = start.Add(10 * time.Second)
					wg.Go(func() {
						time.Sleep(time.Duration(i) * time.Millisecond)
						if r := c.Send(t.Context(), n); r.Outcome != push.Accepted {
							t.Errorf("%+v", r)
						}
					})
				}
				wg.Wait()
				seen := map[string]int{}
				for _, m := range g.Accepted() {
					seen[m.Data["call_id"]]++
				}
				if len(seen) != 500 || len(g.Pushes()) != 500 {
					t.Errorf("%d calls accepted in %d requests, want 500 in 500", len(seen), len(g.Pushes()))
				}
				if opened, _ := g.Connections(); opened > 16 {
					t.Errorf("%d connections", opened)
				}
				g.clean()
			})
		})
	}
}

func TestP8_OneGoAwayCostsNothing(t *testing.T) {
	inBubble(t, pushtest.FCMConfig{}, func(t *testing.T, g *google) {
		c := g.client(g.config())
		for range 5 {
			wantOutcome(t, c.Send(callContext(t), ring(g.phone())), push.Accepted)
			g.GoAway()
			start := time.Now()
			wantOutcome(t, c.Send(callContext(t), ring(g.phone())), push.Accepted)
			g.Disconnect()
			wantOutcome(t, c.Send(callContext(t), ring(g.phone())), push.Accepted)
			if took := time.Since(start); took > 100*time.Millisecond {
				t.Errorf("took %v", took)
			}
		}
		g.clean()
	})
}

// A call has its outcome in time whatever stands still, and even when each
// call before it is in vain.
func TestP23_AnOutcomeInTimeWhenNobodyAnswers(t *testing.T) {
	for name, dial := range map[string]func(ctx context.Context, network, addr string) (net.Conn, error){
		"no route": func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("no route to host") },
		"nothing":  func(ctx context.Context, _, _ string) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, pushtest.FCMConfig{}, func(t *testing.T, g *google) {
				cfg := g.config()
				cfg.Dial = dial
				c := g.running(cfg)
				var wg sync.WaitGroup
				start := time.Now()
				for range 300 {
					n := ring(g.phone())
					n.Until = start.Add(10 * time.Second)
					wg.Go(func() {
						r := c.Send(t.Context(), n)
						if r.Outcome != push.ProviderDown || r.Reason == "" || r.Suspect {
							t.Errorf("%+v", r)
						}
					})
				}
				wg.Wait()
				if took := time.Since(start); took > push.CallTimeout {
					t.Errorf("took %v", took)
				}
				time.Sleep(11 * time.Second) // the fetch is over
				if ok, last := c.Health(); ok || !strings.HasPrefix(last, "no access token: ") {
					t.Errorf("health %v %q", ok, last)
				}
			})
		})
	}
}

func TestAWithdrawnCallSaysNothingOfFCM(t *testing.T) {
	inBubble(t, pushtest.FCMConfig{}, func(t *testing.T, g *google) {
		c := g.client(g.config())
		wantOutcome(t, c.Send(callContext(t), ring(g.phone())), push.Accepted)
		g.Inject(pushtest.Fault{Drop: true})
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		r := c.Send(ctx, ring(g.phone()))
		if r.Outcome != push.ProviderDown || r.Reason != "withdrawn before there was an answer" {
			t.Errorf("%+v", r)
		}
		if ok, last := c.Health(); !ok {
			t.Errorf("health: %s", last)
		}
		wantOutcome(t, c.Send(callContext(t), ring(g.phone())), push.Accepted)
		if opened, _ := g.Connections(); opened != 2 {
			t.Errorf("%d connections, want 2: OAuth's and the calls'", opened)
		}
	})
}

func TestNothingIsSentAfterTheEnd(t *testing.T) {
	g := newGoogle(t, pushtest.FCMConfig{})
	c := g.client(g.config())
	wantOutcome(t, c.Send(callContext(t), ring(g.phone())), push.Accepted)
	c.Close()
	if r := c.Send(callContext(t), ring(g.phone())); r.Outcome != push.ProviderDown || r.Reason != "shutting down" {
		t.Errorf("%+v", r)
	}
}

// The transport's strict mode waits for ever when the number of streams that a
// server allows changes (golang/go#70809).
func TestP9_StrictStreamLimitIsNeverSet(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) < 5 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "StrictMaxConcurrent") {
			t.Errorf("%s sets the strict stream limit", file)
		}
	}
}
