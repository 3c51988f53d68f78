package wake_test

import (
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"sallyport/core/push"
	"sallyport/core/wake"
)

// scoring runs f with a Waker that tells its scores, and returns them.
func scoring(t *testing.T, reg prometheus.Registerer, flow func(string) string, f func(p *provider, w *wake.Waker)) (scores []wake.Score) {
	t.Helper()
	p := &provider{takes: 100 * time.Millisecond, result: accepted()}
	p.result.App = "org.example.phone"
	var mu sync.Mutex
	cfg := wake.Config{Window: window, Flow: flow, Scored: func(s wake.Score) {
		mu.Lock()
		defer mu.Unlock()
		scores = append(scores, s)
	}}
	run(t, wake.New(cfg, p, nil, reg), func(w *wake.Waker) { f(p, w) })
	return scores
}

func wantScores(t *testing.T, got []wake.Score, want ...string) {
	t.Helper()
	var all []string
	for _, s := range got {
		all = append(all, fmt.Sprintf("%s %v %v", s.Push.Channel, s.Woke(), s.Took))
	}
	if strings.Join(all, "; ") != strings.Join(want, "; ") {
		t.Errorf("scores %q, want %q", all, want)
	}
}

func TestARegistrationWithin15sOfAnAcceptedPushIsAWake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wantScores(t, scoring(t, nil, nil, func(p *provider, w *wake.Waker) {
			ring(w, bob(), "call1")
			time.Sleep(2 * time.Second)
			w.Registered(bob().ID, "flow1")
			w.Registered(bob().ID, "flow2") // counted once
			time.Sleep(time.Minute)
			ring(w, bob(), "call2")
			time.Sleep(14 * time.Second) // the window of 13 s is over, the call is gone
			w.Registered(bob().ID, "flow3")
			ring(w, bob(), "call3")
			time.Sleep(16 * time.Second)
			w.Registered(bob().ID, "flow4") // too late
		}), "voip true 2s", "voip true 14s", "voip false 0s")
	})
}

func TestR4_BackBeforeTheProviderAnsweredIsAWake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wantScores(t, scoring(t, nil, nil, func(p *provider, w *wake.Waker) {
			p.writes = true // it has left, only the answer is out
			ring(w, bob(), "call1")
			time.Sleep(50 * time.Millisecond)
			w.Registered(bob().ID, "flow1")
			time.Sleep(time.Minute)
		}), "voip true 50ms")
	})
}

func TestOnlyAcceptedPushesToSleepingDevicesAreScored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		awake := map[string]string{}
		wantScores(t, scoring(t, nil, func(d string) string { return awake[d] }, func(p *provider, w *wake.Waker) {
			p.answers(push.Result{Outcome: push.DeadToken, Channel: push.VoIP})
			ring(w, bob(), "refused")
			time.Sleep(time.Minute)
			p.answers(accepted())
			ring(w, bob(), "taken back").hangup()
			time.Sleep(time.Minute)
			ring(w, bob(), "unregisters")
			time.Sleep(time.Second)
			w.Gone(bob().ID)
			time.Sleep(time.Minute)
			awake[bob().ID] = "flow1"
			w.Pushed(bob().ID, push.Result{Outcome: push.Accepted, Channel: push.Message})
			w.Announce(bob(), push.Call{CallID: "in the foreground"}, nil, nil)
			time.Sleep(time.Minute)
		}))
	})
}

func TestMessagePushesAreScoredApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		note := push.Result{Outcome: push.Accepted, Channel: push.Message}
		wantScores(t, scoring(t, nil, nil, func(p *provider, w *wake.Waker) {
			ring(w, bob(), "call1")
			time.Sleep(13 * time.Second)
			w.Pushed(bob().ID, note) // the missed call
			time.Sleep(time.Second)
			w.Pushed(bob().ID, note) // joins
			time.Sleep(5 * time.Second)
			w.Registered(bob().ID, "flow1")
			time.Sleep(time.Minute)
			w.Pushed(bob().ID, note)
			time.Sleep(time.Minute)
		}), "voip false 0s", "message true 6s", "message false 0s")
	})
}

func TestP32_TheWakeRatioIsRightWhenThreeInTenAreDeaf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := prometheus.NewPedanticRegistry()
		scores := scoring(t, reg, nil, func(p *provider, w *wake.Waker) {
			for i := range 1000 {
				d := bob()
				d.ID = fmt.Sprintf("sip:user%d@example.com phone", i)
				ring(w, d, fmt.Sprintf("call%d", i))
				if i%10 >= 3 {
					time.Sleep(1500 * time.Millisecond)
					w.Registered(d.ID, "flow")
				}
			}
			time.Sleep(time.Minute)
			want := `
# HELP sallyport_wake_ratio Part of the accepted VoIP pushes of the last hour to sleeping devices that brought a registration within 15 s.
# TYPE sallyport_wake_ratio gauge
sallyport_wake_ratio{app="org.example.phone",provider="apns"} 0.7
`
			if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "sallyport_wake_ratio"); err != nil {
				t.Error(err)
			}
			if n, err := testutil.GatherAndCount(reg, "sallyport_wake_latency_seconds", "sallyport_wake_pushes_total"); n != 3 || err != nil {
				t.Errorf("%d series, %v; want one of latency, and woke and missed", n, err)
			}
			if r := w.Ratios(); len(r) != 1 || math.Abs(r[0].Share()-.7) > .001 || r[0].Woke != 700 || len(w.Alarms()) != 0 {
				t.Errorf("ratios %+v, alarms %q", r, w.Alarms())
			}
			if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
				t.Errorf("lint: %v %v", problems, err)
			}
			time.Sleep(time.Hour + 10*time.Minute)
			if r := w.Ratios(); len(r) != 0 {
				t.Errorf("an hour later: %+v", r)
			}
		})
		if len(scores) != 1000 {
			t.Errorf("%d scores", len(scores))
		}
	})
}

func TestAnAppWhoseDevicesDoNotWakeIsAnAlarm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		scoring(t, nil, nil, func(p *provider, w *wake.Waker) {
			p.writes = true
			for i := range 20 {
				d := bob()
				d.ID = fmt.Sprintf("sip:user%d@example.com phone", i)
				ring(w, d, fmt.Sprintf("call%d", i))
				if i < 9 {
					w.Registered(d.ID, "flow")
				}
				if i == 18 {
					time.Sleep(time.Minute)
					if a := w.Alarms(); len(a) != 0 {
						t.Errorf("after 19 pushes: %q", a)
					}
				}
			}
			time.Sleep(time.Minute)
			if a := w.Alarms(); len(a) != 1 || !strings.Contains(a[0], "org.example.phone") || !strings.Contains(a[0], "only 9 ") {
				t.Errorf("alarms %q", a)
			}
		})
	})
}
