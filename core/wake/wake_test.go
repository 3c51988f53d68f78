package wake_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/core/push"
	"sallyport/core/wake"
)

func TestB6_OnePushWakesTheDeviceAndTheCallGoesOn(t *testing.T) {
	test(t, func(t *testing.T, p *provider, w *wake.Waker) {
		c := ring(w, bob(), "call1")
		if !w.Waking(bob().ID) {
			t.Error("not waking with a push on its way")
		}
		time.Sleep(2 * time.Second)
		w.Registered(bob().ID, "edge1/1/2")
		c.ends(t, "edge1/1/2", nil, true)
		c.saw(t, "push_sent", "push_accepted", "registered")
		if c.took != 2*time.Second || c.out.Took != 2*time.Second {
			t.Errorf("came back after %v, and Took says %v; want 2s both", c.took, c.out.Took)
		}
		wantIDs(t, "pushes", p.arrived(), "call1")
		got := p.calls[0]
		if !got.RingUntil.Equal(c.start.Add(window)) || !got.Sent.Equal(c.start) {
			t.Errorf("push says sent %v, rings until %v; want now and the end of the window", got.Sent, got.RingUntil)
		}
		if w.Waking(bob().ID) {
			t.Error("still waking after the registration")
		}
	})
}

func TestB14_WithPushOffTheCallEndsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		run(t, wake.New(wake.Config{}, nil, nil, nil), func(w *wake.Waker) {
			c := ring(w, bob(), "call1")
			c.ends(t, "", wake.ErrNoRoute, false)
			if c.took != 0 {
				t.Errorf("took %v, want no time", c.took)
			}
			w.Note(bob(), push.Note{}, nil)
		})
	})
}

func TestADeviceThatCannotBePushedIsNotWaitedFor(t *testing.T) {
	test(t, func(t *testing.T, p *provider, w *wake.Waker) {
		p.mute = true
		ring(w, bob(), "call1").ends(t, "", wake.ErrNoRoute, false)
		wantIDs(t, "pushes", p.begun())
	})
}

func TestB16_TheWindowEndsExactly(t *testing.T) {
	test(t, func(t *testing.T, p *provider, w *wake.Waker) {
		c := ring(w, bob(), "call1")
		c.ends(t, "", wake.ErrWindow, true)
		c.saw(t, "push_sent", "push_accepted", "window_over")
		if c.took != window {
			t.Errorf("gave up after %v, want exactly %v", c.took, window)
		}
	})
}

func TestR8_AnsweredElsewhereWhileTheDeviceWakes(t *testing.T) {
	test(t, func(t *testing.T, p *provider, w *wake.Waker) {
		phone, tablet := bob(), bob()
		tablet.ID = "sip:bob@example.com tablet"
		one, two := ring(w, phone, "call1"), ring(w, tablet, "call1")
		time.Sleep(time.Second)
		w.Registered(phone.ID, "flow1")
		one.ends(t, "flow1", nil, true)
		two.hangup()
		two.ends(t, "", errHangup, true) // it rings: who answers for it is told so
		w.Registered(tablet.ID, "flow2")
		wantIDs(t, "pushes", p.arrived(), "call1", "call1")
	})
}

func TestR13_ACallThatMustNotBePushedWaitsByAwait(t *testing.T) {
	test(t, func(t *testing.T, p *provider, w *wake.Waker) {
		flow := make(chan string)
		go func() { // INVITE with Replaces
			f, _ := w.Await(context.Background(), bob().ID, window)
			flow <- f
		}()
		synctest.Wait()
		w.Registered(bob().ID, "flow1")
		if got := <-flow; got != "flow1" {
			t.Errorf("got flow %q, want flow1", got)
		}
		wantIDs(t, "pushes", p.begun())
	})
}

func TestR9_ADeviceThatWakesAfterTheWindowFreesNobody(t *testing.T) {
	test(t, func(t *testing.T, p *provider, w *wake.Waker) {
		c := ring(w, bob(), "call1")
		time.Sleep(window + 2*time.Second)
		w.Registered(bob().ID, "late")
		c.ends(t, "", wake.ErrWindow, true)
		// The next call is a wake of its own.
		next := ring(w, bob(), "call2")
		time.Sleep(time.Second)
		w.Registered(bob().ID, "flow2")
		next.ends(t, "flow2", nil, true)
		wantIDs(t, "pushes", p.arrived(), "call1", "call2")
	})
}

func TestR1_InviteAndCancelInOneSegmentPushNothing(t *testing.T) {
	test(t, func(t *testing.T, p *provider, w *wake.Waker) {
		ctx, cancel := context.WithCancelCause(context.Background())
		cancel(errHangup)
		out, err := w.Call(ctx, bob(), push.Call{CallID: "call1"}, nil)
		if !errors.Is(err, errHangup) || out.Pushed {
			t.Errorf("got %+v, %v; want the cause, nothing pushed", out, err)
		}
		wantIDs(t, "pushes that left", p.arrived())
	})
}

func TestR2_CancelBeforeThePushLeftStopsIt(t *testing.T) {
	test(t, func(t *testing.T, p *provider, w *wake.Waker) {
		c := ring(w, bob(), "call1")
		c.hangup()
		c.ends(t, "", errHangup, false)
		if c.took != 0 {
			t.Errorf("the caller's hang-up took %v", c.took)
		}
		time.Sleep(time.Second)
		wantIDs(t, "pushes that left", p.arrived())
	})
}

func TestR2_CancelWhileTheProvidersAnswerIsOut(t *testing.T) {
	test(t, func(t *testing.T, p *provider, w *wake.Waker) {
		p.writes = true
		c := ring(w, bob(), "call1")
		c.hangup()
		c.ends(t, "", errHangup, true) // it may ring: the late INVITE-then-CANCEL is due (B17)
		time.Sleep(time.Second)
		wantIDs(t, "pushes that left", p.arrived(), "call1")
	})
}

func TestR2_CancelAfterThePushBeforeRegister(t *testing.T) {
	test(t, func(t *testing.T, p *provider, w *wake.Waker) {
		c := ring(w, bob(), "call1")
		time.Sleep(time.Second)
		c.hangup()
		c.ends(t, "", errHangup, true)
		if w.Waking(bob().ID) {
			t.Error("waking, with nobody who waits")
		}
	})
}

func TestR2_ARegistrationThatCameFirstWinsOverCancel(t *testing.T) {
	test(t, func(t *testing.T, p *provider, w *wake.Waker) {
		c := ring(w, bob(), "call1")
		time.Sleep(time.Second)
		w.Registered(bob().ID, "flow1")
		c.hangup()
		c.ends(t, "flow1", nil, true)
	})
}

func TestR3_ThreeRegistersFreeTheCallsOnce(t *testing.T) {
	test(t, func(t *testing.T, p *provider, w *wake.Waker) {
		c := ring(w, bob(), "call1")
		time.Sleep(time.Second)
		for i := range 3 {
			w.Registered(bob().ID, fmt.Sprintf("flow%d", i))
		}
		c.ends(t, "flow0", nil, true)
		c.saw(t, "push_sent", "push_accepted", "registered")
	})
}

func TestR4_RegisterArrivesBeforeThePushCallReturns(t *testing.T) {
	test(t, func(t *testing.T, p *provider, w *wake.Waker) {
		p.writes = true
		c := ring(w, bob(), "call1")
		time.Sleep(50 * time.Millisecond)
		w.Registered(bob().ID, "flow1")
		c.ends(t, "flow1", nil, true)
		if c.took != 50*time.Millisecond {
			t.Errorf("freed after %v, want at once", c.took)
		}
		time.Sleep(time.Second)
		wantIDs(t, "pushes let through", p.arrived(), "call1")
	})
}

// Who is back before the push left did not come for it, and needs none: it would
// leave after the call is over, maybe.
func TestR4_RegisterArrivesBeforeThePushLeft(t *testing.T) {
	test(t, func(t *testing.T, p *provider, w *wake.Waker) {
		c := ring(w, bob(), "call1")
		time.Sleep(50 * time.Millisecond)
		w.Registered(bob().ID, "flow1")
		c.ends(t, "flow1", nil, false)
		time.Sleep(time.Second)
		wantIDs(t, "pushes that left", p.arrived())
	})
}

func TestR5_AChallengeKeepsTheCallWaiting(t *testing.T) {
	test(t, func(t *testing.T, p *provider, w *wake.Waker) {
		c := ring(w, bob(), "call1")
		time.Sleep(time.Second) // 401: nobody tells the Waker
		if !c.waits() {
			t.Fatal("ended before the 2xx")
		}
		w.Registered(bob().ID, "flow1")
		c.ends(t, "flow1", nil, true)
	})
}

func TestR6_ARefusedRegisterEndsEveryWait(t *testing.T) {
	test(t, func(t *testing.T, p *provider, w *wake.Waker) {
		one, two := ring(w, bob(), "call1"), ring(w, bob(), "call2")
		time.Sleep(time.Second)
		w.Refused(bob().ID)
		one.ends(t, "", wake.ErrRefused, true)
		two.ends(t, "", wake.ErrRefused, true)
	})
}

func TestR17_UnregisteringEndsEveryWait(t *testing.T) {
	test(t, func(t *testing.T, p *provider, w *wake.Waker) {
		c := ring(w, bob(), "call1")
		w.Gone(bob().ID)
		c.ends(t, "", wake.ErrGone, false)
		time.Sleep(time.Second)
		wantIDs(t, "pushes that left", p.arrived()) // it was still on its way: nothing is pushed any more (B29)
	})
}

func TestR7_WhatTheProviderSaysEndsEveryWaitAtOnce(t *testing.T) {
	tests := map[string]struct {
		outcome push.Outcome
		want    error
	}{
		"B19 the token is dead": {push.DeadToken, wake.ErrDeadToken},
		"provider down":         {push.ProviderDown, wake.ErrProviderDown},
		"push refused":          {push.Refused, wake.ErrProviderDown},
		"no route after all":    {push.NoRoute, wake.ErrNoRoute},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &provider{takes: 100 * time.Millisecond, result: push.Result{Outcome: tt.outcome, Reason: "reason given"}}
				run(t, wake.New(wake.Config{}, p, nil, nil), func(w *wake.Waker) {
					one, two := ring(w, bob(), "call1"), ring(w, bob(), "call2")
					one.ends(t, "", tt.want, false)
					two.ends(t, "", tt.want, false)
					one.saw(t, "push_sent", "push_refused")
					if one.took != p.takes || two.took != p.takes {
						t.Errorf("answered after %v and %v, want %v", one.took, two.took, p.takes)
					}
					wantIDs(t, "pushes", p.begun(), "call1")
				})
			})
		})
	}
}

func TestR12_ASecondCallJoinsWithoutAPushAndHasItsOwnWindow(t *testing.T) {
	test(t, func(t *testing.T, p *provider, w *wake.Waker) {
		one := ring(w, bob(), "call1")
		time.Sleep(10 * time.Second)
		two := ring(w, bob(), "call2")
		one.ends(t, "", wake.ErrWindow, true)
		if !two.waits() || !w.Waking(bob().ID) {
			t.Fatal("the second call ended with the first one's window")
		}
		time.Sleep(5 * time.Second)
		w.Registered(bob().ID, "flow1")
		two.ends(t, "flow1", nil, true)
		two.saw(t, "push_sent", "push_accepted", "registered")
		wantIDs(t, "pushes", p.arrived(), "call1")
	})
}

func TestR12_BothCallsAreFreedByOneRegistration(t *testing.T) {
	test(t, func(t *testing.T, p *provider, w *wake.Waker) {
		one, two := ring(w, bob(), "call1"), ring(w, bob(), "call2")
		time.Sleep(time.Second)
		w.Registered(bob().ID, "flow1")
		one.ends(t, "flow1", nil, true)
		two.ends(t, "flow1", nil, true)
		wantIDs(t, "pushes", p.arrived(), "call1")
	})
}

func TestTheAnnouncedCallLeavesAndTheNextIsAnnounced(t *testing.T) {
	test(t, func(t *testing.T, p *provider, w *wake.Waker) {
		one, two := ring(w, bob(), "call1"), ring(w, bob(), "call2")
		one.hangup()
		one.ends(t, "", errHangup, false)
		time.Sleep(time.Second)
		wantIDs(t, "pushes that left", p.arrived(), "call2")
		w.Registered(bob().ID, "flow1")
		two.ends(t, "flow1", nil, true)
		two.saw(t, "push_sent", "push_sent", "push_accepted", "registered")
	})
}

func TestAJoinedCallThatLeavesStopsNothing(t *testing.T) {
	test(t, func(t *testing.T, p *provider, w *wake.Waker) {
		one, two := ring(w, bob(), "call1"), ring(w, bob(), "call2")
		two.hangup()
		two.ends(t, "", errHangup, false)
		time.Sleep(time.Second)
		wantIDs(t, "pushes that left", p.arrived(), "call1")
		w.Registered(bob().ID, "flow1")
		one.ends(t, "flow1", nil, true)
	})
}

func TestACallThatComesWhileThePushIsStoppedIsAnnounced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &stubborn{provider: provider{takes: 100 * time.Millisecond, result: accepted()}, lag: time.Second}
		run(t, wake.New(wake.Config{Window: window}, p, nil, nil), func(w *wake.Waker) {
			one := ring(w, bob(), "call1")
			one.hangup()
			two := ring(w, bob(), "call2")
			time.Sleep(2 * time.Second)
			wantIDs(t, "pushes that left", p.arrived(), "call2")
			w.Registered(bob().ID, "flow1")
			two.ends(t, "flow1", nil, true)
			one.ends(t, "", errHangup, false)
		})
	})
}

// stubborn takes lag to notice that its ctx ended.
type stubborn struct {
	provider
	lag time.Duration
}

func (s *stubborn) Call(ctx context.Context, target push.Target, c push.Call) push.Result {
	r := s.provider.Call(ctx, target, c)
	if ctx.Err() != nil {
		time.Sleep(s.lag)
	}
	return r
}

func TestARegistrationBetweenLookAndWaitIsNotMissed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &provider{result: accepted()}
		flow := "flow1"
		w := wake.New(wake.Config{Flow: func(string) string { return flow }}, p, nil, nil)
		run(t, w, func(w *wake.Waker) {
			ring(w, bob(), "call1").ends(t, "flow1", nil, false)
			wantIDs(t, "pushes", p.begun())
			if got, err := w.Await(t.Context(), bob().ID, time.Second); got != "flow1" || err != nil {
				t.Errorf("Await: %q, %v; want flow1", got, err)
			}
			silent := bob()
			silent.Flow = "flow1"
			c := ring(w, silent, "call2")
			time.Sleep(time.Second)
			w.Registered(silent.ID, "flow1") // a refresh on the flow that is known
			if !c.waits() {
				t.Fatal("freed by the flow it does not wait for")
			}
			w.Registered(silent.ID, "flow2")
			c.ends(t, "flow2", nil, true)
		})
	})
}
