package sipproxy

import (
	"testing"
	"testing/synctest"
	"time"
)

// R10, R11 and R19: flows that end, move or are lost under a call.

// ringing has a crew that is awake ring for a call.
func (w *town) ringing(phones []*phone, callID string) (c *call, invites []string) {
	w.t.Helper()
	for _, ph := range phones {
		ph.awake()
	}
	c = w.calls(callID)
	for _, ph := range phones {
		invites = append(invites, ph.rings(callID))
		c.hears("SIP/2.0 180")
	}
	return c, invites
}

// strangersFlowEnds is a flow on which nobody has registered: its end is no
// news to a call.
func strangersFlowEnds(_ *testing.T, w *town, ph *phone) {
	ph.connects()
	w.atOnce("call-1")
	ph.sleeps()
	w.pbx.silence()
	w.atOnce("call-2")
	w.pushed(0)
}

func TestR10_AFlowThatDiesUnderTheRingingIsFollowedToTheNext(t *testing.T) {
	forEachCrew(t, strangersFlowEnds, func(t *testing.T, w *town, phones []*phone) {
		c, invites := w.ringing(phones, "call-1")
		pass(20 * time.Second) // longer than the wake window
		ph := phones[0]
		ph.sleeps()
		w.pbx.silence() // OB-8, fork-late: an internal 503 is no answer
		pass(3 * time.Second)
		ph.wakes()
		inv := ph.rings("call-1")
		c.hears("SIP/2.0 180")
		ph.answers(inv)
		c.answered(ph)
		ph.silence()
		for i, other := range phones[1:] {
			other.hangsUp(invites[i+1])
		}
		w.pushed(len(phones)) // one ring for one call
	})
}

func TestR10_AFlowThatDiesWithoutComingBackEndsWith480(t *testing.T) {
	forEachCrew(t, strangersFlowEnds, func(t *testing.T, w *town, phones []*phone) {
		c, _ := w.ringing(phones, "call-1")
		pass(20 * time.Second)
		for _, ph := range phones {
			w.pbx.silence() // while one still rings
			ph.sleeps()
		}
		pass(13 * time.Second)
		c.ends(480)
		w.pushed(len(phones), missed(len(phones))...)
	})
}

func TestR10_WithoutATokenOnlyTheGraceIsWaited(t *testing.T) {
	forEachCrew(t, strangersFlowEnds, func(t *testing.T, w *town, phones []*phone) {
		for _, ph := range phones {
			ph.push = ""
		}
		c, _ := w.ringing(phones, "call-1")
		for _, ph := range phones {
			ph.sleeps()
		}
		pass(5*time.Second - time.Millisecond)
		w.pbx.silence()
		pass(time.Millisecond)
		c.ends(480)
		w.pushed(0)
	})
}

// R11: the phones were pushed when the tunnel went, and come to an edge that
// has no core for a moment.
func TestR11_ATunnelThatIsLostWhileACallIsHeldLosesNoCall(t *testing.T) {
	forEachCrew(t, func(_ *testing.T, w *town, ph *phone) {
		w.cutTunnel()
		w.atOnce("call-1") // whether there is an edge or not
		pass(5 * time.Second)
		ph.wakes()
		ph.silence()
		w.pushed(0)
	}, func(t *testing.T, w *town, phones []*phone) {
		w.asleep(phones)
		c := w.calls("call-1")
		w.pushed(len(phones))
		w.cutTunnel()
		pass(5 * time.Second)
		for _, ph := range phones {
			ph.wakes()
			ph.refuses(ph.rings("call-1"), 486)
			c.hears("SIP/2.0 180")
			ph.silence()
		}
		c.ends(486)
		w.pushed(len(phones))
	})
}

func TestR11_AnEdgeThatRestartsWhileACallIsHeldLosesNoCall(t *testing.T) {
	forEachCrew(t, func(_ *testing.T, w *town, ph *phone) {
		w.restartEdge()
		w.atOnce("call-1")
		ph.wakes()
		ph.silence()
		w.pushed(0)
	}, func(t *testing.T, w *town, phones []*phone) {
		w.asleep(phones)
		c := w.calls("call-1")
		w.pushed(len(phones))
		w.restartEdge()
		for _, ph := range phones {
			ph.wakes()
			ph.refuses(ph.rings("call-1"), 486)
			c.hears("SIP/2.0 180")
		}
		c.ends(486)
		w.pushed(len(phones))
	})
}

// The edge dies between REGISTER and its 2xx: nothing is lost but the flow.
func TestR11_AnEdgeThatRestartsUnderARegisterLosesNoCall(t *testing.T) {
	forEachCrew(t, func(_ *testing.T, w *town, ph *phone) {
		reg := ph.pending()
		w.restartEdge()
		w.pbx.say(reply(reg, 200, "Contact: "+first(reg, "Contact"))...)
		ph.silence()
		ph.wakes()
		w.pushed(0)
	}, func(t *testing.T, w *town, phones []*phone) {
		w.asleep(phones)
		c := w.calls("call-1")
		var registers []string
		for _, ph := range phones {
			registers = append(registers, ph.pending())
		}
		w.restartEdge()
		for i, ph := range phones {
			w.pbx.say(reply(registers[i], 200, "Contact: "+first(registers[i], "Contact"))...)
			ph.silence()
		}
		w.pbx.silence() // the call waits on
		for _, ph := range phones {
			ph.wakes()
			ph.refuses(ph.rings("call-1"), 486)
			c.hears("SIP/2.0 180")
		}
		c.ends(486)
		w.pushed(len(phones))
	})
}

func TestR11_AnEdgeThatRestartsUnderARingingCallIsFollowedToTheNext(t *testing.T) {
	forEachCrew(t, func(_ *testing.T, w *town, ph *phone) {
		ph.connects()
		w.restartEdge()
		w.atOnce("call-1")
		w.pushed(0)
	}, func(t *testing.T, w *town, phones []*phone) {
		c, _ := w.ringing(phones, "call-1")
		w.restartEdge()
		w.pbx.silence()
		for _, ph := range phones {
			ph.wakes()
			ph.refuses(ph.rings("call-1"), 486)
			c.hears("SIP/2.0 180")
		}
		c.ends(486)
		w.pushed(len(phones)) // the foreground's, and no more
	})
}

func TestR11_TheEndOfTheCoreAnswersWhoeverWaits(t *testing.T) {
	forEachCrew(t, func(_ *testing.T, w *town, ph *phone) {
		w.stopCore()
		w.startCore()
		pass(5 * time.Second)
		w.atOnce("call-1")
		w.pushed(0)
	}, func(t *testing.T, w *town, phones []*phone) {
		ringing, sleeping := w.phone("alice4", phones[0].transport).awake(), phones
		w.asleep(sleeping)
		held := w.callsAt("sip:"+w.token(sleeping[0])+"@"+advertise, "held")
		rings := w.callsAt("sip:"+w.token(ringing)+"@"+advertise, "ringing")
		inv := ringing.rings("ringing")
		rings.hears("SIP/2.0 180")
		w.pbx.say(w.asks("MESSAGE", "sip:"+w.token(ringing)+"@"+advertise, "message")...)
		ringing.hears("MESSAGE")
		done := make(chan struct{})
		go func() { w.stopCore(); close(done) }()
		synctest.Wait()
		held.hears("SIP/2.0 503")
		ringing.hearsOf("ringing", "CANCEL")
		ringing.say(reply(inv, 487)...)
		rings.hears("SIP/2.0 503")
		w.pbx.hearsOf("message", "SIP/2.0 503")
		<-done
		w.startCore()
		pass(5 * time.Second)
	})
}

// R19: the phone is on its way in the Wi-Fi when it leaves it; what it sent
// there is answered all the same, before or after.
func TestR19_AMoveDuringTheHoldBringsOneInviteAtATime(t *testing.T) {
	for order, oldFirst := range map[string]bool{"old answered first": true, "new answered first": false} {
		t.Run(order, func(t *testing.T) {
			forEachCrew(t, func(_ *testing.T, w *town, ph *phone) {
				moved := ph.moves()
				one, two := ph.pending(), moved.pending()
				w.atOnce("call-1")
				ph.grants(one)
				moved.grants(two)
				moved.silence()
				w.pushed(0)
			}, func(t *testing.T, w *town, phones []*phone) {
				w.asleep(phones)
				c := w.calls("call-1")
				for _, ph := range phones {
					moved := ph.moves()
					one, two := ph.pending(), moved.pending()
					if oldFirst {
						ph.grants(one)
						ph.hears("INVITE") // nobody is there to hear it
						moved.grants(two)
					} else {
						moved.grants(two)
						ph.grants(one)
					}
					inv := moved.rings("call-1")
					c.hears("SIP/2.0 180")
					ph.silence()
					moved.silence()
					moved.refuses(inv, 486)
				}
				c.ends(486)
				w.pushed(len(phones))
			})
		})
	}
}

func TestR19_AMoveAfter18xLeavesTheBranch(t *testing.T) {
	forEachCrew(t, comesTooLate, func(t *testing.T, w *town, phones []*phone) {
		w.asleep(phones)
		c := w.calls("call-1")
		for _, ph := range phones {
			ph.wakes()
			inv := ph.rings("call-1")
			c.hears("SIP/2.0 180")
			moved := ph.moves()
			moved.wakes()
			moved.silence() // B20: after an 18x the branch stays
			ph.refuses(inv, 486)
		}
		c.ends(486)
		w.pushed(len(phones))
	})
}
