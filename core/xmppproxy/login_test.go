package xmppproxy

import (
	"encoding/base64"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/core/stanza"
)

func TestALoginIsRelayedAndASessionBegins(t *testing.T) {
	within(t, nil, func(w *world) {
		p, _ := w.online("alice", "phone")
		s := w.session("alice@example.com/phone")
		if s == nil {
			t.Fatal("the server knows no session")
		}
		p.say("<message to='bob@example.com' id='m1'><body xml:lang=\"en\">hi &amp; <![CDATA[<bye>]]></body></message>")
		if got, _, _ := w.snapshot(s); len(got) != 2 || got[1] != "<message to='bob@example.com' id='m1'><body xml:lang=\"en\">hi &amp; <![CDATA[<bye>]]></body></message>" {
			t.Errorf("the server got %q", got)
		}
		w.says(s, message("m2", "hello"))
		p.hears(message("m2", "hello"))
		rows := w.proxy.Rows("alice@example.com")
		if len(rows) != 1 || rows[0].JID != "alice@example.com/phone" || rows[0].State.String() != "active" || rows[0].Flow == nil {
			t.Errorf("rows %+v", rows)
		}
		if w.streams[0].client.String() != "192.0.2.1" {
			t.Errorf("the server was told of %v", w.streams[0].client)
		}
	})
}

func TestAWebSocketGetsOneElementAMessageWithItsNamespaces(t *testing.T) {
	within(t, nil, func(w *world) {
		p := w.phone("wss")
		p.say("<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' to='example.com' version='1.0'/>")
		p.hears("<open xmlns='urn:ietf:params:xml:ns:xmpp-framing'", "<stream:features xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>")
		p.say(auth("alice", "pw"))
		p.hears("<success ")
		p.say("<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' to='example.com' version='1.0'/>")
		p.hears("<open ", "<bind ")
		p.say("<iq xmlns='jabber:client' type='set' id='b1'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>web</resource></bind></iq>")
		p.hears("<iq xmlns='jabber:client' type='result' id='b1'>")
		s := w.session("alice@example.com/web")
		w.says(s, message("m1", "hello"))
		p.hears("<message xmlns='jabber:client' from='bob@example.com/desk' type='chat' id='m1'><body>hello</body></message>")
		p.say("<close xmlns='urn:ietf:params:xml:ns:xmpp-framing'/>")
		p.hears("<close xmlns='urn:ietf:params:xml:ns:xmpp-framing'/>")
		if p.end() != "client-closed" {
			t.Errorf("the flow ended %q", p.end())
		}
		if _, _, ended := w.snapshot(s); ended != "clean" {
			t.Errorf("the server's session ended %q", ended)
		}
	})
}

// T-XM-17: what cannot work through a third party, or is ours to say, is not
// offered.
func TestTXM17FeaturesAreThoseThatWorkThroughTheCore(t *testing.T) {
	within(t, nil, func(w *world) {
		w.features = "<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls>" +
			"<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>SCRAM-SHA-1-PLUS</mechanism><mechanism>EXTERNAL</mechanism>" +
			"<mechanism>PLAIN</mechanism></mechanisms><register xmlns='http://jabber.org/features/iq-register'/></stream:features>"
		p := w.phone("tls")
		p.say(header)
		text := p.hears("<mechanism>PLAIN</mechanism>")
		for _, not := range []string{"starttls", "PLUS", "EXTERNAL", "register"} {
			if strings.Contains(text, not) {
				t.Errorf("%s is offered: %s", not, text)
			}
		}
	})
}

func TestWhatIsNoLoginEndsWithItsStreamError(t *testing.T) {
	to := func(domain string) string { return strings.Replace(header, "example.com", domain, 1) }
	for name, c := range map[string]struct{ say, want string }{
		"another domain":        {to("elsewhere.org"), "<host-unknown "},
		"another protocol":      {strings.Replace(header, "jabber:client", "jabber:server", 1), "<invalid-namespace "},
		"an old version":        {strings.Replace(header, " version='1.0'", "", 1), "<unsupported-version "},
		"a stanza before login": {header + "<message to='bob@example.com'/>", "<not-authorized "},
		"a comment":             {header + "<!-- -->", "<restricted-xml "},
		"not XML":               {header + "<a></b>", "<not-well-formed "},
		"a giant":               {header + "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>" + strings.Repeat("A", 40<<10), ""},
	} {
		t.Run(name, func(t *testing.T) {
			within(t, nil, func(w *world) {
				p := w.phone("tls")
				p.say(c.say)
				if name == "a giant" {
					p.say(strings.Repeat("A", 40<<10))
					c.want = "<policy-violation "
				}
				p.hears(c.want, "</stream:stream>")
				if p.end() == "" {
					t.Error("the flow lives on")
				}
			})
		})
	}
}

func TestAServerThatCannotBeReachedIsToldAsSuch(t *testing.T) {
	within(t, nil, func(w *world) {
		w.refuse = condition("remote-connection-failed")
		p := w.phone("tls")
		p.say(header)
		p.hears("<stream:stream ", "<remote-connection-failed ", "</stream:stream>")
	})
}

func TestALoginMayFailAFewTimesAndNotMore(t *testing.T) {
	within(t, nil, func(w *world) {
		p := w.phone("tls")
		p.say(header)
		p.heard()
		for range maxAttempts {
			p.say(auth("alice", "wrong"))
			p.hears("<failure ")
		}
		p.say(auth("alice", "pw"))
		p.hears("<policy-violation ")
	})
}

func TestALoginThatTakesTooLongEnds(t *testing.T) {
	for _, said := range []string{"", "<", header} {
		within(t, nil, func(w *world) {
			p := w.phone("tls")
			if said != "" {
				p.say(said)
			}
			time.Sleep(time.Minute + time.Second)
			p.hears("<connection-timeout ", "</stream:stream>")
			if len(w.streams) > 0 {
				<-w.streams[0].gone
			}
			if w.proxy.logins.taken() != 0 {
				t.Error("its place is not free again")
			}
		})
	}
}

func TestLoginsUnderWayAreBounded(t *testing.T) {
	within(t, func(c *Config) { c.Logins = 1 }, func(w *world) {
		first, second := w.phone("tls"), w.phone("tls")
		first.say(header)
		second.say(header)
		second.hears("<resource-constraint ")
		first.reset()
		third := w.phone("tls")
		third.say(header)
		third.hears("<mechanism>")
	})
}

func TestAUserHasSoManySessionsAndNotMore(t *testing.T) {
	within(t, func(c *Config) { c.PerUser = 2 }, func(w *world) {
		w.online("alice", "one")
		w.online("alice", "two")
		p := w.phone("tls")
		p.logsIn("alice")
		p.say("<iq type='set' id='b1'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>three</resource></bind></iq>")
		p.hears("<resource-constraint ")
		if w.session("alice@example.com/three") != nil {
			t.Error("the server was asked")
		}
		one := w.session("alice@example.com/one")
		one.stream.Close(false) // nobody is there: it makes room
		synctest.Wait()
		w.online("alice", "three")
		if rows := w.proxy.Rows("alice@example.com"); len(rows) != 2 || rows[0].JID != "alice@example.com/three" {
			t.Errorf("sessions %+v", rows)
		}
		w.online("bob", "one")
	})
}

func TestBeforeABindThereIsNothingButABindOrAResume(t *testing.T) {
	within(t, nil, func(w *world) {
		p := w.phone("tls")
		p.logsIn("alice")
		p.say("<enable xmlns='urn:xmpp:sm:3'/>")
		p.hears("<failed xmlns='urn:xmpp:sm:3'><unexpected-request ")
		p.say("<iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq>")
		p.hears("<iq type='error' id='r'>", "<not-allowed ")
		p.binds("phone")
	})
}

func TestWhatAClientSendsAheadIsNotLost(t *testing.T) {
	within(t, nil, func(w *world) {
		p := w.phone("tls")
		p.logsIn("alice")
		p.say("<iq type='set' id='b1'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>phone</resource></bind></iq>" +
			"<enable xmlns='urn:xmpp:sm:3' resume='true'/><presence/><message to='bob@example.com' id='m1'/>")
		p.hears("<jid>", "<enabled ")
		got, _, _ := w.snapshot(w.session("alice@example.com/phone"))
		if len(got) != 2 || !strings.Contains(got[1], "m1") {
			t.Errorf("the server got %q", got)
		}
	})
}

func TestTheNameOfALoginIsReadWhereItIsSure(t *testing.T) {
	b64 := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	for _, c := range []struct{ mechanism, text, want string }{
		{"PLAIN", b64("\x00alice\x00pw"), "alice"},
		{"PLAIN", b64("\x00Alice\x00pw"), "alice"},
		{"PLAIN", b64("bob@example.com\x00alice\x00pw"), ""},
		{"PLAIN", b64("\x00alice@example.com\x00pw"), ""},
		{"PLAIN", b64("\x00älice\x00pw"), ""},
		{"PLAIN", b64("\x00alice"), ""},
		{"PLAIN", "!", ""},
		{"SCRAM-SHA-1", b64("n,,n=alice,r=abc"), "alice"},
		{"SCRAM-SHA-256", b64("y,,n=alice,r=abc"), "alice"},
		{"SCRAM-SHA-1", b64("n,a=bob,n=alice,r=abc"), ""},
		{"SCRAM-SHA-1", b64("n,,n=al=2Cice,r=abc"), ""},
		{"SCRAM-SHA-1", b64("n,,m=x,n=alice,r=abc"), ""},
		{"SCRAM-SHA-1", b64("n,,n=alice,n=bob,r=abc"), ""}, // bob, says Prosody
		{"PLAIN", "<x>" + b64("\x00alice\x00pw") + "</x>", ""},
		{"PLAIN", b64("\x00alice\x00pw") + "<x/>", ""},
		{"OAUTHBEARER", b64("n,a=alice,\x01auth=Bearer x\x01\x01"), ""},
		{"PLAIN", "", ""},
		{"PLAIN", "=", ""},
	} {
		e, err := stanza.Parse([]byte("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>"+c.text+"</auth>"), stanza.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		r := nameReader{mechanism: c.mechanism}
		r.read(e)
		if r.name != c.want {
			t.Errorf("%s %q: %q, want %q", c.mechanism, c.text, r.name, c.want)
		}
	}
	r := nameReader{mechanism: "PLAIN"} // the name may come in the first response
	for _, text := range []string{"", b64("\x00alice\x00pw"), b64("\x00bob\x00pw")} {
		e, _ := stanza.Parse([]byte("<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>"+text+"</response>"), stanza.Limits{})
		r.read(e)
	}
	if r.name != "alice" {
		t.Errorf("%q", r.name)
	}
}
