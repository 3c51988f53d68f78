package sipproxy

import (
	"fmt"
	"strings"
	"testing"

	"sallyport/core/trace"
)

// The words of the stories: alice@example.com has a phone behind the edge, and
// carol calls her from a desk behind the PBX.

const (
	aliceURN = "urn:uuid:00000000-0000-4000-8000-00000000000a"
	apns     = ";pn-provider=apns;pn-param=ABCDE12345.org.example.phone.voip&remote;pn-prid=aa11:voip&bb22:remote"
)

var seq int

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

// dialogRequest is the PBX's request inside the dialog that a 200 opened.
func dialogRequest(method, ok string, extra ...string) []string {
	seq++
	lines := []string{
		method + " " + strings.Trim(first(ok, "Contact"), "<>") + " SIP/2.0",
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

// A call is one that carol makes through the PBX.
type call struct {
	w      *town
	id     string
	invite []string
}

// calls has carol call alice, whose devices are ours to find. The PBX hears
// 100 at once.
func (w *town) calls(callID string, extra ...string) *call {
	w.t.Helper()
	return w.callsAt("sip:alice@example.com", callID, extra...)
}

func (w *town) callsAt(uri, callID string, extra ...string) *call {
	w.t.Helper()
	c := w.invites(uri, callID, extra...)
	c.hears("SIP/2.0 100")
	return c
}

func (w *town) invites(uri, callID string, extra ...string) *call {
	w.t.Helper()
	c := &call{w: w, id: callID, invite: append([]string{
		"INVITE " + uri + " SIP/2.0",
		"Via: SIP/2.0/TCP 10.0.0.9:5060;branch=z9hG4bKinv" + callID,
		"Via: SIP/2.0/TCP 10.0.0.33:5060;branch=z9hG4bKdesk",
		"Max-Forwards: 69",
		`From: "Carol" <sip:carol@example.com>;tag=carol`,
		"To: <sip:alice@example.com>",
		"Call-ID: " + callID,
		"CSeq: 1 INVITE",
		"Record-Route: <sip:10.0.0.9;lr>",
		"Contact: <sip:carol@10.0.0.33:5060>",
	}, extra...)}
	w.pbx.say(c.invite...)
	return c
}

// refused is a call that is answered without a wait.
func (w *town) refused(uri, callID string, status int) {
	w.t.Helper()
	c := w.invites(uri, callID)
	c.ends(status)
}

func (c *call) hears(start string) string { c.w.t.Helper(); return c.w.pbx.hearsOf(c.id, start) }

// ends takes a failure and confirms it.
func (c *call) ends(status int) string {
	c.w.t.Helper()
	m := c.hears(fmt.Sprintf("SIP/2.0 %d", status))
	c.w.pbx.say(inviteOf(c.invite, "ACK")...)
	return m
}

// cancels has carol hang up; the CANCEL is answered at once.
func (c *call) cancels(extra ...string) {
	c.w.t.Helper()
	c.w.pbx.say(inviteOf(c.invite, "CANCEL", extra...)...)
	c.hears("SIP/2.0 200")
}

// answered takes the 200 of a call, confirms it and hangs up later, so that
// the story ends as calls do.
func (c *call) answered(by *phone) (ok string) {
	c.w.t.Helper()
	ok = c.hears("SIP/2.0 200")
	c.w.pbx.say(dialogRequest("ACK", ok)...)
	by.hearsOf(c.id, "ACK")
	return ok
}

// steps returns the trace of a call to alice, as words, and its end.
func (w *town) steps(callID string) (steps, outcome, failed string) {
	w.t.Helper()
	for _, tr := range w.traces.ByAOR("alice@example.com") {
		if tr.CallID != callID {
			continue
		}
		return stepWords(tr), tr.Outcome, tr.FailedStep
	}
	w.t.Fatalf("no trace of %s", callID)
	return "", "", ""
}

func stepWords(tr trace.Trace) string {
	var words []string
	for _, s := range tr.Steps {
		words = append(words, s.Step)
	}
	return strings.Join(words, " ")
}

// each tells a story on both kinds of flows, for each number of devices.
func each(t *testing.T, devices []int, story func(t *testing.T, w *town, phones []*phone)) {
	for _, transport := range []string{"tls", "wss"} {
		for _, n := range devices {
			t.Run(fmt.Sprintf("%s, %d devices", transport, n), func(t *testing.T) {
				inTown(t, func(t *testing.T, w *town) { story(t, w, w.phones(n, transport)) })
			})
		}
	}
}

// token is the user part of our contact for a phone.
func (w *town) token(ph *phone) string {
	w.t.Helper()
	dev, ok := w.loc.Device(ph.id())
	if !ok || len(dev.Bindings) == 0 {
		w.t.Fatalf("%s has no binding", ph.user)
	}
	return dev.Bindings[0].Token
}

// asks is a request of the PBX outside a dialog.
func (w *town) asks(method, uri, callID string, extra ...string) []string {
	seq++
	return append([]string{
		method + " " + uri + " SIP/2.0",
		fmt.Sprintf("Via: SIP/2.0/TCP 10.0.0.9:5060;branch=z9hG4bKask%d", seq),
		"Max-Forwards: 69",
		"From: <sip:carol@example.com>;tag=carol",
		"To: <sip:alice@example.com>",
		"Call-ID: " + callID,
		"CSeq: 1 " + method,
	}, extra...)
}
