package sipproxy

import (
	"testing"
	"testing/synctest"
	"time"

	"sallyport/core/location"
	"sallyport/core/push"
)

func TestR8_ADeviceAnswersWhileTheOtherWakes(t *testing.T) {
	for provider, ios := range map[string]bool{"apns": true, "fcm": false} {
		t.Run(provider, func(t *testing.T) {
			each(t, []int{2}, func(t *testing.T, w *town, phones []*phone) {
				a, b := phones[0].awake(), phones[1]
				if !ios {
					b.push = ";pn-provider=fcm;pn-param=project;pn-prid=cc33"
				}
				b.asleep()
				w.notWakeable(ios, b)
				c := w.calls("call-1")
				inv := a.rings("call-1")
				c.hears("SIP/2.0 180")
				a.answers(inv)
				c.answered(a)
				w.pushed(2, "answered_elsewhere") // B18: no missed call
				b.wakes()
				if !ios {
					b.silence()
					return
				}
				if got := first(b.hangsUp(b.rings("call-1")), "Reason"); got != reasonElsewhere {
					t.Errorf("Reason %q, want %q", got, reasonElsewhere)
				}
				w.pbx.silence()
				w.pushed(2, "answered_elsewhere")
			})
		})
	}
}

// notWakeable gives a device of another provider a VoIP token, as the
// registration dialect has none for it.
func (w *town) notWakeable(ios bool, ph *phone) {
	if ios {
		return
	}
	dev, _ := w.loc.Device(ph.id())
	b := dev.Bindings[0]
	b.Flow = ""
	if err := w.loc.Bind(b, []location.Token{{Provider: "fcm", Kind: "voip", App: "a", Value: "cc33"}}, ""); err != nil {
		w.t.Fatal(err)
	}
}

func TestR9_ADeviceThatComesTooLateHearsNothing(t *testing.T) {
	each(t, []int{1, 2}, func(t *testing.T, w *town, phones []*phone) {
		for _, ph := range phones {
			ph.asleep()
		}
		c := w.calls("call-1")
		pass(13 * time.Second)
		c.ends(480)
		missed := []string{"missed", "missed"}[:len(phones)]
		w.pushed(len(phones), missed...)
		for _, ph := range phones {
			ph.wakes()
			ph.silence()
		}
		w.pushed(len(phones), missed...)
	})
}

func TestR10_AFlowThatDiesUnderTheRingingIsFollowedToTheNext(t *testing.T) {
	each(t, []int{1}, func(t *testing.T, w *town, phones []*phone) {
		ph := phones[0].awake()
		c := w.calls("call-1")
		ph.rings("call-1")
		c.hears("SIP/2.0 180")
		pass(20 * time.Second) // longer than the wake window
		ph.sleeps()
		w.pbx.silence() // OB-8, fork-late: an internal 503 is no answer
		pass(3 * time.Second)
		ph.wakes()
		inv := ph.rings("call-1")
		c.hears("SIP/2.0 180")
		ph.answers(inv)
		c.answered(ph)
		w.pushed(1) // one ring for one call
	})
}

func TestR10_AFlowThatDiesWithoutComingBackEndsWith480(t *testing.T) {
	each(t, []int{1}, func(t *testing.T, w *town, phones []*phone) {
		ph := phones[0].awake()
		c := w.calls("call-1")
		ph.rings("call-1")
		c.hears("SIP/2.0 180")
		pass(20 * time.Second)
		ph.sleeps()
		pass(13 * time.Second)
		c.ends(480)
		w.pushed(1, "missed")
	})
}

func TestR10_WithoutATokenOnlyTheGraceIsWaited(t *testing.T) {
	each(t, []int{1}, func(t *testing.T, w *town, phones []*phone) {
		ph := phones[0]
		ph.push = ""
		ph.awake()
		c := w.calls("call-1")
		ph.rings("call-1")
		c.hears("SIP/2.0 180")
		ph.sleeps()
		pass(5 * time.Second)
		c.ends(480)
		w.pushed(0)
	})
}

func TestR12_ASecondCallJoinsTheWakeAndComesAfterTheFirst(t *testing.T) {
	each(t, []int{1, 2}, func(t *testing.T, w *town, phones []*phone) {
		for _, ph := range phones {
			ph.asleep()
		}
		names := []string{"call-1", "call-2", "call-3"}
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
	})
}

func TestR12_EachCallHasAWindowOfItsOwn(t *testing.T) {
	each(t, []int{1}, func(t *testing.T, w *town, phones []*phone) {
		ph := phones[0].asleep()
		c := w.calls("call-1")
		pass(8 * time.Second)
		d := w.calls("call-2")
		pass(5 * time.Second)
		c.ends(480)
		w.pbx.silence()
		ph.wakes()
		ph.refuses(ph.rings("call-2"), 486)
		d.hears("SIP/2.0 180")
		d.ends(486)
		ph.silence()
	})
}

func TestR13_InviteWithReplacesIsNeverPushed(t *testing.T) {
	const replaces = "Replaces: other-call;to-tag=a;from-tag=b"
	each(t, []int{1, 2}, func(t *testing.T, w *town, phones []*phone) {
		for _, ph := range phones {
			ph.asleep()
		}
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
	})
}

func TestR17_UnregisteringEndsTheWait(t *testing.T) {
	each(t, []int{1, 2}, func(t *testing.T, w *town, phones []*phone) {
		for _, ph := range phones {
			ph.asleep()
		}
		c := w.calls("call-1")
		for _, ph := range phones {
			ph.connects().say(ph.register("Expires: 0")...)
			w.accepts()
			ph.hears("SIP/2.0 200")
			ph.silence()
		}
		c.ends(480)
		w.pushed(len(phones)) // B29: and nothing is pushed any more
		w.refused("sip:alice@example.com", "call-2", 480)
		w.pushed(len(phones))
		if n, _ := w.loc.Count(); n != 0 {
			t.Errorf("%d devices are kept", n)
		}
	})
}

func TestAFlowThatEndsBeforeThe2xxLeavesTheDeviceSuspended(t *testing.T) {
	each(t, []int{1}, func(t *testing.T, w *town, phones []*phone) {
		ph := phones[0].connects()
		ph.say(ph.register()...)
		reg := w.pbx.hears("REGISTER")
		ph.sleeps()
		w.pbx.say(reply(reg, 200)...)
		dev, ok := w.loc.Device(ph.id())
		if !ok || dev.Flow() != "" {
			t.Fatalf("device known: %v, its flow %q", ok, dev.Flow())
		}
		c := w.calls("call-1")
		w.pushed(1)
		ph.wakes()
		ph.refuses(ph.rings("call-1"), 486)
		c.hears("SIP/2.0 180")
		c.ends(486)
	})
}

func TestACallerWhoCancelsWhileThePBXIsDialledBringsNoInvite(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "tls").awake()
		w.pbxSlow = 2 * time.Second
		w.pbx.conn.Close()
		synctest.Wait()
		out := ph.dials("sip:carol@example.com", "out-1")
		ph.say(out...)
		ph.hears("SIP/2.0 100")
		ph.say(inviteOf(out, "CANCEL")...)
		ph.hears("SIP/2.0 200")
		ph.hears("SIP/2.0 487")
		ph.say(inviteOf(out, "ACK")...)
		pass(time.Minute)
		w.pbx.silence()
	})
}

func TestR7_TheOtherDeviceRingsOnWhenOneTokenIsDead(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		a, b := w.phone("alice", "tls").awake(), w.phone("alice2", "wss").asleep()
		w.pushes.result = push.Result{Outcome: push.DeadToken, Reason: "Unregistered"}
		c := w.calls("call-1")
		inv := a.rings("call-1")
		c.hears("SIP/2.0 180")
		a.answers(inv)
		c.answered(a)
		b.wakes()
		b.silence()
	})
}
