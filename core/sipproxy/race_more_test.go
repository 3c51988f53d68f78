package sipproxy

import (
	"testing"
	"testing/synctest"
	"time"
)

// Races beside the matrix.

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
