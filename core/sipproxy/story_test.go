package sipproxy

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestASleepingPhoneIsWokenAndRings(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		w.asleep()
		w.pbx.say(w.invite("call-1")...)
		w.pbx.hears("SIP/2.0 100")
		w.pushed(1)
		w.pbx.silence()

		back := w.client("alice again", "tls")
		back.say(register()...)
		req := w.pbx.hears("REGISTER")
		back.silence()
		w.pbx.say(reply(req, 401, `WWW-Authenticate: Digest realm="example.com", nonce="n"`)...)
		back.hears("SIP/2.0 401")
		back.silence() // PN-12: a challenge frees nobody
		back.say(register(`Authorization: Digest username="alice", realm="example.com"`)...)
		req = w.pbx.hears("REGISTER")
		w.pbx.say(reply(req, 200, "Contact: "+first(req, "Contact"))...)
		back.hears("SIP/2.0 200")
		inv := back.hears("INVITE sip:alice@192.0.2.7:50000;transport=tls SIP/2.0")
		back.silence()
		if v := header(inv, "Via"); len(v) != 1 || !strings.HasPrefix(v[0], "SIP/2.0/TLS edge.example.com:5061;") {
			t.Errorf("Via to the client: %q", v)
		}
		if strings.Contains(inv, "pn-") {
			t.Error("push parameters went out in the INVITE")
		}
		rr := header(inv, "Record-Route")
		want := []string{"<sip:" + w.token() + "@" + public + ";transport=tls;lr>", "<sip:" + w.token() + "@" + advertise + ";transport=tcp;lr>", "<sip:10.0.0.9;lr>"}
		if strings.Join(rr, "\n") != strings.Join(want, "\n") {
			t.Errorf("Record-Route %q, want %q", rr, want)
		}
		back.say(reply(inv, 180, "Contact: <sip:alice@192.0.2.7:50000;transport=tls>")...)
		w.pbx.hears("SIP/2.0 180")
		back.say(reply(inv, 200, "Contact: <sip:alice@192.0.2.7:50000;transport=tls>")...)
		ok := w.pbx.hears("SIP/2.0 200")
		if v := header(ok, "Via"); len(v) != 2 || !strings.Contains(v[1], "z9hG4bKdesk") {
			t.Errorf("Via of the 200: %q", v)
		}
		w.pbx.say(dialogRequest("ACK", ok)...)
		back.hears("ACK sip:alice@192.0.2.7:50000")
		w.pbx.say(dialogRequest("BYE", ok)...)
		bye := back.hears("BYE sip:alice@192.0.2.7:50000")
		if len(header(bye, "Route")) != 0 || len(header(bye, "Via")) != 1 {
			t.Errorf("BYE: Route %q, Via %q", header(bye, "Route"), header(bye, "Via"))
		}
		back.say(reply(bye, 200)...)
		w.pbx.hears("SIP/2.0 200")
		w.pushed(1)
	})
}

func TestB4InTheForegroundACallGoesDownTheFlowAndIsPushedToo(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		c := w.client("alice", "wss")
		w.registered(c)
		w.pbx.say(w.invite("call-1")...)
		inv := c.hears("INVITE")
		if v := first(inv, "Via"); !strings.HasPrefix(v, "SIP/2.0/WSS ") {
			t.Errorf("Via %q, want WSS", v)
		}
		w.pushed(1)
		c.say(reply(inv, 486)...)
		c.hears("ACK")
		w.pbx.hears("SIP/2.0 100")
		w.pbx.hears("SIP/2.0 486")
		w.pushed(1)
	})
}

func TestB17TheCallerHangsUpFirstAndTheWakingPhoneIsToldWhenItComes(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		w.asleep()
		inv := w.invite("call-1")
		w.pbx.say(inv...)
		w.pbx.hears("SIP/2.0 100")
		w.pushed(1)
		w.pbx.say(inviteOf(inv, "CANCEL", "Reason: Q.850;cause=16")...)
		w.pbx.hears("SIP/2.0 200")
		w.pbx.hears("SIP/2.0 487")
		w.pbx.say(inviteOf(inv, "ACK")...)
		back := w.client("alice again", "tls")
		w.registered(back)
		late := back.hears("INVITE")
		back.say(reply(late, 180)...)
		bye := back.hears("CANCEL")
		if got := first(bye, "Reason"); got != "Q.850;cause=16" {
			t.Errorf("Reason %q", got)
		}
		back.say(reply(bye, 200)...)
		back.say(reply(late, 487)...)
		back.hears("ACK")
		w.pushed(1)
		w.pbx.silence()
	})
}

func TestB16ADeviceThatDoesNotComeEndsWith480AndAMissedCall(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		w.asleep()
		start := time.Now()
		w.pbx.say(w.invite("call-1")...)
		w.pbx.hears("SIP/2.0 100")
		time.Sleep(13 * time.Second)
		synctest.Wait()
		w.pbx.hears("SIP/2.0 480")
		if took := time.Since(start); took != 13*time.Second {
			t.Errorf("480 after %v, want 13s", took)
		}
		w.pushed(1, "missed")
	})
}
