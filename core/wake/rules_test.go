package wake_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"sallyport/core/push"
	"sallyport/core/wake"
)

func TestB28_TenPushesAMinute(t *testing.T) {
	test(t, func(t *testing.T, p *provider, w *wake.Waker) {
		begin := time.Now()
		for i := range 10 {
			c := ring(w, bob(), fmt.Sprintf("call%d", i))
			time.Sleep(time.Second)
			w.Registered(bob().ID, "flow")
			c.ends(t, "flow", nil, true)
			time.Sleep(time.Second)
		}
		ring(w, bob(), "eleventh").ends(t, "", wake.ErrRate, false)
		carol := bob()
		carol.ID = "sip:carol@example.com phone"
		other := ring(w, carol, "another device")
		time.Sleep(time.Until(begin.Add(time.Minute))) // the first push is a minute old
		c := ring(w, bob(), "twelfth")
		time.Sleep(time.Second)
		w.Registered(bob().ID, "flow")
		c.ends(t, "flow", nil, true)
		ring(w, bob(), "thirteenth").ends(t, "", wake.ErrRate, false)
		other.ends(t, "", wake.ErrWindow, true)
		if n := len(p.arrived()); n != 12 {
			t.Errorf("%d pushes, want 12", n)
		}
	})
}

func TestB28_APushThatWasTakenBackDoesNotCount(t *testing.T) {
	test(t, func(t *testing.T, p *provider, w *wake.Waker) {
		for i := range 30 {
			c := ring(w, bob(), fmt.Sprintf("call%d", i))
			c.hangup()
			c.ends(t, "", errHangup, false)
		}
		c := ring(w, bob(), "real")
		time.Sleep(time.Second)
		w.Registered(bob().ID, "flow")
		c.ends(t, "flow", nil, true)
		wantIDs(t, "pushes that left", p.arrived(), "real")
	})
}

func TestB28_AFailingPushCounts(t *testing.T) {
	test(t, func(t *testing.T, p *provider, w *wake.Waker) {
		p.answers(push.Result{Outcome: push.ProviderDown})
		for i := range 10 {
			ring(w, bob(), fmt.Sprintf("call%d", i)).ends(t, "", wake.ErrProviderDown, false)
		}
		ring(w, bob(), "eleventh").ends(t, "", wake.ErrRate, false)
	})
}

// Quiet hours: nothing was sent, so nothing counts.
func TestB28_ACallInQuietHoursDoesNotCount(t *testing.T) {
	test(t, func(t *testing.T, p *provider, w *wake.Waker) {
		p.answers(push.Result{Outcome: push.Quiet, Reason: "quiet hours until 07:00"})
		for i := range 20 {
			ring(w, bob(), fmt.Sprintf("call%d", i)).ends(t, "", wake.ErrQuiet, false)
		}
	})
}

func TestB30_AwaitWaitsForARegistrationAndPushesNothing(t *testing.T) {
	test(t, func(t *testing.T, p *provider, w *wake.Waker) {
		start := time.Now()
		go func() {
			time.Sleep(3 * time.Second)
			w.Registered("bob", "flow1")
		}()
		if flow, err := w.Await(t.Context(), "bob", 5*time.Second); flow != "flow1" || err != nil {
			t.Errorf("got %q, %v; want flow1", flow, err)
		}
		if _, err := w.Await(t.Context(), "bob", 5*time.Second); !errors.Is(err, wake.ErrWindow) {
			t.Errorf("got %v, want ErrWindow", err)
		}
		if took := time.Since(start); took != 8*time.Second {
			t.Errorf("both took %v, want 3s and 5s", took)
		}
		if _, err := w.Await(t.Context(), "bob", 0); !errors.Is(err, wake.ErrWindow) {
			t.Errorf("no grace: %v, want ErrWindow", err)
		}
		if w.Waking("bob") {
			t.Error("waking without a push")
		}
		wantIDs(t, "pushes", p.begun())
	})
}

func TestB27_RequestsInADialogWaitWithoutAPushAndLeaveByThemselves(t *testing.T) {
	test(t, func(t *testing.T, p *provider, w *wake.Waker) {
		ctx, cancel := context.WithCancelCause(t.Context())
		ended := make(chan error)
		go func() {
			_, err := w.Await(ctx, bob().ID, window)
			ended <- err
		}()
		synctest.Wait()
		wantIDs(t, "pushes", p.begun())

		// A call that joins them sends its push, and frees them too.
		p.answers(push.Result{Outcome: push.ProviderDown})
		ring(w, bob(), "call1").ends(t, "", wake.ErrProviderDown, false)
		select {
		case err := <-ended:
			t.Fatalf("a failed push ended a wait that asked for none: %v", err)
		default:
		}
		cancel(errHangup)
		if err := <-ended; !errors.Is(err, errHangup) {
			t.Errorf("got %v, want the cause", err)
		}
	})
}

// announced collects what an Announce tells.
type announced struct {
	steps []string
	done  chan push.Result
}

func announce(w *wake.Waker, d wake.Device, callID string) (*announced, func()) {
	a := &announced{done: make(chan push.Result, 2)}
	stop := w.Announce(d, push.Call{CallID: callID},
		func(step, _ string) { a.steps = append(a.steps, step) },
		func(r push.Result) { a.done <- r })
	return a, stop
}

func (a *announced) ends(t *testing.T, want push.Outcome, steps ...string) {
	t.Helper()
	if r := <-a.done; r.Outcome != want {
		t.Errorf("announced: %+v, want %s", r, want)
	}
	synctest.Wait()
	if len(a.done) > 0 {
		t.Error("done was called twice")
	}
	if !slices.Equal(a.steps, steps) {
		t.Errorf("trace says %v, want %v", a.steps, steps)
	}
}

func TestB4_AForegroundCallIsAnnouncedWithoutWaiting(t *testing.T) {
	test(t, func(t *testing.T, p *provider, w *wake.Waker) {
		start := time.Now()
		a, stop := announce(w, bob(), "call1")
		if time.Since(start) != 0 || w.Waking(bob().ID) {
			t.Error("Announce waited, or made the device waking")
		}
		a.ends(t, push.Accepted, "push_sent", "push_accepted")
		stop()
		stop()
		wantIDs(t, "pushes", p.arrived(), "call1")
	})
}

func TestB4_StopTakesTheAnnouncementBack(t *testing.T) {
	test(t, func(t *testing.T, p *provider, w *wake.Waker) {
		a, stop := announce(w, bob(), "call1")
		synctest.Wait()
		stop()
		a.ends(t, push.ProviderDown, "push_sent", "push_refused")
		wantIDs(t, "pushes that left", p.arrived())
	})
}

func TestB6_ACallAnnouncedAlreadyIsNotAnnouncedAgain(t *testing.T) {
	test(t, func(t *testing.T, p *provider, w *wake.Waker) {
		first, _ := announce(w, bob(), "call1")
		c := ring(w, bob(), "call1") // the foreground flow was dead: now it waits
		again, _ := announce(w, bob(), "call1")
		again.ends(t, push.Refused, "push_refused")
		first.ends(t, push.Accepted, "push_sent", "push_accepted")
		time.Sleep(time.Second)
		w.Registered(bob().ID, "flow1")
		c.ends(t, "flow1", nil, true)
		c.saw(t, "push_sent", "push_accepted", "registered")
		wantIDs(t, "pushes", p.begun(), "call1")
	})
}

func TestB19_ADeadTokenFoundByTheAnnouncementEndsTheWaitBehindIt(t *testing.T) {
	test(t, func(t *testing.T, p *provider, w *wake.Waker) {
		p.answers(push.Result{Outcome: push.DeadToken})
		announce(w, bob(), "call1")
		c := ring(w, bob(), "call1")
		c.ends(t, "", wake.ErrDeadToken, false)
		if c.took != p.takes {
			t.Errorf("took %v, want %v", c.took, p.takes)
		}
	})
}

func TestB28_AnnouncementsCountForTheRate(t *testing.T) {
	test(t, func(t *testing.T, p *provider, w *wake.Waker) {
		for i := range 10 {
			a, _ := announce(w, bob(), fmt.Sprintf("call%d", i))
			a.ends(t, push.Accepted, "push_sent", "push_accepted")
		}
		a, _ := announce(w, bob(), "eleventh")
		a.ends(t, push.Refused, "push_refused")
		ring(w, bob(), "twelfth").ends(t, "", wake.ErrRate, false)
	})
}

func TestAnAnnouncementToADeskPhoneIsNoStepOfATrace(t *testing.T) {
	test(t, func(t *testing.T, p *provider, w *wake.Waker) {
		a, _ := announce(w, wake.Device{ID: "desk"}, "call1")
		a.ends(t, push.NoRoute)
	})
}

func TestNotesGoByTheMessageChannelAlone(t *testing.T) {
	test(t, func(t *testing.T, p *provider, w *wake.Waker) {
		var steps []string
		w.Note(bob(), push.Note{Event: push.EventMissed, CallID: "call1"}, func(step, _ string) { steps = append(steps, step) })
		if !slices.Equal(steps, []string{"push_sent", "push_accepted"}) || len(p.notes) != 1 {
			t.Errorf("steps %v, %d notes", steps, len(p.notes))
		}
		wantIDs(t, "VoIP pushes", p.begun())
		if w.Waking(bob().ID) {
			t.Error("a note made the device waking")
		}
	})
}

func TestB24_WakesAreCountedAndTimed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &provider{takes: 100 * time.Millisecond, result: accepted()}
		reg := prometheus.NewPedanticRegistry()
		run(t, wake.New(wake.Config{}, p, nil, reg), func(w *wake.Waker) {
			c := ring(w, bob(), "call1")
			time.Sleep(2 * time.Second)
			w.Registered(bob().ID, "flow1")
			c.ends(t, "flow1", nil, true)
			ring(w, bob(), "call2").ends(t, "", wake.ErrWindow, true)
			gone := ring(w, bob(), "call3")
			gone.hangup()
			p.answers(push.Result{Outcome: push.DeadToken, Reason: "Unregistered"})
			ring(w, bob(), "call4").ends(t, "", wake.ErrDeadToken, false)
		})
		want := `
# HELP sallyport_wake_total Calls that waited for a sleeping device, by how the wait ended.
# TYPE sallyport_wake_total counter
sallyport_wake_total{outcome="cancelled"} 1
sallyport_wake_total{outcome="dead_token"} 1
sallyport_wake_total{outcome="gone"} 0
sallyport_wake_total{outcome="no_route"} 0
sallyport_wake_total{outcome="provider_down"} 0
sallyport_wake_total{outcome="quiet"} 0
sallyport_wake_total{outcome="rate"} 0
sallyport_wake_total{outcome="refused"} 0
sallyport_wake_total{outcome="registered"} 1
sallyport_wake_total{outcome="stopped"} 0
sallyport_wake_total{outcome="window_over"} 1
`
		if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "sallyport_wake_total"); err != nil {
			t.Error(err)
		}
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if f.GetName() == "sallyport_wake_seconds" {
				h := f.GetMetric()[0].GetHistogram()
				if h.GetSampleCount() != 1 || h.GetSampleSum() != 2 {
					t.Errorf("%d wakes of %v s in all, want one of 2 s", h.GetSampleCount(), h.GetSampleSum())
				}
			}
		}
		if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
			t.Errorf("lint: %v %v", problems, err)
		}
	})
}

// instant accepts everything at once.
type instant struct{}

func (instant) CanCall(push.Target) bool { return true }
func (instant) CanNote(push.Target) bool { return true }
func (instant) Call(context.Context, push.Target, push.Call) push.Result {
	return accepted()
}
func (instant) Enqueue(context.Context, push.Target, push.Note) error { return nil }
func (instant) Post(push.Target, push.Note, func(push.Result))        {}

func BenchmarkCallRegistered(b *testing.B) {
	w := wake.New(wake.Config{PerMinute: 1 << 30}, instant{}, nil, nil)
	d := bob()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		d.ID = fmt.Sprint(i)
		go func(id string) {
			for !w.Waking(id) {
				runtime.Gosched()
			}
			w.Registered(id, "flow")
		}(d.ID)
		if _, err := w.Call(context.Background(), d, push.Call{CallID: "c"}, nil); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkWaitingCall reports what a call that waits costs, its goroutine
// included.
func BenchmarkWaitingCall(b *testing.B) {
	const calls = 10000
	for b.Loop() {
		w := wake.New(wake.Config{}, instant{}, nil, nil)
		ctx, cancel := context.WithCancel(context.Background())
		before := memory()
		ended := make(chan struct{}, calls)
		for i := range calls {
			d := bob()
			d.ID = fmt.Sprint(i)
			go func() {
				_, _ = w.Call(ctx, d, push.Call{CallID: "c"}, nil)
				ended <- struct{}{}
			}()
		}
		for i := range calls {
			for !w.Waking(fmt.Sprint(i)) {
				runtime.Gosched()
			}
		}
		b.ReportMetric(float64(memory()-before)/calls, "B/call")
		cancel()
		for range calls {
			<-ended
		}
	}
}

func memory() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}
