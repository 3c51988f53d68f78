package sipproxy

import (
	"strings"
	"testing"
)

func TestAStrangerMayNotHoldMuchMemory(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		c := w.phone("alice", "tls").connects()
		body := strings.Repeat("x", 60<<10)
		for range 4 {
			c.say(append(c.asks("INVITE", "sip:carol@example.com"), "", body)...)
		}
		for _, want := range []string{"403", "403", "503", "503"} {
			c.hears("SIP/2.0 " + want)
		}
	})
}

func TestTheACKOfAFailureHasOneVia(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "wss").awake()
		ph.say(ph.dials("sip:carol@example.com", "busy")...)
		ph.hears("SIP/2.0 100")
		inv := w.pbx.hears("INVITE")
		if len(header(inv, "Via")) != 2 {
			t.Fatalf("Via %q", header(inv, "Via"))
		}
		w.pbx.say(reply(inv, 486)...)
		if ack := w.pbx.hears("ACK"); len(header(ack, "Via")) != 1 || header(ack, "Via")[0] != header(inv, "Via")[0] {
			t.Errorf("Via of the ACK %q", header(ack, "Via"))
		}
		ph.hears("SIP/2.0 486")
	})
}
