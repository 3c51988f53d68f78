package sipproxy

import (
	"testing"
	"time"
)

// overUDP tells a story with a PBX that speaks UDP.
func overUDP(t *testing.T, story func(t *testing.T, w *town, pbx *script)) {
	inTown(t, func(t *testing.T, w *town) {
		w.stopCore()
		w.pbxOver = "udp"
		w.startCore()
		pass(5 * time.Second)
		w.tunnelUp()
		w.pbx = w.datagrams("10.0.0.9:5060")
		story(t, w, w.pbx)
	})
}

func TestOverUDPARequestIsRepeatedUntilItIsHeard(t *testing.T) {
	overUDP(t, func(t *testing.T, w *town, pbx *script) {
		ph := w.phone("alice", "tls").connects()
		ph.say(ph.register()...)
		reg := pbx.hears("REGISTER")
		pass(500 * time.Millisecond)
		if again := pbx.hears("REGISTER"); again != reg {
			t.Error("the REGISTER was not repeated as it was")
		}
		ok := message(reply(reg, 200, "Contact: "+first(reg, "Contact"))...)
		pbx.write(ok, ok)
		ph.hears("SIP/2.0 200")
		ph.silence()
		pass(time.Minute)
		pbx.silence()
	})
}

func TestOverUDPARepeatedRefusalIsConfirmedAtOnce(t *testing.T) {
	overUDP(t, func(t *testing.T, w *town, pbx *script) {
		ph := w.phone("alice", "tls").connects()
		ph.say(ph.register()...)
		w.accepts()
		ph.hears("SIP/2.0 200")
		out := ph.dials("sip:carol@example.com", "out")
		ph.say(out...)
		ph.hears("SIP/2.0 100")
		inv := pbx.hears("INVITE")
		busy := reply(inv, 486)
		start := time.Now()
		for range 3 {
			pbx.say(busy...)
			ack := pbx.hears("ACK sip:carol@example.com")
			if first(ack, "To") != first(message(busy...), "To") || len(header(ack, "Via")) != 1 || first(ack, "Via") != first(inv, "Via") {
				t.Errorf("the ACK is\n%s", ack)
			}
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("the PBX's messages waited %v", took)
		}
		ph.hears("SIP/2.0 486")
		ph.say(inviteOf(out, "ACK")...)
		ph.silence()
	})
}

func TestOverUDPARepeatedInviteRingsOnce(t *testing.T) {
	overUDP(t, func(t *testing.T, w *town, pbx *script) {
		ph := w.phone("alice", "wss").connects()
		ph.say(ph.register()...)
		w.accepts()
		ph.hears("SIP/2.0 200")
		c := w.calls("call-1")
		pbx.say(c.invite...)
		c.hears("SIP/2.0 100")
		inv := ph.rings("call-1")
		ph.silence()
		c.hears("SIP/2.0 180")
		pbx.say(c.invite...)
		c.hears("SIP/2.0 180")
		ph.refuses(inv, 486)
		c.hears("SIP/2.0 486")
		pass(500 * time.Millisecond)
		c.hears("SIP/2.0 486") // Timer G
		pbx.say(inviteOf(c.invite, "ACK")...)
		pass(time.Minute)
		pbx.silence()
	})
}
