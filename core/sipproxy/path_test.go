package sipproxy

import (
	"strings"
	"testing"
	"time"
)

// Path mode: OB-1 to OB-9 and PA-1 where they are a proxy's.

// withPath tells a story in a domain with path = true, for each number of
// devices and on both kinds of flows.
func withPath(t *testing.T, devices []int, story func(t *testing.T, w *town, phones []*phone)) {
	t.Helper()
	each(t, devices, func(t *testing.T, w *town, phones []*phone) {
		w.restart(func(c *Config) { c.Domains[0].Path = true })
		story(t, w, phones)
	})
}

// pathRegisters brings a phone through REGISTER at a PBX with Path, and returns
// the Path.
func (ph *phone) pathRegisters(extra ...string) (path string) {
	ph.w.t.Helper()
	ph.say(ph.register(extra...)...)
	return ph.w.acceptsPath()
}

func (w *town) acceptsPath(extra ...string) (path string) {
	w.t.Helper()
	req := w.pbx.hears("REGISTER")
	path = first(req, "Path")
	contact := strings.Split(first(req, "Contact"), ";expires=")[0]
	w.pbx.say(reply(req, 200, append([]string{"Path: " + path, "Contact: " + contact + ";expires=" + first(req, "Expires"), "Require: outbound"}, extra...)...)...)
	return path
}

// sleepsOnPath registers and lets the flow end.
func (ph *phone) sleepsOnPath() (path string) {
	ph.w.t.Helper()
	path = ph.connects().pathRegisters()
	ph.hearsOf(ph.callID, "SIP/2.0 200")
	ph.sleeps()
	pass(10 * time.Second)
	return path
}

// callsOn has carol call a phone by the contact that the PBX holds of it.
func (w *town) callsOn(ph *phone, path, callID string) *call {
	w.t.Helper()
	return w.invites(ph.uri(), callID, "Route: "+path)
}

func TestPA1_OB1_ThePBXIsGivenTheClientsContactAndOurPath(t *testing.T) {
	withPath(t, []int{1}, func(t *testing.T, w *town, phones []*phone) {
		ph := phones[0].connects()
		ph.say(ph.register("Path: <sip:evil.example;lr>")...)
		req := w.pbx.hears("REGISTER")
		path := header(req, "Path")
		if len(path) != 1 || !strings.HasPrefix(path[0], "<sip:") || !strings.HasSuffix(path[0], "@"+advertise+";transport=tcp;lr;ob>") || len(path[0]) > 130 {
			t.Errorf("Path %q", path)
		}
		if got := header(req, "Contact"); len(got) != 1 || got[0] != "<"+ph.uri()+`>;+sip.instance="<`+ph.urn+`>";reg-id=1;expires=86400` {
			t.Errorf("Contact %q", got)
		}
		if got := first(req, "Supported"); got != "path, outbound, gruu" {
			t.Errorf("Supported %q", got)
		}
		if strings.Contains(req, "pn-prid") {
			t.Error("PN-16: push tokens went to the PBX")
		}
		own := first(message(ph.register()...), "Contact")
		gruu := `;pub-gruu="sip:alice@example.com;gr=urn:uuid:F81";temp-gruu="sip:tgruu.7hs@example.com;gr"`
		w.pbx.say(reply(req, 200, "Path: "+path[0], "Require: outbound",
			"Contact: <sip:alice@10.0.0.44>;expires=60, <"+ph.uri()+`>;+sip.instance="<`+ph.urn+`>";reg-id=1`+gruu+";expires=86400")...)
		ok := ph.hears("SIP/2.0 200")
		if got := header(ok, "Contact"); len(got) != 2 || got[0] != own+gruu+";expires=600" || got[1] != "<sip:alice@10.0.0.44>;expires=60" {
			t.Errorf("the client hears Contact\n%q, want\n%q", got, own+gruu+";expires=600")
		}
		if first(ok, "Path") != "" || first(ok, "Require") != "outbound" {
			t.Errorf("Path %q, Require %q", first(ok, "Path"), first(ok, "Require"))
		}
		ph.say(ph.register()...) // by the grant, and with the names it was given
		if got := first(ph.hears("SIP/2.0 200"), "Contact"); got != own+gruu+";expires=600" {
			t.Errorf("a refresh: Contact %q", got)
		}
		w.pbx.silence()
		if list := w.proxy.Pathless(); len(list) != 0 {
			t.Errorf("complained of %q", list)
		}
	})
}

func TestOB1_BehindAnotherProxyOrWithoutOutboundThereIsNoOb(t *testing.T) {
	withPath(t, []int{1}, func(t *testing.T, w *town, phones []*phone) {
		ph := phones[0].connects()
		two := ph.register()
		two = append(two[:2:2], append([]string{"Via: SIP/2.0/TCP 192.0.2.99;branch=z9hG4bKx"}, two[2:]...)...)
		ph.say(two...)
		if got := first(w.pbx.hears("REGISTER"), "Path"); !strings.HasSuffix(got, ";lr>") {
			t.Errorf("two Vias: Path %q", got)
		}
		ph.say(with(ph.register(), "Supported", "path")...)
		if got := first(w.pbx.hears("REGISTER"), "Path"); !strings.HasSuffix(got, ";lr>") {
			t.Errorf("no outbound: Path %q", got)
		}
		pass(time.Minute)
	})
}

func TestOB3_ARequestWithThePathGoesDownTheFlowAndItsDialogComesBack(t *testing.T) {
	withPath(t, []int{1, 2}, func(t *testing.T, w *town, phones []*phone) {
		paths := map[*phone]string{}
		for _, ph := range phones {
			paths[ph] = ph.connects().pathRegisters()
			ph.hearsOf(ph.callID, "SIP/2.0 200")
		}
		for i, ph := range phones {
			c := w.callsOn(ph, paths[ph], []string{"call-1", "call-2"}[i])
			c.hears("SIP/2.0 100")
			inv := ph.rings(c.id)
			if len(header(inv, "Route")) != 0 || len(header(inv, "Record-Route")) != 3 || strings.Contains(strings.Join(header(inv, "Record-Route"), ""), ";ob") {
				t.Errorf("Route %q, Record-Route %q", header(inv, "Route"), header(inv, "Record-Route"))
			}
			for _, other := range phones {
				if other != ph {
					other.silence()
				}
			}
			c.hears("SIP/2.0 180")
			ph.answers(inv)
			ok := c.answered(ph)
			w.pbx.say(dialogRequest("BYE", ok)...)
			ph.say(reply(ph.hears("BYE"), 200)...)
			w.pbx.hears("SIP/2.0 200")
		}
	})
}

func TestOB2_ATamperedPathIsForbidden(t *testing.T) {
	withPath(t, []int{1}, func(t *testing.T, w *town, phones []*phone) {
		ph := phones[0]
		path := ph.connects().pathRegisters()
		ph.hears("SIP/2.0 200")
		for i, bad := range []string{
			path[:len("<sip:")+30] + "9" + path[len("<sip:")+31:], // a digit that base 32 has not
			strings.Replace(path, "@", "a@", 1),
			"<sip:guess@" + advertise + ";lr;ob>",
			"<sip:" + strings.Repeat("a", tokenLen) + "@" + advertise + ";lr>",
			"<sip:" + flip(path[len("<sip:"):strings.Index(path, "@")], tokenLen+3) + "@" + advertise + ";lr;ob>",
		} {
			w.callsOn(ph, bad, "bad-"+string(rune('a'+i))).ends(403)
		}
		ph.silence()
	})
}

// flip changes one character of a text.
func flip(s string, at int) string {
	c := byte('a')
	if s[at] == 'a' {
		c = 'b'
	}
	return s[:at] + string(c) + s[at+1:]
}

func TestOB2_APathOfADeviceThatIsGoneIs430(t *testing.T) {
	withPath(t, []int{1}, func(t *testing.T, w *town, phones []*phone) {
		ph := phones[0]
		ph.push = ""
		path := ph.sleepsOnPath()
		w.callsOn(ph, path, "call-1").ends(430) // it has no token
		if ph.connects().pathRegisters() == path {
			t.Error("another flow has the same Path")
		}
		ph.hears("SIP/2.0 200")
		ph.say(ph.register("Expires: 0")...)
		w.acceptsPath()
		ph.hears("SIP/2.0 200")
		w.callsOn(ph, path, "call-2").ends(430)
		w.pbx.say(w.asks("MESSAGE", ph.uri(), "m", "Route: "+path)...)
		w.pbx.hears("SIP/2.0 430 Flow Failed")
	})
}

func TestOB2_APathOfAFlowThatIsGoneWakesADeviceThatSleeps(t *testing.T) {
	withPath(t, []int{1, 2}, func(t *testing.T, w *town, phones []*phone) {
		ph := phones[0]
		path := ph.sleepsOnPath()
		if len(phones) == 2 {
			phones[1].connects().pathRegisters()
			phones[1].hearsOf(phones[1].callID, "SIP/2.0 200")
		}
		c := w.callsOn(ph, path, "call-1")
		c.hears("SIP/2.0 100")
		w.pushed(1)
		ph.connects().pathRegisters()
		ph.hearsOf(ph.callID, "SIP/2.0 200")
		inv := ph.rings("call-1")
		c.hears("SIP/2.0 180")
		ph.refuses(inv, 486)
		c.ends(486)
		if len(phones) == 2 {
			phones[1].silence()
		}
		w.pushed(1)
	})
}

// A request that was under way when the device came back on another flow.
func TestOB2_APathOfTheFlowBeforeLeadsToTheFlowThatFollowedIt(t *testing.T) {
	withPath(t, []int{1}, func(t *testing.T, w *town, phones []*phone) {
		ph := phones[0]
		old := ph.sleepsOnPath()
		ph.connects().pathRegisters()
		ph.hears("SIP/2.0 200")
		c := w.callsOn(ph, old, "call-1")
		c.hears("SIP/2.0 100")
		ph.refuses(ph.rings("call-1"), 486)
		c.hears("SIP/2.0 180")
		c.ends(486)
	})
}

// OB-8: the PBX tries the device's other flow, whose Path it has.
func TestOB8_APathOfOneOfTwoFlowsIs430WhenThatIsGone(t *testing.T) {
	withPath(t, []int{1}, func(t *testing.T, w *town, phones []*phone) {
		ph := phones[0]
		one := ph.connects().pathRegisters()
		ph.hears("SIP/2.0 200")
		second := *ph
		second.contact = "<" + ph.uri() + ph.push + `>;+sip.instance="<` + ph.urn + `>";reg-id=2`
		second.connects()
		other := second.pathRegisters()
		second.hears("SIP/2.0 200")
		ph.sleeps()
		w.callsOn(ph, one, "call-1").ends(430)
		c := w.callsOn(ph, other, "call-1b")
		c.hears("SIP/2.0 100")
		second.refuses(second.rings("call-1b"), 486)
		c.hears("SIP/2.0 180")
		c.ends(486)
		if one == other {
			t.Error("both flows have one Path")
		}
	})
}

func TestAChangeOfKeysLeavesPathsValidOnce(t *testing.T) {
	withPath(t, []int{1}, func(t *testing.T, w *town, phones []*phone) {
		ph := phones[0]
		path := ph.sleepsOnPath()
		w.restart(func(c *Config) { c.TokenKeys = [][]byte{[]byte("a new key"), []byte("an old key")} })
		c := w.callsOn(ph, path, "call-1")
		c.hears("SIP/2.0 100")
		c.cancels()
		c.ends(487)
		w.restart(func(c *Config) { c.TokenKeys = [][]byte{[]byte("a third"), []byte("a new key")} })
		w.callsOn(ph, path, "call-2").ends(403)
		pass(time.Minute)
	})
}

// A PBX that tells contacts by their URI alone would call twice.
func TestWithPathAnAddressThatChangedIsTakenBack(t *testing.T) {
	withPath(t, []int{1}, func(t *testing.T, w *town, phones []*phone) {
		ph := phones[0]
		ph.sleepsOnPath()
		ph.contact = "<sip:alice@192.0.2.8:1234;transport=tls" + ph.push + `>;+sip.instance="<` + ph.urn + `>";reg-id=1`
		ph.connects().say(ph.register("Contact: <sip:alice@192.0.2.6>;expires=0")...)
		req := w.pbx.hears("REGISTER")
		got := strings.Join(header(req, "Contact"), "\n")
		want := `<sip:alice@192.0.2.8:1234;transport=tls>;+sip.instance="<` + ph.urn + `>";reg-id=1;expires=86400` +
			"\n<sip:alice@192.0.2.6>;expires=0\n<" + ph.uri() + ">;expires=0"
		if got != want {
			t.Errorf("Contact\n%s, want\n%s", got, want)
		}
		pass(time.Minute)
	})
}

func TestAPBXThatDoesNotConfirmPathIsComplainedOf(t *testing.T) {
	withPath(t, []int{1}, func(t *testing.T, w *town, phones []*phone) {
		ph := phones[0].connects()
		ph.registers() // by a PBX that answers as if there were no Path
		if list := w.proxy.Pathless(); len(list) != 1 || list[0] != "example.com" {
			t.Errorf("complained of %q", list)
		}
	})
}
