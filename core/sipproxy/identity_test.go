package sipproxy

import (
	"strings"
	"testing"
	"time"
)

// Who may send what: decisions 4 and 10.

func TestD4_AFlowMaySendOnlyForWhatThePBXAcceptedOnIt(t *testing.T) {
	each(t, []int{1}, func(t *testing.T, w *town, phones []*phone) {
		ph := phones[0].connects()
		for _, method := range []string{"INVITE", "MESSAGE", "SUBSCRIBE", "PUBLISH", "FROBNICATE"} {
			ph.say(ph.asks(method, "sip:carol@example.com")...)
			ph.hears("SIP/2.0 403") // nobody yet
		}
		ph.say(ph.asks("OPTIONS", "sip:example.com")...)
		ph.hears("SIP/2.0 200")
		ph.say(ph.asks("OPTIONS", "sip:carol@example.com")...)
		ph.hears("SIP/2.0 200")
		w.pbx.silence()
		ph.say(ph.register()...)
		w.accepts(`P-Associated-URI: <sip:+4930123@example.com>, "Office" <sip:office@example.com>`)
		ph.hears("SIP/2.0 200")
		for name, c := range map[string]struct {
			from, preferred string
			ok              bool
		}{
			"the AOR":                     {"<sip:alice@example.com>;tag=1", "", true},
			"the AOR in another case":     {"<sip:alice@EXAMPLE.com>;tag=1", "", true},
			"an associated URI":           {"<sip:office@example.com>;tag=1", "", true},
			"another user":                {"<sip:bob@example.com>;tag=1", "", false},
			"another domain":              {"<sip:alice@example.org>;tag=1", "", false},
			"the user in another case":    {"<sip:Alice@example.com>;tag=1", "", false},
			"anonymous with identity":     {`"Anonymous" <sip:anonymous@anonymous.invalid>;tag=1`, "<sip:alice@example.com>", true},
			"anonymous, another identity": {`<sip:anonymous@anonymous.invalid>;tag=1`, "<sip:bob@example.com>", false},
			"anonymous, no identity":      {`<sip:anonymous@anonymous.invalid>;tag=1`, "", false},
			"another user with identity":  {"<sip:bob@example.com>;tag=1", "<sip:alice@example.com>", false},
		} {
			req := with(ph.asks("MESSAGE", "sip:carol@example.com"), "From", c.from)
			if c.preferred != "" {
				req = append(req, "P-Preferred-Identity: "+c.preferred)
			}
			ph.say(req...)
			if !c.ok {
				if got := ph.hears("SIP/2.0 "); !strings.HasPrefix(got, "SIP/2.0 403") {
					t.Errorf("%s: %q", name, firstLine(got))
				}
				continue
			}
			w.pbx.say(reply(w.pbx.hears("MESSAGE"), 202)...)
			ph.hears("SIP/2.0 202")
		}
		w.pbx.silence()
	})
}

func TestD4_WhatOnlyTheInsideMayAssertIsRemoved(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "tls").awake()
		asserted := []string{"P-Asserted-Identity: <sip:boss@example.com>", "Remote-Party-ID: <sip:boss@example.com>",
			"P-Charging-Vector: icid-value=1", "P-Charging-Function-Addresses: ccf=1", "Path: <sip:x;lr>"}
		ph.say(ph.asks("MESSAGE", "sip:carol@example.com", asserted...)...)
		req := w.pbx.hears("MESSAGE")
		for _, h := range asserted {
			name, _, _ := strings.Cut(h, ":")
			if first(req, name) != "" {
				t.Errorf("%s went to the PBX", name)
			}
		}
		w.pbx.say(reply(req, 200)...)
		ph.hears("SIP/2.0 200")
		c := w.calls("call-1", "P-Asserted-Identity: <sip:+49301@example.com>")
		inv := ph.rings("call-1")
		if first(inv, "P-Asserted-Identity") == "" {
			t.Error("what the PBX asserts does not reach the phone")
		}
		c.hears("SIP/2.0 180")
		ph.say(reply(inv, 486, "P-Asserted-Identity: <sip:boss@example.com>")...)
		ph.hears("ACK")
		if m := c.ends(486); first(m, "P-Asserted-Identity") != "" {
			t.Error("what a phone asserts in an answer went to the PBX")
		}
	})
}

func TestD10_ARouteThatIsNotOursIsForbidden(t *testing.T) {
	each(t, []int{1}, func(t *testing.T, w *town, phones []*phone) {
		ph := phones[0].awake()
		own := "<sip:" + w.token(ph) + "@" + public + ";transport=tls;lr>"
		for _, route := range []string{
			"<sip:10.0.0.99:22;lr>", "<sip:evil.example;lr>", "<sip:made-up@" + public + ";lr>", "<sip:made-up@" + advertise + ";lr>",
			own + ", <sip:10.0.0.99:22;lr>",
		} {
			ph.say(ph.asks("MESSAGE", "sip:carol@example.com", "Route: "+route)...)
			ph.hears("SIP/2.0 403")
			ph.say(ph.register("Route: " + route)...)
			ph.hears("SIP/2.0 403")
		}
		w.pbx.silence()
		for _, route := range []string{"<sip:edge.example.com:5061;transport=tls;lr>", "<sip:edge.example.com;lr>"} { // an outbound proxy
			ph.say(ph.asks("MESSAGE", "sip:carol@example.com", "Route: "+route)...)
			req := w.pbx.hears("MESSAGE")
			if first(req, "Route") != "" {
				t.Errorf("Route %q went to the PBX", first(req, "Route"))
			}
			w.pbx.say(reply(req, 200)...)
			ph.hears("SIP/2.0 200")
		}
	})
}

func TestD10_TheHostOfARequestURIIsNeverResolved(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "tls").awake()
		for _, uri := range []string{"sip:x@169.254.169.254:80", "sip:x@evil.example;maddr=10.0.0.99", "tel:+4930123", "sip:root@localhost;transport=udp"} {
			ph.say(ph.asks("MESSAGE", uri)...)
			req := w.pbx.hears("MESSAGE " + uri)
			w.pbx.say(reply(req, 404)...)
			ph.hears("SIP/2.0 404")
		}
	})
}

func TestTU28_ATokenOfAnotherInstanceIsForbidden(t *testing.T) {
	each(t, []int{2}, func(t *testing.T, w *town, phones []*phone) {
		victim, ph := phones[0].awake(), phones[1]
		ok := w.dialog(victim)
		ph.awake()
		for _, method := range []string{"INVITE", "BYE", "INFO"} {
			ph.say(ph.inDialog(method, ok, w.token(victim))...)
			ph.hears("SIP/2.0 403")
		}
		ph.say(ph.inDialog("ACK", ok, w.token(victim))...)
		ph.say(ph.asks("MESSAGE", "sip:"+w.token(victim)+"@"+advertise)...)
		ph.hears("SIP/2.0 403")
		ph.say(ph.asks("MESSAGE", "sip:carol@example.com", "Route: <sip:"+w.token(victim)+"@"+public+";lr>")...)
		ph.hears("SIP/2.0 403")
		victim.silence()
		w.pbx.silence()
	})
}

// sealedIn is the user part of the Record-Route value that the phone was given.
func sealedIn(ok string) string {
	user, _, _ := strings.Cut(strings.TrimPrefix(first(ok, "Record-Route"), "<sip:"), "@")
	return user
}

// inDialog is the phone's request inside a dialog, with the token on top.
func (ph *phone) inDialog(method, ok, token string) []string {
	req := ph.asks(method, "sip:carol@10.0.0.33:5060", "Route: <sip:"+token+"@"+public+";transport=tls;lr>",
		"Route: <sip:"+token+"@"+advertise+";transport=tcp;lr>", "Route: <sip:10.0.0.9;lr>")
	req = with(req, "From", first(ok, "To"))
	req = with(req, "To", first(ok, "From"))
	return with(req, "Call-ID", first(ok, "Call-ID"))
}

func TestD10_ACalleesRequestsGoAlongTheDialogWhateverItsFrom(t *testing.T) {
	each(t, []int{1}, func(t *testing.T, w *town, phones []*phone) {
		ph := phones[0].awake()
		ok := w.dialog(ph)
		ph.say(with(ph.inDialog("BYE", ok, sealedIn(ok)), "From", "<sip:huntgroup@pbx.example>;tag=callee")...)
		bye := w.pbx.hears("BYE sip:carol@10.0.0.33:5060")
		if r := header(bye, "Route"); len(r) != 1 || r[0] != "<sip:10.0.0.9;lr>" {
			t.Errorf("Route to the PBX %q", r)
		}
		w.pbx.say(reply(bye, 200)...)
		ph.hears("SIP/2.0 200")
	})
}

func TestD10_OurRoutesAreKnownHoweverAClientWritesThem(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "tls").awake()
		ok := w.dialog(ph)
		for _, route := range []string{
			"<sip:%@" + public + ";transport=tls;lr=on>, <sip:%@" + advertise + ";transport=tcp;lr=on>",
			`"core" <sip:%@EDGE.example.com:5061;lr>;x=y,<sip:%@` + advertise + ";lr;transport=TCP>;a=b",
		} {
			bye := without(ph.inDialog("INFO", ok, sealedIn(ok)), "Route")
			ph.say(append(bye, "Route: "+strings.ReplaceAll(strings.Replace(route, "%", sealedIn(ok), 1), "%", w.token(ph)))...)
			req := w.pbx.hears("INFO")
			if first(req, "Route") != "" {
				t.Errorf("Route to the PBX %q", header(req, "Route"))
			}
			w.pbx.say(reply(req, 200)...)
			ph.hears("SIP/2.0 200")
		}
	})
}

func TestD10_AStrangerGets403OnTCPAndNothingOnUDP(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "tls").awake()
		inv := w.asks("INVITE", "sip:"+w.token(ph)+"@"+advertise, "x")
		tcp := w.caller("203.0.113.66:4444")
		tcp.say(inv...)
		tcp.hears("SIP/2.0 403")
		pass(time.Second)
		if tcp.ended == "" {
			t.Error("the stranger's connection lives on")
		}
		udp := w.datagrams("203.0.113.66:5060")
		udp.say(inv...)
		udp.silence()
		ph.silence()
		w.pushed(0)
	})
}

func TestAPBXMayCallOverConnectionsOfItsOwn(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "tls").awake()
		for name, pbx := range map[string]*script{"tcp": w.caller("10.0.0.9:39999"), "udp": w.datagrams("10.0.0.9:5060")} {
			inv := with(w.asks("INVITE", "sip:alice@"+advertise, name), "Via", "SIP/2.0/"+strings.ToUpper(name)+" 10.0.0.9:5060;branch=z9hG4bK"+name)
			pbx.say(inv...)
			pbx.hears("SIP/2.0 100")
			phoneInv := ph.hears("INVITE")
			if rr := header(phoneInv, "Record-Route"); len(rr) != 2 || !strings.Contains(rr[1], ";transport="+name) {
				t.Errorf("Record-Route %q", rr)
			}
			ph.refuses(phoneInv, 486)
			pbx.hears("SIP/2.0 486")
			pbx.say(inviteOf(inv, "ACK")...)
			pass(0)
			pbx.silence()
		}
	})
}
