package sipproxy

import (
	"cmp"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/core/location"
	"sallyport/tunnel"
)

// A phone is one device of a user. It is connected, or asleep.
type phone struct {
	*script
	w          *town
	user       string // "alice"
	domain     string
	urn        string // "" for a client without +sip.instance
	transport  string // "tls" or "wss"
	push       string // URI parameters that hold its tokens
	callID     string // of its REGISTERs
	contact    string // instead of a Contact made of the above
	dialogPush string // URI parameters of its Contact inside dialogs, beside push
	at         string // its address; "" is home
}

// home is where phones are that have not moved.
const home = "192.0.2.7:50000"

func (ph *phone) address() string { return cmp.Or(ph.at, home) }

// moves is the phone on another network, with another address and a flow of
// its own; the one it was on stays open, with nobody at its end any more.
func (ph *phone) moves() *phone {
	moved := *ph
	moved.script, moved.at = nil, "198.51.100.9:40000"
	return &moved
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
	return "sip:" + ph.user + "@" + ph.address() + ";transport=" + t
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
	ph.script = ph.w.client(fmt.Sprintf("%s#%d", ph.user, seq), ph.transport, ph.address())
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
	ph.say(reply(invite, 200, "Contact: <"+ph.uri()+ph.push+ph.dialogPush+">")...)
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

// fallsSilent is what the edge says when keep-alives stop, and hearsAgain when
// they are back.
func (ph *phone) fallsSilent() { _ = ph.flow.Event(tunnel.EventSilent); synctest.Wait() }
func (ph *phone) hearsAgain()  { _ = ph.flow.Event(tunnel.EventAlive); synctest.Wait() }

// dials is an INVITE that the phone makes.
func (ph *phone) dials(uri, callID string, extra ...string) []string {
	seq++
	return append([]string{
		"INVITE " + uri + " SIP/2.0",
		fmt.Sprintf("Via: SIP/2.0/%s 192.0.2.7:50000;branch=z9hG4bKout%d;rport", strings.ToUpper(ph.transport), seq),
		"Max-Forwards: 70",
		fmt.Sprintf("From: <%s>;tag=%s", ph.aor(), ph.user),
		"To: <" + uri + ">",
		"Call-ID: " + callID,
		"CSeq: 1 INVITE",
		"Contact: <" + ph.uri() + ph.push + ph.dialogPush + ">",
	}, extra...)
}

// asks is a request of the phone outside a dialog, other than INVITE.
func (ph *phone) asks(method, uri string, extra ...string) []string {
	seq++
	return append([]string{
		method + " " + uri + " SIP/2.0",
		fmt.Sprintf("Via: SIP/2.0/%s 192.0.2.7:50000;branch=z9hG4bKask%d", strings.ToUpper(ph.transport), seq),
		"Max-Forwards: 70",
		fmt.Sprintf("From: <%s>;tag=%s", ph.aor(), ph.user),
		"To: <" + uri + ">",
		fmt.Sprintf("Call-ID: ask-%d", seq),
		"CSeq: 1 " + method,
	}, extra...)
}

// registersHere is a refresh on the phone's flow, which the core answers.
func (ph *phone) registersHere(t *testing.T) string {
	t.Helper()
	ph.say(ph.register()...)
	ph.w.pbx.silence()
	return ph.hears("SIP/2.0 200")
}
