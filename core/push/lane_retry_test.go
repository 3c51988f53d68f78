package push_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"sallyport/core/push"
)

func accept() push.Result { return push.Result{Outcome: push.Accepted, Status: 200} }

// later answers with r until the nth push.
func later(r push.Result, nth int) func(push.Notification, int) push.Result {
	return func(_ push.Notification, n int) push.Result {
		if n < nth {
			return r
		}
		return accept()
	}
}

func TestP29_ApplesServerErrorIsRetriedAfterAQuarterOfAnHour(t *testing.T) {
	for _, outcome := range []push.Outcome{push.ProviderDown, push.Refused} {
		t.Run(string(outcome), func(t *testing.T) {
			r := push.Result{Outcome: outcome, Status: 503, Reason: "ServiceUnavailable", Retry: 15 * time.Minute}
			inWorld(t, push.Config{}, later(r, 3), func(w *world) {
				end := w.post("bob", message("chat", 0))
				within(20 * time.Hour)
				all := w.box.all()
				if len(all) != 4 {
					t.Fatalf("pushes at %v, want 4", w.box.at())
				}
				for i, want := range []time.Duration{15, 30, 60} {
					want *= time.Minute
					gap := all[i+1].at - all[i].at
					if gap < want || gap > want*8/5 {
						t.Errorf("attempt %d came after %v, want %v or up to three fifths more", i+2, gap, want)
					}
					if all[i+1].id != all[0].id {
						t.Errorf("attempt %d has another id", i+2)
					}
				}
				wantOutcome(t, end(), push.Accepted)
				w.count("done=1 retried=3")
			})
		})
	}
}

func TestRetriesAreSpread(t *testing.T) {
	r := push.Result{Outcome: push.Refused, Status: 500, Retry: 15 * time.Minute}
	inWorld(t, push.Config{}, later(r, 50), func(w *world) {
		for i := range 50 {
			w.post(fmt.Sprintf("device%d", i), message("chat", 0))
		}
		within(time.Hour)
		at := w.box.at()
		if len(at) != 100 {
			t.Fatalf("%d pushes, want 100", len(at))
		}
		if spread := at[99] - at[50]; spread < 3*time.Minute {
			t.Errorf("50 second attempts within %v, want them spread over minutes", spread)
		}
	})
}

func TestP19_GoogleIsAskedAgainAfterTenSecondsAndNotLongerThanAnHour(t *testing.T) {
	r := push.Result{Outcome: push.ProviderDown, Status: 503, Reason: "UNAVAILABLE", Retry: 10 * time.Second}
	inWorld(t, push.Config{}, later(r, 1000), func(w *world) {
		end := w.post("android", message("chat", 0))
		within(23 * time.Hour)
		at := w.box.at()
		if len(at) < 5 || len(at) > 20 {
			t.Errorf("%d attempts at %v", len(at), at)
		}
		for i := 1; i < len(at); i++ {
			if gap := at[i] - at[i-1]; gap < 10*time.Second {
				t.Errorf("attempt %d after %v, want at least 10 s", i+1, gap)
			}
		}
		if last := at[len(at)-1]; last > time.Hour {
			t.Errorf("last attempt after %v, want at most an hour", last)
		}
		wantOutcome(t, end(), push.ProviderDown)
	})
}

func TestARetryAfterIsHonoured(t *testing.T) {
	r := push.Result{Outcome: push.Refused, Status: 429, Reason: "QUOTA_EXCEEDED", Retry: 7 * time.Minute}
	inWorld(t, push.Config{}, later(r, 1), func(w *world) {
		w.post("android", message("chat", 0))
		within(time.Minute)
		mention := message("chat", 1)
		mention.Urgent = true
		w.post("android", mention) // which passes no provider's word
		within(time.Hour)
		at := w.box.at()
		if len(at) != 2 || at[1] < 7*time.Minute || at[1] > 11*time.Minute {
			t.Errorf("pushes at %v, want a second one after 7 to 11 minutes", at)
		}
		if n := w.box.all()[1].count; n != 2 {
			t.Errorf("it counts %d messages, want 2", n)
		}
	})
}

func TestP15_AfterAnOutagePushesFlowWithinSeconds(t *testing.T) {
	var up time.Time
	answer := func(push.Notification, int) push.Result {
		if time.Now().Before(up) {
			return push.Result{Outcome: push.ProviderDown, Reason: "proxy refuses connections"}
		}
		return accept()
	}
	inWorld(t, push.Config{}, answer, func(w *world) {
		up = time.Now().Add(time.Minute)
		for i := range 1000 {
			w.post(fmt.Sprintf("device%d", i), message("chat", 0))
		}
		within(time.Minute)
		tried := len(w.box.all())
		if tried > 100 {
			t.Errorf("%d attempts while nobody answered, want few", tried)
		}
		within(6 * time.Second)
		n := len(w.box.all()) - tried
		within(time.Minute)
		if all := len(w.box.all()) - tried; n < 900 || all != 1000 {
			t.Errorf("%d of 1000 left within 6 s of the end, %d in a minute", n, all)
		}
	})
}

func TestADeadProviderHoldsUpNobodyElse(t *testing.T) {
	answer := func(n push.Notification, _ int) push.Result {
		if n.Token.Provider == push.ProviderAPNs {
			time.Sleep(20 * time.Second)
			return push.Result{Outcome: push.ProviderDown, Reason: "no answer"}
		}
		return accept()
	}
	inWorld(t, push.Config{Queue: 5000}, answer, func(w *world) {
		for i := range 1000 {
			w.post(fmt.Sprintf("device%d", i), message("chat", 0))
		}
		within(5 * time.Second)
		for i := range 1000 {
			w.post(fmt.Sprintf("android%d", i), message("chat", 0))
		}
		within(0)
		var slow, quick int
		for _, p := range w.box.all() {
			if p.n.Token.Provider == push.ProviderAPNs {
				slow++
			} else {
				quick++
			}
		}
		if slow != 32 || quick != 1000 {
			t.Errorf("%d under way to the dead provider, %d to the other, want 32 and all 1000", slow, quick)
		}
		within(time.Minute)
	})
}

func TestWhatTheProviderRefusesForGoodIsNotSentAgain(t *testing.T) {
	for _, r := range []push.Result{
		{Outcome: push.DeadToken, Status: 410, Reason: "Unregistered"},
		{Outcome: push.Refused, Status: 400, Reason: "BadDeviceToken", Suspect: true},
	} {
		t.Run(r.Reason, func(t *testing.T) {
			inWorld(t, push.Config{}, later(r, 1000), func(w *world) {
				end := w.post("bob", message("chat", 0))
				within(time.Hour)
				if n := len(w.box.all()); n != 1 {
					t.Errorf("%d attempts, want 1", n)
				}
				wantOutcome(t, end(), r.Outcome)
				w.count("dead=1")
			})
		})
	}
}

func TestADeviceThatCannotBePushedToEndsItsNotes(t *testing.T) {
	inWorld(t, push.Config{}, nil, func(w *world) {
		for _, device := range []string{"none", "gone"} {
			end := w.post(device, message("chat", 0))
			within(0)
			wantOutcome(t, end(), push.NoRoute)
		}
	})
}

func TestANoteExpiresWhenItIsWorthNothing(t *testing.T) {
	down := push.Result{Outcome: push.ProviderDown, Reason: "no answer"}
	for name, c := range map[string]struct {
		expires, keep, want time.Duration
	}{
		"by its source":                       {time.Minute, 0, time.Minute},
		"by the operator":                     {0, time.Hour, time.Hour},
		"by the operator, whatever it says":   {48 * time.Hour, 0, 24 * time.Hour},
		"by its source, before the operator":  {time.Minute, time.Hour, time.Minute},
		"and not a second before the default": {0, 0, 24 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, push.Config{Keep: c.keep}, later(down, 1<<30), func(w *world) {
				n := message("chat", 0)
				if c.expires > 0 {
					n.Expires = time.Now().Add(c.expires)
				}
				end := w.post("bob", n)
				within(c.want - time.Second)
				if r := end(); r.Outcome != "" {
					t.Fatalf("ended too early: %+v", r)
				}
				within(2 * time.Second)
				if r := end(); r.Outcome != push.Refused || r.Reason != "expired" {
					t.Errorf("ended with %+v, want expired", r)
				}
			})
		})
	}
}

func TestWhatTheDeviceSawIsNotPushed(t *testing.T) {
	inWorld(t, push.Config{}, nil, func(w *world) {
		// The first of each chat leaves; the second waits for its window.
		for i := range 2 {
			for _, chat := range []string{"read", "unread"} {
				w.post("bob", message(chat, i))
			}
			w.post("eve", message("read", i))
			within(100 * time.Millisecond)
		}
		w.Read("bob", "read")
		within(time.Minute)
		if n := len(w.box.all()); n != 5 {
			t.Errorf("%d pushes, want 5: one that waited was read elsewhere", n)
		}
		w.count("done=5 dropped=1")

		for i := range 2 {
			w.post("bob", message("unread", 10+i))
			within(100 * time.Millisecond)
		}
		w.Returned("bob")
		w.post("bob", push.Note{Event: push.EventMissed, CallID: "c", FromURI: "sip:carol@example.com"})
		within(time.Minute)
		if n := len(w.box.all()); n != 7 {
			t.Errorf("%d pushes, want 7: what waited was dropped, the missed call was not", n)
		}
		within(time.Minute)
		w.post("bob", message("unread", 20))
		within(0)
		all := w.box.all()
		if n := all[len(all)-1].count; n != 1 {
			t.Errorf("the first message after the return counts as %d", n)
		}
	})
}

func TestACallThatTheDeviceSawEndingIsNotMissed(t *testing.T) {
	down := push.Result{Outcome: push.ProviderDown, Reason: "no answer"}
	inWorld(t, push.Config{}, later(down, 2), func(w *world) {
		for _, id := range []string{"seen", "unseen"} {
			w.post("bob", push.Note{Event: push.EventMissed, CallID: id, FromURI: "sip:carol@example.com"})
		}
		within(100 * time.Millisecond)
		w.Withdraw("bob", "seen")
		within(time.Minute)
		if n := len(w.box.all()); n != 3 {
			t.Errorf("%d attempts, want two that failed and one more", n)
		}
		w.count("done=1 dropped=1 retried=2")
	})
}

func TestP30_QuietHoursHoldNotesToTheirEnd(t *testing.T) {
	quiet := []push.QuietRule{{AOR: "*", From: 22 * time.Hour, To: 7 * time.Hour}} // synctest begins at midnight
	inWorld(t, push.Config{Quiet: quiet}, nil, func(w *world) {
		for i := range 30 {
			w.post("bob", message("chat", i))
			within(time.Minute)
		}
		if n := len(w.box.all()); n != 0 {
			t.Fatalf("%d pushes at night", n)
		}
		within(7 * time.Hour)
		all := w.box.all()
		if len(all) != 1 || all[0].at != 7*time.Hour || all[0].count != 30 {
			t.Errorf("pushes at %v, want one at 7 h that counts 30", w.box.at())
		}
	})
}

func TestTheQueueInMemoryIsBounded(t *testing.T) {
	quiet := []push.QuietRule{{AOR: "*", From: 22 * time.Hour, To: 7 * time.Hour}}
	inWorld(t, push.Config{Quiet: quiet, Queue: 100}, nil, func(w *world) {
		var ends []func() push.Result
		for i := range 150 {
			ends = append(ends, w.post(fmt.Sprintf("device%d", i), message("chat", 0)))
			within(0)
		}
		refused := slices.DeleteFunc(ends, func(end func() push.Result) bool { return end().Outcome == "" })
		if len(refused) != 50 {
			t.Errorf("%d refused, want 50", len(refused))
		}
		if r := refused[0](); r.Outcome != push.ProviderDown || r.Reason != "too many notes wait" {
			t.Errorf("refused with %+v", r)
		}
		w.count("full=50")
		within(8 * time.Hour)
		if n := len(w.box.all()); n != 100 {
			t.Errorf("%d pushes in the morning, want 100", n)
		}
	})
}
