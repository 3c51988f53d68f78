package sipproxy

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// The race matrix, R1 to R13 and R17 to R20: what may happen at the same time,
// and what then must. Each race is told for both transports and for 0, 1 and 2
// devices of alice's; the story for none is a story of its own, since then
// there is nobody to race with, and still somebody who calls.

const aliceAOR = "sip:alice@example.com"

// forEachCrew tells a race. nobody is the story of an alice without a device,
// some that of one or two: its phones are made, and neither connected nor
// known to the PBX.
func forEachCrew(t *testing.T, nobody func(t *testing.T, w *town, ph *phone), some func(t *testing.T, w *town, phones []*phone), with ...func(*Config)) {
	t.Helper()
	for _, transport := range []string{"tls", "wss"} {
		t.Run(transport, func(t *testing.T) {
			for n := range 3 {
				t.Run(fmt.Sprintf("%d devices", n), func(t *testing.T) {
					inTown(t, func(t *testing.T, w *town) {
						if n == 0 {
							nobody(t, w, w.phone("alice", transport))
							return
						}
						some(t, w, w.phones(n, transport))
					}, with...)
				})
			}
		})
	}
}

// atOnce has carol call an alice who has no device: she hears 480 now.
func (w *town) atOnce(callID string, extra ...string) {
	w.t.Helper()
	start := time.Now()
	w.invites(aliceAOR, callID, extra...).ends(480)
	if took := time.Since(start); took != 0 {
		w.t.Errorf("480 after %v, want at once", took)
	}
}

// comesTooLate is the common story of nobody: the call is refused at once, and
// who registers a moment later hears nothing of it.
func comesTooLate(_ *testing.T, w *town, ph *phone) {
	w.atOnce("call-1")
	ph.wakes()
	ph.silence()
	w.pushed(0)
}

// hangsUpTooLate is that of a caller whose CANCEL crosses the 480: it is
// answered, and changes nothing.
func hangsUpTooLate(_ *testing.T, w *town, ph *phone) {
	c := w.invites(aliceAOR, "call-1")
	c.hears("SIP/2.0 480")
	c.cancels()
	w.pbx.say(inviteOf(c.invite, "ACK")...)
	ph.wakes()
	ph.silence()
	w.pbx.silence()
	w.pushed(0)
}

// asleep puts a crew to sleep, one after the other.
func (w *town) asleep(phones []*phone) {
	w.t.Helper()
	for _, ph := range phones {
		ph.asleep()
	}
}

// pending has a phone connect and REGISTER, and returns what the PBX hears of
// it and has not answered yet.
func (ph *phone) pending(extra ...string) (register string) {
	ph.w.t.Helper()
	ph.connects().say(ph.register(extra...)...)
	return ph.w.pbx.hearsOf(ph.callID, "REGISTER")
}

// grants answers a REGISTER that is pending, and the phone hears that.
func (ph *phone) grants(register string) {
	ph.w.t.Helper()
	ph.w.pbx.say(reply(register, 200, "Contact: "+first(register, "Contact"))...)
	ph.hearsOf(ph.callID, "SIP/2.0 200")
}

// missed are the notes of a call that n devices missed.
func missed(n int) (notes []string) {
	for range n {
		notes = append(notes, "missed")
	}
	return notes
}

// elsewhere are the notes of a call that another of n devices answered.
func elsewhere(n int) (notes []string) {
	for range n - 1 {
		notes = append(notes, "answered_elsewhere")
	}
	return notes
}

// took fails unless no more than a settling's time has gone by since start.
func (w *town) took(start time.Time, most time.Duration) {
	w.t.Helper()
	synctest.Wait()
	if d := time.Since(start); d > most {
		w.t.Errorf("took %v, want %v at most", d, most)
	}
}
