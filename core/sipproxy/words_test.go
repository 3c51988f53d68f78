package sipproxy

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/core/location"
	"sallyport/core/trace"
	"sallyport/tunnel"
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

// A phone is one device of a user. It is connected, or asleep.
type phone struct {
	*script
	w         *town
	user      string // "alice"
	domain    string
	urn       string // "" for a client without +sip.instance
	transport string // "tls" or "wss"
	push      string // URI parameters that hold its tokens
	callID    string // of its REGISTERs
	contact   string // instead of a Contact made of the above
}

// phone makes a phone; the name is the user's, and a digit that tells two
// phones of one user apart.
func (w *town) phone(name, transport string) *phone {
	user := strings.TrimRight(name, "0123456789")
	n := fmt.Sprintf("%012x", name)
	return &phone{
		w: w, user: user, domain: "example.com", transport: transport,
		urn: "urn:uuid:00000000-0000-4000-8000-" + n[len(n)-12:], callID: "reg-" + name,
		push: strings.NewReplacer("aa11", "aa"+name, "bb22", "bb"+name).Replace(apns),
	}
}

// homes are phones of alice on both transports, so many that each count of
// devices that a story is told for occurs.
func (w *town) phones(n int, transport string) (all []*phone) {
	for i := range n {
		all = append(all, w.phone([]string{"alice", "alice2", "alice3", "alice4"}[i], transport))
	}
	return all
}

func (ph *phone) aor() string { return "sip:" + ph.user + "@" + ph.domain }

func (ph *phone) id() location.DeviceID {
	return location.DeviceID{AOR: ph.aor(), Instance: ph.urn}
}

// uri is the phone's own contact address.
func (ph *phone) uri() string {
	t := "tls"
	if ph.transport == "wss" {
		t = "ws"
	}
	return "sip:" + ph.user + "@192.0.2.7:50000;transport=" + t
}

// register is the phone's REGISTER.
func (ph *phone) register(extra ...string) []string {
	seq++
	contact := ph.contact
	if contact == "" {
		contact = "<" + ph.uri() + ph.push + ">"
		if ph.urn != "" {
			contact += `;+sip.instance="<` + ph.urn + `>";reg-id=1`
		}
	}
	return append([]string{
		"REGISTER sip:" + ph.domain + " SIP/2.0",
		fmt.Sprintf("Via: SIP/2.0/%s 192.0.2.7:50000;branch=z9hG4bKreg%d;rport", strings.ToUpper(ph.transport), seq),
		"Max-Forwards: 70",
		fmt.Sprintf("From: <%s>;tag=r%d", ph.aor(), seq),
		"To: <" + ph.aor() + ">",
		"Call-ID: " + ph.callID,
		fmt.Sprintf("CSeq: %d REGISTER", seq),
		"Contact: " + contact,
		"Supported: path, outbound, gruu",
	}, append(extra, withExpires(extra)...)...)
}

// connects opens a flow.
func (ph *phone) connects() *phone {
	ph.w.t.Helper()
	seq++
	ph.script = ph.w.client(fmt.Sprintf("%s#%d", ph.user, seq), ph.transport)
	return ph
}

// registers brings the phone through REGISTER and the PBX's 200, and returns
// the latter as the phone hears it.
func (ph *phone) registers(extra ...string) string {
	ph.w.t.Helper()
	ph.say(ph.register(extra...)...)
	ph.w.accepts()
	return ph.hearsOf(ph.callID, "SIP/2.0 200")
}

// accepts answers the REGISTER that the PBX has heard.
func (w *town) accepts(extra ...string) {
	w.t.Helper()
	req := w.pbx.hears("REGISTER sip:example.com")
	var contacts []string
	for _, c := range header(req, "Contact") {
		contacts = append(contacts, "Contact: "+c)
	}
	w.pbx.say(reply(req, 200, append(contacts, extra...)...)...)
}

// awake and asleep are how a story finds its phones.
func (ph *phone) awake() *phone {
	ph.w.t.Helper()
	ph.connects().registers()
	return ph
}

func (ph *phone) asleep() *phone {
	ph.w.t.Helper()
	ph.awake().sleeps()
	pass(10 * time.Second) // the reconnect grace is over
	return ph
}

// wakes is what a push does.
func (ph *phone) wakes() { ph.w.t.Helper(); ph.awake() }

// rings takes the INVITE of a call and says 180.
func (ph *phone) rings(callID string) (invite string) {
	ph.w.t.Helper()
	invite = ph.hearsOf(callID, "INVITE "+ph.uri()+" SIP/2.0")
	ph.say(reply(invite, 180, "Contact: <"+ph.uri()+">")...)
	return invite
}

// answers says 200 to an INVITE, refuses something else.
func (ph *phone) answers(invite string) {
	ph.w.t.Helper()
	ph.say(reply(invite, 200, "Contact: <"+ph.uri()+ph.push+">")...)
}

func (ph *phone) refuses(invite string, status int) {
	ph.w.t.Helper()
	ph.say(reply(invite, status)...)
	ph.hearsOf(first(invite, "Call-ID"), "ACK")
}

// hangsUp takes the CANCEL of an INVITE, and ends it as a phone does.
func (ph *phone) hangsUp(invite string) (cancel string) {
	ph.w.t.Helper()
	cancel = ph.hearsOf(first(invite, "Call-ID"), "CANCEL "+ph.uri())
	ph.say(reply(cancel, 200)...)
	ph.refuses(invite, 487)
	return cancel
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
	c.hears("SIP/2.0 100")
	return c
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

// fallsSilent is what the edge says when keep-alives stop, and hearsAgain when
// they are back.
func (ph *phone) fallsSilent() { _ = ph.flow.Event(tunnel.EventSilent); synctest.Wait() }
func (ph *phone) hearsAgain()  { _ = ph.flow.Event(tunnel.EventAlive); synctest.Wait() }

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
