package sipproxy

import (
	"testing"
	"time"
)

// R1 and R2: a caller who hangs up, at each of the moments at which that is
// another thing.

func TestR1_InviteAndCancelInOneSegment(t *testing.T) {
	both := func(w *town) (invite []string) {
		inv := []string{
			"INVITE " + aliceAOR + " SIP/2.0",
			"Via: SIP/2.0/TCP 10.0.0.9:5060;branch=z9hG4bKboth",
			"Max-Forwards: 69", "From: <sip:carol@example.com>;tag=c", "To: <" + aliceAOR + ">",
			"Call-ID: both", "CSeq: 1 INVITE",
		}
		w.pbx.write(message(inv...) + message(inviteOf(inv, "CANCEL")...))
		return inv
	}
	nobody := func(_ *testing.T, w *town, ph *phone) {
		both(w)
		w.pbx.hears("SIP/2.0 480")
		w.pbx.hears("SIP/2.0 200") // the CANCEL is matched all the same
		ph.wakes()
		ph.silence()
		w.pushed(0)
	}
	forEachCrew(t, nobody, func(t *testing.T, w *town, phones []*phone) {
		w.asleep(phones)
		w.pushes.connect = 20 * time.Millisecond
		inv := both(w)
		w.pbx.hears("SIP/2.0 100")
		w.pbx.hears("SIP/2.0 200")
		w.pbx.hears("SIP/2.0 487")
		w.pbx.say(inviteOf(inv, "ACK")...)
		pass(time.Minute)
		w.pushed(0)
		w.pbx.silence()
	})
}

func TestR2_CancelBeforeThePushLeftStopsIt(t *testing.T) {
	forEachCrew(t, hangsUpTooLate, func(t *testing.T, w *town, phones []*phone) {
		w.asleep(phones)
		w.pushes.connect = time.Second
		c := w.calls("call-1")
		pass(500 * time.Millisecond)
		c.cancels()
		c.ends(487)
		pass(time.Minute)
		w.pushed(0)
		for _, ph := range phones {
			ph.wakes()
			ph.silence() // B28: no late INVITE where no push left
		}
	})
}

func TestR2_CancelAfterThePushBeforeRegister(t *testing.T) {
	forEachCrew(t, hangsUpTooLate, func(t *testing.T, w *town, phones []*phone) {
		w.asleep(phones)
		c := w.calls("call-1")
		w.pushed(len(phones))
		start := time.Now()
		c.cancels(`Reason: SIP;cause=480;text="gone"`)
		c.ends(487)
		w.took(start, 0)
		for _, ph := range phones {
			ph.wakes()
			inv := ph.rings("call-1")
			if got := first(ph.hangsUp(inv), "Reason"); got != `SIP;cause=480;text="gone"` {
				t.Errorf("Reason %q", got)
			}
		}
		w.pushed(len(phones)) // and no missed call: the phone was shown the end
		w.pbx.silence()
	})
}

func TestR2_CancelBetweenRegisterAndIts2xx(t *testing.T) {
	forEachCrew(t, func(_ *testing.T, w *town, ph *phone) {
		reg := ph.pending()
		w.atOnce("call-1") // nothing is bound before the 2xx
		ph.grants(reg)
		ph.silence()
		w.pushed(0)
	}, func(t *testing.T, w *town, phones []*phone) {
		w.asleep(phones)
		c := w.calls("call-1")
		registers := make([]string, len(phones))
		for i, ph := range phones {
			registers[i] = ph.pending()
		}
		c.cancels()
		c.ends(487)
		for i, ph := range phones {
			ph.silence()
			ph.grants(registers[i])
			ph.hangsUp(ph.rings("call-1"))
			ph.silence()
		}
		w.pushed(len(phones))
		w.pbx.silence()
	})
}

func TestR2_CancelAfterTheInviteLeftAndBeforeA1xx(t *testing.T) {
	forEachCrew(t, hangsUpTooLate, func(t *testing.T, w *town, phones []*phone) {
		w.asleep(phones)
		c := w.calls("call-1")
		invites := make([]string, len(phones))
		for i, ph := range phones {
			ph.wakes()
			invites[i] = ph.hears("INVITE")
		}
		start := time.Now()
		c.cancels()
		for _, ph := range phones {
			ph.silence() // RFC 3261 §9.1: no CANCEL before a response
		}
		pass(cancelPatienceQuiet)
		c.ends(487)
		w.took(start, time.Second)
		for i, ph := range phones {
			ph.say(reply(invites[i], 180)...)
			ph.hangsUp(invites[i])
		}
		pass(time.Minute)
		w.pushed(len(phones))
		w.pbx.silence() // the late 180 and 487 are nobody's
	})
}

func TestR2_CancelCrossing200(t *testing.T) {
	forEachCrew(t, hangsUpTooLate, func(t *testing.T, w *town, phones []*phone) {
		for _, ph := range phones {
			ph.awake()
		}
		c := w.calls("call-1")
		var invites []string
		for _, ph := range phones {
			invites = append(invites, ph.rings("call-1"))
			c.hears("SIP/2.0 180")
		}
		c.cancels()
		for i, ph := range phones {
			ph.hearsOf("call-1", "CANCEL")
			if i > 0 {
				ph.refuses(invites[i], 487)
			}
		}
		phones[0].answers(invites[0]) // it was on its way
		c.answered(phones[0])         // PX-4: any 2xx goes through
		if len(phones) == 1 {
			w.pbx.silence()
		}
		w.pushed(len(phones))
	})
}

func TestR2_200AfterThe487HasGoneOut(t *testing.T) {
	forEachCrew(t, hangsUpTooLate, func(t *testing.T, w *town, phones []*phone) {
		for _, ph := range phones {
			ph.awake()
		}
		c := w.calls("call-1")
		var inv string
		for _, ph := range phones {
			inv = ph.hears("INVITE")
		}
		c.cancels()
		pass(cancelPatienceQuiet)
		c.ends(487)
		last := phones[len(phones)-1]
		last.answers(inv)
		c.answered(last)
		for _, ph := range phones {
			ph.silence()
		}
		w.pbx.silence()
	})
}
