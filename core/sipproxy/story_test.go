package sipproxy

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// The words of the stories: alice@example.com has a phone behind the edge, and
// carol calls her from a desk behind the PBX.

const (
	aliceURN = "urn:uuid:00000000-0000-4000-8000-00000000000a"
	apns     = ";pn-provider=apns;pn-param=ABCDE12345.org.example.phone.voip&remote;pn-prid=aa11:voip&bb22:remote"
)

var seq int

// register makes a REGISTER of alice's. extra lines follow the fixed ones.
func register(extra ...string) []string {
	return registerAs("alice", "example.com", aliceURN, apns, extra...)
}

func registerAs(user, domain, urn, push string, extra ...string) []string {
	seq++
	return append([]string{
		"REGISTER sip:" + domain + " SIP/2.0",
		fmt.Sprintf("Via: SIP/2.0/TLS 192.0.2.7:50000;branch=z9hG4bKreg%d;rport", seq),
		"Max-Forwards: 70",
		fmt.Sprintf("From: <sip:%s@%s>;tag=r%d", user, domain, seq),
		fmt.Sprintf("To: <sip:%s@%s>", user, domain),
		"Call-ID: reg-" + urn,
		fmt.Sprintf("CSeq: %d REGISTER", seq),
		fmt.Sprintf(`Contact: <sip:%s@192.0.2.7:50000;transport=tls%s>;+sip.instance="<%s>";reg-id=1`, user, push, urn),
		"Supported: path, outbound, gruu",
	}, append(extra, withExpires(extra)...)...)
}

func withExpires(extra []string) []string {
	for _, l := range extra {
		if strings.HasPrefix(l, "Expires:") {
			return nil
		}
	}
	return []string{"Expires: 600"}
}

// reply answers a request that was heard.
func reply(req string, status int, extra ...string) []string {
	lines := []string{fmt.Sprintf("SIP/2.0 %d Whatever", status)}
	for _, name := range []string{"Via", "Record-Route", "From", "To", "Call-ID", "CSeq"} {
		for _, v := range header(req, name) {
			if name == "To" && status > 100 && !strings.Contains(v, "tag=") {
				v += ";tag=callee"
			}
			lines = append(lines, name+": "+v)
		}
	}
	return append(lines, extra...)
}

// registered brings alice's phone through REGISTER and the PBX's 200.
func (w *town) registered(c *script, extra ...string) {
	w.t.Helper()
	c.say(register(extra...)...)
	req := w.pbx.hears("REGISTER sip:example.com")
	w.pbx.say(reply(req, 200, "Contact: "+first(req, "Contact"))...)
	c.hears("SIP/2.0 200")
}

// token is the user part of our contact for alice's device.
func (w *town) token() string {
	w.t.Helper()
	devices := w.loc.Lookup("sip:alice@example.com")
	if len(devices) != 1 || len(devices[0].Bindings) == 0 {
		w.t.Fatalf("alice has %d devices", len(devices))
	}
	return devices[0].Bindings[0].Token
}

// invite is the PBX's INVITE to alice's device.
func (w *town) invite(callID string, extra ...string) []string {
	seq++
	return append([]string{
		"INVITE sip:" + w.token() + "@" + advertise + " SIP/2.0",
		fmt.Sprintf("Via: SIP/2.0/TCP 10.0.0.9:5060;branch=z9hG4bKinv%s", callID),
		"Via: SIP/2.0/TCP 10.0.0.33:5060;branch=z9hG4bKdesk",
		"Max-Forwards: 69",
		`From: "Carol" <sip:carol@example.com>;tag=carol`,
		"To: <sip:alice@example.com>",
		"Call-ID: " + callID,
		"CSeq: 1 INVITE",
		"Record-Route: <sip:10.0.0.9;lr>",
		"Contact: <sip:carol@10.0.0.33:5060>",
	}, extra...)
}

// inviteOf makes another request of the same transaction: CANCEL, or ACK.
func inviteOf(invite []string, method string, extra ...string) []string {
	out := []string{}
	for i, l := range invite {
		switch {
		case i == 0:
			l = method + strings.TrimPrefix(l, "INVITE")
		case strings.HasPrefix(l, "CSeq:"):
			l = "CSeq: 1 " + method
		case strings.HasPrefix(l, "Via: ") && len(out) > 1:
			continue
		case strings.HasPrefix(l, "Contact:"), strings.HasPrefix(l, "Record-Route:"):
			continue
		}
		out = append(out, l)
	}
	return append(out, extra...)
}

// asleep gives a town whose alice has registered and gone to the background.
func (w *town) asleep() {
	w.t.Helper()
	c := w.client("alice", "tls")
	w.registered(c)
	c.sleeps()
	time.Sleep(time.Minute) // fake time: the reconnect grace is long over
}

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

// dialogRequest is the PBX's request inside the dialog that a 200 opened.
func dialogRequest(method, ok string, extra ...string) []string {
	seq++
	lines := []string{
		method + " sip:alice@192.0.2.7:50000;transport=tls SIP/2.0",
		fmt.Sprintf("Via: SIP/2.0/TCP 10.0.0.9:5060;branch=z9hG4bKdlg%d", seq),
		"Max-Forwards: 69",
		"From: " + first(ok, "From"), "To: " + first(ok, "To"), "Call-ID: " + first(ok, "Call-ID"),
		fmt.Sprintf("CSeq: %d %s", map[string]int{"ACK": 1}[method]+1, method),
	}
	rr := header(ok, "Record-Route")
	for i := len(rr) - 2; i >= 0; i-- { // the PBX has taken itself off the end
		lines = append(lines, "Route: "+rr[i])
	}
	return append(lines, extra...)
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
