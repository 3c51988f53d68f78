package sipproxy

import (
	"fmt"
	"strings"
	"testing"
)

func TestBadInputIsAnsweredAndHarmsNobody(t *testing.T) {
	each(t, []int{1}, func(t *testing.T, w *town, phones []*phone) {
		ph := phones[0].awake()
		reg := func(h, v string) func() []string {
			return func() []string { return with(ph.register(), h, v) }
		}
		for name, c := range map[string]struct {
			make   func() []string
			status int
		}{
			"no Call-ID":        {func() []string { return without(ph.asks("MESSAGE", "sip:c@example.com"), "Call-ID") }, 400},
			"no From":           {func() []string { return without(ph.asks("MESSAGE", "sip:c@example.com"), "From") }, 400},
			"no To":             {func() []string { return without(ph.asks("MESSAGE", "sip:c@example.com"), "To") }, 400},
			"no CSeq":           {func() []string { return without(ph.asks("MESSAGE", "sip:c@example.com"), "CSeq") }, 400},
			"another CSeq":      {func() []string { return with(ph.asks("MESSAGE", "sip:c@example.com"), "CSeq", "1 INVITE") }, 400},
			"bad Max-Forwards":  {func() []string { return with(ph.asks("MESSAGE", "sip:c@example.com"), "Max-Forwards", "many") }, 400},
			"an unknown scheme": {func() []string { return ph.asks("MESSAGE", "xmpp:c@example.com") }, 416},
			"two Call-IDs":      {func() []string { return ph.asks("MESSAGE", "sip:c@example.com", "Call-ID: 2") }, 400},
			"an unknown domain": {reg("To", "<sip:alice@example.org>"), 404},
			"no AOR":            {reg("To", "<mailto:alice@example.com>"), 400},
			"a broken Contact":  {reg("Contact", "<sip:alice@192.0.2.7"), 400},
			"two live contacts": {func() []string { return ph.register("Contact: <sip:alice@192.0.2.8>;reg-id=2") }, 400},
			"star and Expires":  {reg("Contact", "*"), 400},
			"star and another": {func() []string {
				return with(ph.register("Expires: 0", "Contact: <sip:alice@192.0.2.8>"), "Contact", "*")
			}, 400},
		} {
			ph.say(c.make()...)
			if got := ph.hears("SIP/2.0 "); !strings.HasPrefix(got, fmt.Sprint("SIP/2.0 ", c.status)) {
				t.Errorf("%s: %q, want %d", name, firstLine(got), c.status)
			}
		}
		w.pbx.silence()
		ph.silence()
		c := w.calls("call-1") // the flow lives
		ph.refuses(ph.rings("call-1"), 486)
		c.hears("SIP/2.0 180")
		c.ends(486)
	})
}

func TestSIP2_0IsTheOnlyVersion(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "tls").awake()
		req := ph.asks("MESSAGE", "sip:c@example.com")
		req[0] = strings.Replace(req[0], "SIP/2.0", "SIP/7.0", 1)
		ph.say(req...)
		ph.hears("SIP/2.0 505")
	})
}

func TestWhatIsNoSIPEndsTheFlow(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "wss").awake()
		ph.write("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		pass(0)
		if ph.ended != "protocol" {
			t.Errorf("the flow ended %q, want protocol", ph.ended)
		}
	})
}

func TestAHugeExpiresIsBounded(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "tls").connects()
		ok := ph.registers("Expires: 4294967295")
		if got := first(ok, "Contact"); !strings.HasSuffix(got, ";expires=86400") { // what the PBX gave
			t.Errorf("Contact %q", got)
		}
	})
}

func TestAClientThatFloodsIsToldSo(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "tls").awake()
		var flood []string
		for range maxPending + 10 {
			flood = append(flood, message(ph.asks("MESSAGE", "sip:carol@example.com")...))
		}
		for _, m := range flood {
			ph.write(m)
		}
		for range 10 {
			ph.hears("SIP/2.0 503")
		}
		ph.silence()
	})
}

func TestAnAckThatFitsNothingIsDropped(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "tls").awake()
		ph.say(ph.asks("ACK", "sip:carol@example.com")...)
		w.pbx.say(w.asks("ACK", "sip:unknown@"+advertise, "x")...)
		ph.silence()
		w.pbx.silence()
	})
}

func TestAPBXMayNotRegister(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		w.pbx.say(w.asks("REGISTER", "sip:example.com", "x", "Contact: <sip:x@y>")...)
		w.pbx.hears("SIP/2.0 403")
	})
}
