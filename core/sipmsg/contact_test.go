package sipmsg

import (
	"strings"
	"testing"
)

// Trap 18: sipgo cuts header parameters at ";" inside quotes.
func TestTrap18_QuotedSemicolonsStayInTheirParameter(t *testing.T) {
	const gruu = `"sip:alice@example.com;gr=urn:uuid:1;x=\"y\""`
	cs, f := Contacts(mustParse(t, register(`<sip:a@h>;pub-gruu=`+gruu+`;Expires=60;a=b=c`)))
	if f != nil || len(cs) != 1 {
		t.Fatal(cs, f)
	}
	if got, _ := cs[0].Params.Get("pub-gruu"); got != `sip:alice@example.com;gr=urn:uuid:1;x="y"` {
		t.Errorf("pub-gruu %s", got)
	}
	if secs, ok := cs[0].Expires(); secs != 60 || !ok {
		t.Errorf("expires %d %v", secs, ok)
	}
	if got, _ := cs[0].Params.Get("a"); got != "b=c" {
		t.Errorf("a is %q", got)
	}
	if !strings.Contains(cs[0].NameAddr().String(), ";pub-gruu="+gruu+";") {
		t.Errorf("quotes are lost: %s", cs[0].NameAddr())
	}
}

func TestOutboundParametersOfAContact(t *testing.T) {
	cs, f := Contacts(mustParse(t, register(`"Al" <sip:a@h;ob>;REG-ID=2;+SIP.Instance="<urn:uuid:1>";expires=0`)))
	if f != nil {
		t.Fatal(f)
	}
	c := cs[0]
	if c.Instance() != "urn:uuid:1" || c.RegID() != 2 || c.Display != "Al" || c.Star {
		t.Errorf("%+v: instance %q, reg-id %d", c, c.Instance(), c.RegID())
	}
	if secs, ok := c.Expires(); secs != 0 || !ok {
		t.Errorf("expires %d %v", secs, ok)
	}
	cs, _ = Contacts(mustParse(t, register("<sip:a@h>;reg-id=x")))
	if c := cs[0]; c.Instance() != "" || c.RegID() != 0 {
		t.Errorf("instance %q, reg-id %d", c.Instance(), c.RegID())
	}
	if _, ok := cs[0].Expires(); ok {
		t.Error("an expires out of nowhere")
	}
}

func TestAMalformedExpiresCountsAs3600(t *testing.T) {
	for _, v := range []string{"", "x", "-1", "280297596632815"} {
		cs, f := Contacts(mustParse(t, register("<sip:a@h>;expires="+v)))
		if f != nil {
			t.Fatal(f)
		}
		if secs, ok := cs[0].Expires(); secs != 3600 || !ok {
			t.Errorf("%q: %d %v", v, secs, ok)
		}
	}
}

func TestContactsAsClientsAndServersWriteThem(t *testing.T) {
	for client, value := range map[string]string{
		"Linphone": linphoneContact + `;+org.linphone.specs="conference/2.0,ephemeral/1.1,groupchat/1.2,lime"`,
		"JsSIP":    `<sip:7vgr1h8p@hgd94h3d0a4s.invalid;transport=ws>;+sip.ice;reg-id=1;+sip.instance="<urn:uuid:1>";expires=600`,
		"baresip":  `<sip:alice-0x5566a1b2c3d0@192.0.2.7:41592;transport=tls>;expires=600;+sip.instance="<urn:uuid:1>"`,
		"pjsip":    `"Alice" <sip:alice@192.0.2.7:5061;transport=TLS;ob>;reg-id=1;+sip.instance="<urn:uuid:1>"`,
		"Kamailio": `<sip:t0k@10.0.0.5:5060;transport=tcp>;expires=3600;q=0.5;received="sip:10.0.0.5:4711;transport=TCP"`,
		"Asterisk": `<sip:t0k@10.0.0.5:5060;transport=tcp;x-ast-orig-host=10.0.0.5:5060>;expires=3599`,
		"Cisco":    `<sip:1b2a-4@192.0.2.7:51234;transport=tls>;+sip.instance="<urn:uuid:1>";+u.sip!devicename.ccm.cisco.com="SEP1";+u.sip!model.ccm.cisco.com="688"`,
	} {
		cs, f := Contacts(mustParse(t, register(value)))
		if f != nil || len(cs) != 1 || cs[0].Raw != value || cs[0].URI.User == "" {
			t.Errorf("%s: %+v, %v", client, cs, f)
		}
	}
}

func TestStarIsAContactOfItsOwnKind(t *testing.T) {
	cs, f := Contacts(mustParse(t, register("*")))
	if f != nil || len(cs) != 1 || !cs[0].Star {
		t.Errorf("%+v, %v", cs, f)
	}
	if cs, f := Contacts(mustParse(t, invite())); len(cs) != 0 || f != nil {
		t.Errorf("no contact gives %v, %v", cs, f)
	}
}

func TestNameAddrForms(t *testing.T) {
	for s, want := range map[string]NameAddr{
		`"Al \"B\"" <sip:a@h>;tag=x`: {Display: `Al "B"`, Params: Params{{Name: "tag", Value: "x"}}},
		"Al B.<sip:a@h>":             {Display: "Al B."},
		"sip:a@h;tag=x;lr":           {Params: Params{{Name: "tag", Value: "x"}, {Name: "lr", Flag: true}}},
		" <sip:a@h> ; tag = x ":      {Params: Params{{Name: "tag", Value: "x"}}},
	} {
		n, err := ParseNameAddr(s)
		if err != nil || n.Display != want.Display || n.Params.String() != want.Params.String() || n.URI.String() != "sip:a@h" {
			t.Errorf("%s: %+v, %v", s, n, err)
		}
	}
	for _, s := range []string{
		"", "<sip:a@h", "sip:a@h>", `"x <sip:a@h>`, `"x" "y" <sip:a@h>`, "a,b <sip:a@h>", "< sip:a@h>", "<sip:a@h>x", "<sip:a@h>;;", "sip:a@h?x=y", `x"y" <sip:a@h>`,
	} {
		if n, err := ParseNameAddr(s); err == nil {
			t.Errorf("%q accepted as %+v", s, n)
		}
	}
}

func FuzzContacts(f *testing.F) {
	for _, s := range []string{linphoneContact, "*", `"a\"," <sip:a@h>;x="y,;z", sip:b@h;q=1`, "<sip:a@[::1]:5060;x>;expires=1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, value string) {
		m, fault := Parse([]byte(register(value)))
		if fault != nil {
			return
		}
		cs, fault := Contacts(m)
		if fault != nil {
			t.Fatalf("Parse took what Contacts does not: %v", fault)
		}
		for _, c := range cs {
			if c.Star {
				continue
			}
			if strings.ContainsAny(c.Raw, "\r\n") {
				t.Errorf("line end in %q", c.Raw)
			}
			again, err := ParseNameAddr(c.NameAddr().String())
			if err != nil || again.URI.String() != c.URI.String() || again.Params.String() != c.Params.String() {
				t.Errorf("%q is written as %q: %v", c.Raw, c.NameAddr(), err)
			}
			c.Push()
		}
	})
}
