package c2s_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"crypto/x509"

	"sallyport/core/stanza"
	"sallyport/core/upstream/c2s"
	"sallyport/test/xmpp"
)

var people = map[string]string{"alice": "secret-a"}

// upstreams are the ways to reach a real server.
func upstreams(s *xmpp.Server) map[c2s.Scheme]string {
	return map[c2s.Scheme]string{
		c2s.STARTTLS:  "xmpp://" + s.Plain,
		c2s.Plain:     "xmpp+plain://" + s.Plain,
		c2s.DirectTLS: "xmpps://" + s.TLS,
		c2s.WS:        s.WS,
		c2s.WSS:       s.WSS,
	}
}

func domainOf(t testing.TB, s *xmpp.Server, upstream string, change ...func(*c2s.Config)) *c2s.Domain {
	t.Helper()
	cfg := c2s.Config{Name: s.Domain, Upstream: upstream, Roots: func() *x509.CertPool { return s.Roots }}
	for _, f := range change {
		f(&cfg)
	}
	d, err := c2s.New(cfg, nil)
	must(t, err)
	return d
}

// login logs in with PLAIN and binds a resource.
func login(t testing.TB, s *c2s.Stream, user, password string) {
	t.Helper()
	ctx := within(t, 10*time.Second)
	plain := base64.StdEncoding.EncodeToString([]byte("\x00" + user + "\x00" + password))
	must(t, s.Write([]byte("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>"+plain+"</auth>")))
	e, err := s.Next(ctx)
	must(t, err)
	if !e.Is("urn:ietf:params:xml:ns:xmpp-sasl", "success") {
		t.Fatalf("%s", e.Raw)
	}
	features, err := s.Restart(ctx)
	must(t, err)
	if !bytes.Contains(features, []byte("urn:ietf:params:xml:ns:xmpp-bind")) {
		t.Fatalf("no bind in %s", features)
	}
	must(t, s.Write([]byte("<iq type='set' id='b1'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>r1</resource></bind></iq>")))
	e, err = s.Next(ctx)
	must(t, err)
	if string(e.Attr("type")) != "result" {
		t.Fatalf("%s", e.Raw)
	}
}

func TestTXM17_RealServersAreReachedByEachScheme(t *testing.T) {
	for kind, start := range xmpp.Kinds {
		t.Run(kind, func(t *testing.T) {
			server := start(t, xmpp.ServerConfig{Users: people})
			for scheme, upstream := range upstreams(server) {
				t.Run(strings.ReplaceAll(string(scheme), "+", "_"), func(t *testing.T) { talk(t, server, upstream) })
			}
		})
	}
}

// talk logs in, sends a message to oneself and gets it back, and ends cleanly.
func talk(t *testing.T, server *xmpp.Server, upstream string) {
	d := domainOf(t, server, upstream)
	s, err := d.Open(within(t, 10*time.Second), netip.MustParseAddr("203.0.113.7"))
	must(t, err)
	defer s.Close(false)
	login(t, s, "alice", people["alice"])
	me := server.JID("alice") + "/r1"
	const body = "<body>it’s &lt;here&gt;</body><x xmlns='urn:example:x' a=\"'\"/>"
	must(t, s.Write(fmt.Appendf(nil, "<message to='%s' type='chat' id='m1'>%s</message>", me, body)))
	got := make(chan string, 1)
	over := make(chan error, 1)
	go func() {
		over <- s.Run(func(e *stanza.Element) {
			if string(e.Local) == "message" {
				got <- string(e.AppendPortable(nil))
			}
		})
	}()
	select {
	case m := <-got:
		if !strings.Contains(m, "&lt;here&gt;</body>") || !strings.Contains(m, "urn:example:x") {
			t.Errorf("came back as %s", m)
		}
	case err := <-over:
		t.Fatal(err)
	case <-time.After(10 * time.Second):
		t.Fatal("nothing came back")
	}
	s.Close(true)
	if err := <-over; err != nil {
		t.Errorf("after a clean end: %v", err)
	}
	st := d.Status()
	if !st.Up || st.SM != "yes" || st.RTT <= 0 || st.Streams != 0 || !strings.Contains(strings.Join(st.Mechanisms, " "), "SCRAM-SHA-1") {
		t.Errorf("status %+v", st)
	}
}

func TestTXM17_ARealServerThatOffersChannelBindingIsRefused(t *testing.T) {
	for kind, start := range xmpp.Kinds {
		t.Run(kind, func(t *testing.T) {
			server := start(t, xmpp.ServerConfig{Users: people, ChannelBinding: true})
			for _, upstream := range []string{"xmpp://" + server.Plain, "xmpps://" + server.TLS} {
				d := domainOf(t, server, upstream)
				s, err := d.Open(within(t, 10*time.Second), netip.Addr{})
				if err == nil {
					s.Close(false)
					t.Fatalf("%s: taken: %s", upstream, s.Features())
				}
				if !errors.Is(err, c2s.ErrChannelBinding) || !strings.Contains(err.Error(), "SCRAM-SHA-1-PLUS") ||
					!strings.Contains(err.Error(), server.Domain) || !strings.Contains(err.Error(), "shared_cert") {
					t.Errorf("%s: %v", upstream, err)
				}
			}
			s, err := domainOf(t, server, "xmpp+plain://"+server.Plain).Open(within(t, 10*time.Second), netip.Addr{})
			must(t, err) // the same server without TLS has nothing to bind to
			s.Close(true)
		})
	}
}
