package sipproxy

import (
	"strings"
	"testing"
	"time"
)

// What real clients are known for, where exact bytes matter. Which client is
// behind each, and where the others of its quirks are tested, stands in
// docs/connect-clients.md.

// gruus are a client's own and its PBX's, as RFC 5627 §5.3 writes them.
const (
	pubGRUU  = "sip:Alice@Example.com;gr=urn:uuid:F81D4FAE-7dec-11d0-A765-00a0c91e6bf6"
	tempGRUU = "sip:tgruu.7hs==jd7vnzga5w7fajsc7-ajd6fabz0f8g5@example.com;gr"
)

// webPage is a phone as JsSIP and SIP.js are: it is nowhere but on its flow.
func (w *town) webPage() *phone {
	ph := w.phone("alice", "wss")
	ph.contact = `<sip:k3J2q0@f8s7d6.invalid;transport=ws>;+sip.ice;reg-id=1;+sip.instance="<` + ph.urn + `>"`
	return ph
}

// atInvalid gives a request of a page the Via and Contact it has.
func atInvalid(req []string) []string {
	req = with(req, "Via", strings.Replace(first(strings.Join(req, "\r\n"), "Via"), "192.0.2.7:50000", "f8s7d6.invalid", 1))
	return with(req, "Contact", "<sip:k3J2q0@f8s7d6.invalid;transport=ws;ob>")
}

func TestQuirkAnInvalidHostInViaAndContactIsNoPlace(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.webPage().connects()
		reg := with(ph.register(), "Via", "SIP/2.0/WSS f8s7d6.invalid;branch=z9hG4bKpage1")
		ph.say(reg...)
		w.accepts()
		ok := ph.hears("SIP/2.0 200")
		// SIP.js drops a response whose sent-by is not its own, port and all.
		if vias := header(ok, "Via"); len(vias) != 1 || !strings.HasPrefix(vias[0], "SIP/2.0/WSS f8s7d6.invalid;branch=z9hG4bKpage1") {
			t.Errorf("Via %q", vias)
		}
		c := w.calls("in")
		inv := ph.hears("INVITE sip:k3J2q0@f8s7d6.invalid;transport=ws SIP/2.0")
		ph.refuses(inv, 486)
		c.ends(486)

		ph.say(atInvalid(ph.dials("sip:carol@example.com", "out"))...)
		ph.hears("SIP/2.0 100")
		inv = w.pbx.hears("INVITE sip:carol@example.com")
		w.pbx.say(reply(inv, 200, "Contact: <sip:carol@10.0.0.33>")...)
		ok = ph.hears("SIP/2.0 200")
		// The far end hangs up: its Request-URI is nowhere, its Route is ours.
		bye := []string{
			"BYE " + strings.Trim(first(inv, "Contact"), "<>") + " SIP/2.0", "Via: SIP/2.0/TCP 10.0.0.9:5060;branch=z9hG4bKbye",
			"Max-Forwards: 69", "From: " + first(ok, "To"), "To: " + first(ok, "From"), "Call-ID: out", "CSeq: 1 BYE",
		}
		for _, rr := range header(inv, "Record-Route") {
			bye = append(bye, "Route: "+rr)
		}
		w.pbx.say(bye...)
		ph.say(reply(ph.hears("BYE sip:k3J2q0@f8s7d6.invalid;transport=ws;ob SIP/2.0"), 200)...)
		w.pbx.hears("SIP/2.0 200")
	})
}

func TestQuirkAClientSeesOneViaOnly(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.webPage().connects()
		var heard []string
		hears := func(start string) string {
			t.Helper()
			m := ph.hears(start)
			heard = append(heard, m)
			return m
		}
		ph.say(ph.register()...)
		reg := w.pbx.hears("REGISTER")
		w.pbx.say(reply(reg, 401, `WWW-Authenticate: Digest realm="example.com", nonce="n"`)...)
		hears("SIP/2.0 401")
		ph.say(ph.register()...)
		w.accepts()
		hears("SIP/2.0 200")

		ph.say(ph.dials("sip:carol@example.com", "out")...)
		hears("SIP/2.0 100")
		inv := w.pbx.hears("INVITE")
		w.pbx.say(reply(inv, 180, "Contact: <sip:carol@10.0.0.33>")...)
		hears("SIP/2.0 180")
		w.pbx.say(reply(inv, 486)...)
		w.pbx.hears("ACK")
		hears("SIP/2.0 486")

		c := w.calls("in")
		inv = hears("INVITE")
		ph.say(reply(inv, 180)...)
		c.hears("SIP/2.0 180")
		c.cancels()
		ph.say(reply(hears("CANCEL"), 200)...)
		ph.say(reply(inv, 487)...)
		hears("ACK")
		c.ends(487)
		for _, m := range heard {
			if vias := header(m, "Via"); len(vias) != 1 {
				t.Errorf("%s has Via %q", firstLine(m), vias)
			}
		}
	})
}

func TestQuirkNobodyIsTold439(t *testing.T) {
	each(t, []int{1}, func(t *testing.T, w *town, phones []*phone) {
		ph := phones[0].connects()
		ph.say(ph.register("Require: outbound, gruu", "Path: <sip:elsewhere.example;lr>")...)
		reg := w.pbx.hears("REGISTER")
		// A registrar says 439 to who asks for outbound over a hop without it
		// (RFC 5626 §6): it is never asked.
		for _, word := range []string{"outbound", "gruu", "path", "reg-id", "Path:", "+sip.instance"} {
			if strings.Contains(reg, word) {
				t.Errorf("the PBX is told of %q:\n%s", word, reg)
			}
		}
		w.pbx.say(reply(reg, 200, "Contact: "+first(reg, "Contact"))...)
		if ok := ph.hears("SIP/2.0 200"); first(ok, "Require") != "outbound" {
			t.Errorf("Require %q: pjsip drops its push parameters without outbound", first(ok, "Require"))
		}
	})
}

func TestQuirkAStandAloneDomainNeverSays439(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "tls")
		ph.joins(0) // Supported: outbound, and reg-id=1
	})
}

func TestQuirkAContactWithGRUUsComesBackAsItWas(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.webPage().connects()
		// SIP.js puts the GRUU it was once given into its next REGISTER.
		ph.contact = `<` + pubGRUU + `>;reg-id=1;+sip.instance="<` + ph.urn + `>";pub-gruu="` + pubGRUU + `";temp-gruu="` + tempGRUU + `"`
		if got := header(ph.registers(), "Contact"); len(got) != 1 || got[0] != ph.contact+";expires=600" {
			t.Errorf("Contact\n%q, want\n%q", got, ph.contact+";expires=600")
		}
		c := w.calls("in")
		ph.refuses(ph.hears("INVITE "+pubGRUU+" SIP/2.0"), 486)
		c.ends(486)
	})
}

func TestQuirkTheGRUUsOfOthersComeThrough(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.webPage().connects()
		ph.say(ph.register()...)
		reg := w.pbx.hears("REGISTER")
		desk := `<sip:alice@10.0.0.44>;expires=60;pub-gruu="` + pubGRUU + `";temp-gruu="` + tempGRUU + `"`
		w.pbx.say(reply(reg, 200, "Contact: "+first(reg, "Contact"), "Contact: "+desk)...)
		if got := header(ph.hears("SIP/2.0 200"), "Contact"); len(got) != 2 || got[1] != desk {
			t.Errorf("Contact %q, want second %q", got, desk)
		}
	})
}

func TestQuirkAGRUUKeepsItsCaseFromInviteToBye(t *testing.T) {
	each(t, []int{1}, func(t *testing.T, w *town, phones []*phone) {
		const far = "sip:CaRoL+x@Desk.Example.COM;gr=urn:uuid:F81D4FAE-7dec-11d0-A765-00A0C91e6bf6"
		ph := phones[0].awake()
		invite := ph.dials("sip:carol@example.com", "out")
		ph.say(invite...)
		ph.hears("SIP/2.0 100")
		w.pbx.say(reply(w.pbx.hears("INVITE"), 200, "Contact: <"+far+">")...)
		ok := ph.hears("SIP/2.0 200")
		if got := first(ok, "Contact"); got != "<"+far+">" {
			t.Errorf("Contact %q, want %q", got, far)
		}
		var routes []string
		for _, rr := range header(ok, "Record-Route") {
			routes = append([]string{"Route: " + rr}, routes...)
		}
		for _, method := range []string{"ACK", "BYE"} {
			req := with(without(inviteOf(invite, method), "Via"), "To", first(ok, "To"))
			req[0] = method + " " + far + " SIP/2.0"
			via := strings.Replace(first(strings.Join(invite, "\r\n"), "Via"), ";branch=", ";branch=z9hG4bK"+method, 1)
			ph.say(append(req, append(routes, "Via: "+via)...)...)
			if got := firstLine(w.pbx.hears(method)); got != req[0] {
				t.Errorf("the PBX hears %q, want %q", got, req[0])
			}
		}
	})
}

func TestQuirk423ComesWithItsMinExpires(t *testing.T) {
	each(t, []int{1}, func(t *testing.T, w *town, phones []*phone) {
		ph := phones[0].connects()
		ph.say(ph.register("Expires: 30")...)
		w.pbx.say(reply(w.pbx.hears("REGISTER"), 423, "Min-Expires: 3600")...)
		if brief := ph.hears("SIP/2.0 423"); first(brief, "Min-Expires") != "3600" { // JsSIP tries again with it only
			t.Errorf("Min-Expires %q", first(brief, "Min-Expires"))
		}
		ph.say(ph.register("Expires: 3600")...)
		w.accepts()
		ph.hears("SIP/2.0 200")
	})
}

// reborn is a phone that has lost its instance, and kept its tokens: an app that
// was installed anew, a page that gives no instance, a Linphone that was killed.
func (ph *phone) reborn() *phone {
	again := ph.w.phone("alice9", ph.transport)
	again.push = ph.push
	return again
}

func TestPN11_AWakeThatComesBackAsAnotherInstanceRings(t *testing.T) {
	each(t, []int{1, 2}, func(t *testing.T, w *town, phones []*phone) {
		for _, ph := range phones {
			ph.asleep()
		}
		c := w.calls("call-1")
		w.pushed(len(phones))
		ph := phones[0].reborn().connects()
		ph.registers()
		inv := ph.rings("call-1")
		c.hears("SIP/2.0 180")
		ph.say(ph.register()...) // again, as some do: no second INVITE (R3)
		ph.hearsOf(ph.callID, "SIP/2.0 200")
		ph.silence()
		ph.answers(inv)
		c.answered(ph)
		pass(time.Minute)
		w.pbx.silence()
		ph.silence()
	})
}

func TestQuirkATokenThatMovesToADeviceOfItsOwnRingsItOnce(t *testing.T) {
	each(t, []int{2}, func(t *testing.T, w *town, phones []*phone) {
		phones[0].asleep()
		phones[1].asleep()
		c := w.calls("call-1")
		w.pushed(2)
		phones[1].push = phones[0].push
		phones[1].wakes()
		ph := phones[1]
		ph.refuses(ph.rings("call-1"), 486)
		c.hears("SIP/2.0 180")
		pass(13 * time.Second)
		ph.silence()
		c.ends(486)
	})
}

func TestQuirkACallThatEndedIsShownToTheInstanceThatTookItsPush(t *testing.T) {
	each(t, []int{1}, func(t *testing.T, w *town, phones []*phone) {
		phones[0].asleep()
		c := w.calls("call-1")
		w.pushed(1)
		c.cancels()
		c.ends(487)
		ph := phones[0].reborn().awake()
		ph.hangsUp(ph.rings("call-1"))
	})
}

func TestQuirkADialogIsNotTheBusinessOfAnotherInstance(t *testing.T) {
	each(t, []int{1}, func(t *testing.T, w *town, phones []*phone) {
		ph := phones[0].awake()
		ok := w.dialog(ph)
		ph.sleeps()
		pass(10 * time.Second)
		w.pbx.say(dialogRequest("BYE", ok)...)
		again := ph.reborn().awake()
		pass(30 * time.Second)
		again.silence() // it would say 481
		w.pbx.hears("SIP/2.0 100")
		w.pbx.hears("SIP/2.0 480")
	})
}

func TestQuirkASecondTabDoesNotTakeTheCallOfTheFirst(t *testing.T) {
	each(t, []int{1}, func(t *testing.T, w *town, phones []*phone) {
		ph := phones[0].awake()
		c := w.calls("call-1")
		inv := ph.hears("INVITE")
		second := ph.reborn().awake()
		second.silence()
		ph.silence()
		ph.say(reply(inv, 180)...)
		c.hears("SIP/2.0 180")
		ph.answers(inv)
		c.answered(ph)
		second.silence()
	})
}

func TestQuirkAWakeOfADeadFlowComesBackAsAnotherInstance(t *testing.T) {
	each(t, []int{1}, func(t *testing.T, w *town, phones []*phone) {
		old := phones[0].awake()
		c := w.calls("call-1")
		old.hears("INVITE") // into the void
		pass(2 * time.Second)
		ph := old.reborn().awake()
		inv := ph.rings("call-1")
		c.hears("SIP/2.0 180")
		ph.answers(inv)
		c.answered(ph)
	})
}
