package sipproxy

import (
	"testing"
	"testing/synctest"
	"time"
)

// The end of the core, and its next life on the same store.

func TestARestartLeavesFlowsAndTheirRights(t *testing.T) {
	each(t, []int{1}, func(t *testing.T, w *town, phones []*phone) {
		ph := phones[0].awake()
		w.restart()
		if ph.ended != "" {
			t.Fatalf("the flow ended: %s", ph.ended)
		}
		ph.say(ph.asks("MESSAGE", "sip:carol@example.com")...)
		w.pbx.say(reply(w.pbx.hears("MESSAGE"), 202)...)
		ph.hears("SIP/2.0 202")
		c := w.calls("call-1")
		ph.refuses(ph.rings("call-1"), 486)
		c.hears("SIP/2.0 180")
		c.ends(486)
	})
}

func TestARestartForgetsNoSleepingPhone(t *testing.T) {
	each(t, []int{1}, func(t *testing.T, w *town, phones []*phone) {
		ph := phones[0].asleep()
		token := w.token(ph)
		w.restart()
		c := w.callsAt("sip:"+token+"@"+advertise, "call-1")
		w.pushed(1)
		ph.wakes()
		ph.refuses(ph.rings("call-1"), 486)
		c.hears("SIP/2.0 180")
		c.ends(486)
	})
}

func TestAFlowThatIsNotKnownAfterARestartIsToldToReconnect(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "wss").connects() // never registered
		w.restart()
		if ph.ended != "reconnect" {
			t.Errorf("the flow ended %q, want reconnect", ph.ended)
		}
	})
}

func TestAReopenedFlowFreesWhoWaits(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "tls").awake()
		ok := w.dialog(ph)
		w.stopCore()
		w.startCore()
		synctest.Wait() // the PBX is there, the tunnel may not be
		w.pbx.say(dialogRequest("BYE", ok)...)
		pass(5 * time.Second)
		ph.say(reply(ph.hears("BYE"), 200)...)
	})
}

func TestAConnectionThatEndedIsNotKept(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		pass(5 * time.Second)
		late := w.proxy.livePBX("example.com").up
		w.pbx.conn.Close()
		pass(time.Second)
		if pe := w.proxy.upPeer(late); !pe.isGone() {
			t.Error("a request may wait there")
		}
		w.proxy.upMu.Lock()
		defer w.proxy.upMu.Unlock()
		if _, kept := w.proxy.ups[late]; kept {
			t.Error("nobody will ever say again that it ended")
		}
	})
}
