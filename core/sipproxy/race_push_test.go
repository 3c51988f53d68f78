package sipproxy

import (
	"testing"
	"time"

	"sallyport/core/push"
)

// R7, R8, R12 and R13: what a push brings, and for which calls it leaves.

var pushAccepted = push.Result{Outcome: push.Accepted}

func TestPN13_R7_AFailedPushEndsTheWaitNow(t *testing.T) {
	for outcome, result := range map[string]push.Result{
		"410":     {Outcome: push.DeadToken, Reason: "Unregistered", Status: 410},
		"5xx":     {Outcome: push.ProviderDown, Reason: "ServiceUnavailable", Status: 503},
		"timeout": {Outcome: push.ProviderDown, Reason: "timeout"},
	} {
		t.Run(outcome, func(t *testing.T) {
			forEachCrew(t, func(t *testing.T, w *town, ph *phone) {
				w.pushes.result = result
				comesTooLate(t, w, ph) // the provider is not asked
			}, func(t *testing.T, w *town, phones []*phone) {
				w.asleep(phones)
				w.pushes.result = result
				if outcome == "timeout" {
					w.pushes.delay = 2500 * time.Millisecond
				}
				c := w.calls("call-1")
				pass(w.pushes.delay)
				c.ends(480)
				steps, _, failed := w.steps("call-1")
				if steps != "invite state push_sent push_refused" || failed != "push_refused" {
					t.Errorf("trace %q, failed step %q", steps, failed)
				}
				w.pushes.result, w.pushes.delay = pushAccepted, 0
				w.pushed(len(phones))
				d := w.calls("call-2")
				if outcome == "410" { // B19: gone for calls, and nothing more is pushed
					d.ends(480)
					w.pushed(len(phones))
					return
				}
				w.pushed(2 * len(phones))
				d.cancels()
				d.ends(487)
			})
		})
	}
}

// One device's dead token is no word on another: the crew has one more device,
// which is awake.
func TestR7_TheOtherDeviceRingsOnWhenOneTokenIsDead(t *testing.T) {
	forEachCrew(t, comesTooLate, func(t *testing.T, w *town, phones []*phone) {
		w.asleep(phones)
		awake := w.phone("alice4", phones[0].transport).awake()
		w.proxy.cfg.PushInForeground = false
		w.pushes.result = push.Result{Outcome: push.DeadToken, Reason: "Unregistered"}
		c := w.calls("call-1")
		inv := awake.rings("call-1")
		c.hears("SIP/2.0 180")
		w.pbx.silence()
		awake.answers(inv)
		c.answered(awake)
		w.pushed(len(phones))
		for _, ph := range phones {
			ph.wakes()
			ph.silence()
		}
	})
}

// R8: the crew sleeps, and one more device, which is awake, answers.
func TestR8_ADeviceAnswersWhileTheOthersWake(t *testing.T) {
	for provider, ios := range map[string]bool{"apns": true, "fcm": false, "webpush": false} {
		t.Run(provider, func(t *testing.T) {
			answers := func(w *town, by *phone) {
				w.proxy.cfg.PushInForeground = false
				c := w.calls("call-1")
				inv := by.rings("call-1")
				c.hears("SIP/2.0 180")
				by.answers(inv)
				c.answered(by)
			}
			forEachCrew(t, func(_ *testing.T, w *town, ph *phone) {
				answers(w, ph.awake())
				w.pushed(0) // nobody to be told
				w.pbx.silence()
			}, func(t *testing.T, w *town, phones []*phone) {
				for _, ph := range phones {
					ph.of(provider).asleep()
				}
				n := len(phones)
				answers(w, w.phone("alice4", phones[0].transport).awake())
				w.pushed(n, elsewhere(n+1)...) // B18: no missed call
				for _, ph := range phones {
					ph.wakes()
					if !ios {
						ph.silence()
						continue
					}
					if got := first(ph.hangsUp(ph.rings("call-1")), "Reason"); got != reasonElsewhere {
						t.Errorf("Reason %q, want %q", got, reasonElsewhere)
					}
				}
				w.pbx.silence()
				w.pushed(n, elsewhere(n+1)...)
			})
		})
	}
}

func TestR12_ASecondCallJoinsTheWakeAndComesAfterTheFirst(t *testing.T) {
	names := []string{"call-1", "call-2", "call-3"}
	forEachCrew(t, func(_ *testing.T, w *town, ph *phone) {
		for _, name := range names {
			w.atOnce(name)
		}
		ph.wakes()
		ph.silence()
		w.pushed(0)
	}, func(t *testing.T, w *town, phones []*phone) {
		w.asleep(phones)
		calls := map[string]*call{}
		for _, name := range names {
			calls[name] = w.calls(name)
		}
		w.pushed(len(phones)) // one push, whoever waits
		for _, ph := range phones {
			ph.wakes()
			for _, name := range names {
				inv := ph.hears("INVITE")
				if first(inv, "Call-ID") != name {
					t.Errorf("%s came, want %s", first(inv, "Call-ID"), name)
				}
				ph.refuses(inv, 486)
			}
			ph.silence()
		}
		for _, name := range names {
			calls[name].ends(486)
		}
		w.pushed(len(phones))
	})
}

func TestR12_EachCallHasAWindowOfItsOwn(t *testing.T) {
	forEachCrew(t, func(_ *testing.T, w *town, ph *phone) {
		w.atOnce("call-1")
		pass(8 * time.Second)
		w.atOnce("call-2")
	}, func(t *testing.T, w *town, phones []*phone) {
		w.asleep(phones)
		c := w.calls("call-1")
		pass(8 * time.Second)
		d := w.calls("call-2")
		pass(5 * time.Second)
		c.ends(480)
		w.pbx.silence()
		for _, ph := range phones {
			ph.wakes()
			ph.refuses(ph.rings("call-2"), 486)
			d.hears("SIP/2.0 180")
			ph.silence()
		}
		d.ends(486)
		w.pushed(len(phones), missed(len(phones))...)
	})
}

func TestR12_TheCallerOfTheFirstHangsUpAndTheSecondStillRings(t *testing.T) {
	forEachCrew(t, hangsUpTooLate, func(t *testing.T, w *town, phones []*phone) {
		w.asleep(phones)
		c := w.calls("call-1")
		d := w.calls("call-2")
		c.cancels()
		c.ends(487)
		w.pushed(len(phones))
		for _, ph := range phones {
			ph.wakes()
			second := ph.hearsOf("call-2", "INVITE")
			ph.hangsUp(ph.rings("call-1")) // it was shown by the push
			ph.refuses(second, 486)
			ph.silence()
		}
		d.ends(486)
		w.pushed(len(phones))
	})
}

func TestR13_InviteWithReplacesIsNeverPushed(t *testing.T) {
	const replaces = "Replaces: other-call;to-tag=a;from-tag=b"
	forEachCrew(t, func(_ *testing.T, w *town, ph *phone) {
		w.atOnce("asleep", replaces)
		ph.wakes()
		ph.silence()
		w.pushed(0)
	}, func(t *testing.T, w *town, phones []*phone) {
		w.asleep(phones)
		w.calls("asleep", replaces).ends(480)
		w.pushed(0)
		ph := phones[0].awake()
		c := w.calls("awake", replaces)
		inv := ph.rings("awake")
		c.hears("SIP/2.0 180")
		ph.refuses(inv, 486)
		c.ends(486)
		ph.fallsSilent()
		d := w.calls("silent", replaces)
		ph.refuses(ph.rings("silent"), 481) // the phone knows whether the call is there
		d.hears("SIP/2.0 180")
		d.ends(481)
		w.pushed(0)
		for _, other := range phones[1:] {
			other.wakes()
			other.silence()
		}
	})
}

// B17: in a crowd a push waits for its turn, and its call may be over by then.
func TestNoPushLeavesForACallThatIsOver(t *testing.T) {
	for name, end := range map[string]func(w *town, c *call, ph *phone, inv string){
		"answered and hung up": func(w *town, c *call, ph *phone, inv string) {
			ph.answers(inv)
			w.pbx.say(dialogRequest("BYE", c.answered(ph))...)
			ph.say(reply(ph.hears("BYE"), 200)...)
			w.pbx.hears("SIP/2.0 200")
		},
		"refused": func(_ *town, c *call, ph *phone, inv string) {
			ph.refuses(inv, 486)
			c.ends(486)
		},
	} {
		t.Run(name, func(t *testing.T) {
			inTown(t, func(_ *testing.T, w *town) {
				ph := w.phone("alice", "tls").awake()
				w.pushes.connect = 10 * time.Second
				c := w.calls("call-1")
				inv := ph.rings("call-1")
				c.hears("SIP/2.0 180")
				end(w, c, ph, inv)
				pass(time.Minute)
				w.pushed(0)
			})
		})
	}
}
