package c2s_test

import (
	"bufio"
	"cmp"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"sallyport/core/stanza"
	"sallyport/core/upstream/c2s"
)

func TestTXM17_WhichMechanismsAServerMayOffer(t *testing.T) {
	bindings := func(kinds string) string {
		return "<sasl-channel-binding xmlns='urn:xmpp:sasl-cb:0'>" + kinds + "</sasl-channel-binding>"
	}
	const endPoint, exporter = "<channel-binding type='tls-server-end-point'/>", "<channel-binding type='tls-exporter'/>"
	for name, c := range map[string]struct {
		features string
		change   func(*c2s.Config)
		want     string // in the error, "" for none
	}{
		"scram":                    {features(scram), nil, ""},
		"plain and oauth":          {features("<mechanism>PLAIN</mechanism><mechanism>OAUTHBEARER</mechanism>"), nil, ""},
		"plus":                     {features(scram + plus), nil, "SCRAM-SHA-1-PLUS"},
		"plus in small letters":    {features(scram + "<mechanism> scram-sha-256-plus </mechanism>"), nil, "SCRAM-SHA-256-PLUS"},
		"plus in SASL2 alone":      {features(scram, "<authentication xmlns='urn:xmpp:sasl:2'>"+plus+"</authentication>"), nil, "SCRAM-SHA-1-PLUS"},
		"plus, shared":             {features(scram+plus, bindings(exporter+endPoint)), shared, ""},
		"plus, shared, no binding": {features(scram + plus), shared, "XEP-0440"},
		"plus, shared, unusable":   {features(scram+plus, bindings(exporter)), shared, "tls-server-end-point"},
		"bindings without plus":    {features(scram, bindings(exporter)), nil, ""},
		"nothing":                  {"<stream:features/>", nil, "no SASL mechanism"},
	} {
		t.Run(name, func(t *testing.T) {
			if c.change == nil {
				c.change = func(*c2s.Config) {}
			}
			d := domain(t, "xmpp+plain://"+serve(t, says(header, c.features)), c.change)
			s, err := d.Open(within(t, 10*time.Second), netip.Addr{})
			if err == nil {
				s.Close(false)
			}
			if c.want == "" {
				must(t, err)
				return
			}
			var e *c2s.Error
			if !errors.As(err, &e) || e.Phase != c2s.PhaseLogin || !strings.Contains(err.Error(), c.want) ||
				!strings.Contains(err.Error(), "example.com") || e.Remedy == "" {
				t.Errorf("%v, want %s", err, c.want)
			}
			if st := d.Status(); st.Up || st.LastError != err.Error() || st.Phase != c2s.PhaseLogin {
				t.Errorf("status %+v", st)
			}
		})
	}
}

// A server that misbehaves, in each phase, is told from the others, and never
// waited for longer than is allowed.
func TestAServerThatMisbehavesIsNamedWithItsPhase(t *testing.T) {
	drip := func(c net.Conn, in *bufio.Reader) {
		for {
			if _, err := io.WriteString(c, " "); err != nil {
				return
			}
		}
	}
	endless := func(c net.Conn, in *bufio.Reader) {
		_, _ = io.WriteString(c, header+"<stream:features>")
		for {
			if _, err := io.WriteString(c, "<a xmlns='urn:x'/>"); err != nil {
				return
			}
		}
	}
	silent := func(c net.Conn, in *bufio.Reader) { _, _ = io.Copy(io.Discard, in) }
	stream := "<stream:error><%s xmlns='urn:ietf:params:xml:ns:xmpp-streams'/><text xmlns='urn:ietf:params:xml:ns:xmpp-streams'>no</text></stream:error>"
	for name, c := range map[string]struct {
		scheme    string
		run       script
		phase     c2s.Phase
		want      string
		condition string
	}{
		"closes at once":       {"xmpp+plain", func(net.Conn, *bufio.Reader) {}, c2s.PhaseStream, "", ""},
		"says nothing":         {"xmpp+plain", silent, c2s.PhaseStream, "too slow", ""},
		"says blanks for ever": {"xmpp+plain", drip, c2s.PhaseStream, "too slow", ""},
		"endless features":     {"xmpp+plain", endless, c2s.PhaseStream, "too", ""},
		"no XMPP":              {"xmpp+plain", says("SSH-2.0-OpenSSH_9.2\r\n"), c2s.PhaseStream, "not well-formed", ""},
		"a server's stream":    {"xmpp+plain", says(strings.Replace(header, "jabber:client", "jabber:server", 1)), c2s.PhaseStream, "", ""},
		"no features":          {"xmpp+plain", says(header, "<message/>"), c2s.PhaseStream, "message", ""},
		"ends before features": {"xmpp+plain", says(header, "</stream:stream>"), c2s.PhaseStream, "EOF", ""},
		"unknown host":         {"xmpp+plain", says(header, strings.Replace(stream, "%s", "host-unknown", 1)), c2s.PhaseStream, "xmpp.domain", "host-unknown"},
		"another host":         {"xmpp+plain", says(header, strings.Replace(stream, "%s", "see-other-host", 1)), c2s.PhaseStream, "not followed", ""},
		"no STARTTLS":          {"xmpp", says(header, features(scram)), c2s.PhaseSTARTTLS, "xmpp+plain://", ""},
		"STARTTLS fails": {"xmpp", says(header, "<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:features>",
			"<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"), c2s.PhaseSTARTTLS, "failure", ""},
		"plain where TLS is":    {"xmpps", says(header), c2s.PhaseTLS, "", ""},
		"silent where TLS is":   {"xmpps", silent, c2s.PhaseTLS, "too slow", ""},
		"no web server":         {"ws", func(c net.Conn, in *bufio.Reader) { until(in, "\r\n\r\n"); _, _ = io.WriteString(c, header) }, c2s.PhaseWebSocket, "web server", ""},
		"no such path":          {"ws", answers("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"), c2s.PhaseWebSocket, "/xmpp-websocket", ""},
		"not for this protocol": {"ws", answers("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n"), c2s.PhaseWebSocket, "", ""},
		"an endless answer":     {"ws", answers("HTTP/1.1 200 OK\r\nA: " + strings.Repeat("b", 1<<20)), c2s.PhaseWebSocket, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := domain(t, c.scheme+"://"+serve(t, c.run), func(c *c2s.Config) { c.OpenTimeout = 500 * time.Millisecond })
			begun := time.Now()
			s, err := d.Open(within(t, 20*time.Second), netip.Addr{})
			if err == nil {
				s.Close(false)
			}
			var e *c2s.Error
			if !errors.As(err, &e) || e.Phase != c.phase || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("%v, want %s in phase %s", err, c.want, c.phase)
			}
			if want := cmp.Or(c.condition, "remote-connection-failed"); e.Condition() != want {
				t.Errorf("a client is told %s", e.Condition())
			}
			if took := time.Since(begun); took > 10*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}

// answers answers an HTTP request.
func answers(text string) script {
	return func(c net.Conn, in *bufio.Reader) {
		until(in, "\r\n\r\n")
		_, _ = io.WriteString(c, text)
		_, _ = io.Copy(io.Discard, in)
	}
}

func TestWhatIsInjectedBehindTheGoAheadForTLSIsNeverTaken(t *testing.T) {
	cert, pool := certificate(t, time.Now().Add(time.Hour), "example.com")
	evil := "<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>PLAIN</mechanism></mechanisms></stream:features>"
	d := domain(t, "xmpp://"+serve(t, startTLS(cert, evil, says(header, features(scram)))), trusting(pool))
	s, err := d.Open(within(t, 10*time.Second), netip.Addr{})
	if err == nil {
		s.Close(false)
		t.Fatalf("taken: %s", s.Features())
	}
	if e, ok := errors.AsType[*c2s.Error](err); !ok || e.Phase != c2s.PhaseTLS {
		t.Errorf("%v", err)
	}
	d = domain(t, "xmpp://"+serve(t, startTLS(cert, "", says(header, features(scram)))), trusting(pool))
	if s := opened(t, d); s.TLS() == nil || !strings.Contains(string(s.Features()), "SCRAM-SHA-1") || s.Header().ID != "s1" {
		t.Errorf("header %+v, features %s", s.Header(), s.Features())
	}
}

func TestWhoseCertificateIsTaken(t *testing.T) {
	soon := time.Now().Add(time.Hour)
	for name, c := range map[string]struct {
		names   []string
		until   time.Time
		foreign bool
		want    string
	}{
		"the domain's":     {[]string{"example.com"}, soon, false, ""},
		"the upstream's":   {[]string{"127.0.0.1"}, soon, false, ""},
		"a wildcard's":     {[]string{"*.example.com"}, soon, false, "must show a certificate for example.com, or for 127.0.0.1"},
		"somebody else's":  {[]string{"example.net"}, soon, false, "must show a certificate for example.com, or for 127.0.0.1"},
		"of a strange CA":  {[]string{"example.com"}, soon, true, "ca_file"},
		"one that expired": {[]string{"example.com"}, time.Now().Add(-time.Hour), false, "renew"},
	} {
		t.Run(name, func(t *testing.T) {
			cert, pool := certificate(t, c.until, c.names...)
			if c.foreign {
				_, pool = certificate(t, c.until, "example.com")
			}
			for scheme, run := range map[string]script{
				"xmpp": startTLS(cert, "", says(header, features(scram))), "xmpps": overTLS(cert, says(header, features(scram))),
				"wss": overTLS(cert, answers("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")),
			} {
				d := domain(t, scheme+"://"+serve(t, run), trusting(pool))
				s, err := d.Open(within(t, 10*time.Second), netip.Addr{})
				if err == nil {
					s.Close(false)
				}
				e, _ := errors.AsType[*c2s.Error](err)
				switch {
				case c.want == "" && scheme == "wss":
					if e == nil || e.Phase != c2s.PhaseWebSocket {
						t.Errorf("%s: %v", scheme, err)
					}
				case c.want == "" && err != nil:
					t.Errorf("%s: %v", scheme, err)
				case c.want != "" && (e == nil || e.Phase != c2s.PhaseTLS || !strings.Contains(err.Error(), c.want)):
					t.Errorf("%s: %v, want %s", scheme, err, c.want)
				}
			}
		})
	}
}

func TestAServerThatDoesNotReadBlocksNobodyAndLosesItsStream(t *testing.T) {
	cert, pool := certificate(t, time.Now().Add(time.Hour), "example.com")
	deaf := func(c net.Conn, in *bufio.Reader) {
		until(in, "version='1.0'>")
		_, _ = io.WriteString(c, header+features(scram))
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for range tick.C { // it lives, and does not read
			if _, err := io.WriteString(c, " "); err != nil {
				return
			}
		}
	}
	for scheme, run := range map[string]script{"xmpp+plain": deaf, "xmpps": overTLS(cert, deaf)} {
		t.Run(scheme[:5], func(t *testing.T) {
			d := domain(t, scheme+"://"+serve(t, run), trusting(pool), func(c *c2s.Config) { c.Queue = 256 << 10 })
			s := opened(t, d)
			over := make(chan error, 1)
			go func() { over <- s.Run(func(*stanza.Element) {}) }()
			element := []byte("<message><body>" + strings.Repeat("x", 10_000) + "</body></message>")
			longest, queued := time.Duration(0), 0
			var err error
			for n := 0; err == nil && n < 10_000; n++ {
				begun := time.Now()
				err = s.Write(element)
				longest, queued = max(longest, time.Since(begun)), max(queued, s.Queued())
			}
			if !errors.Is(err, c2s.ErrSlow) || queued == 0 || queued > 256<<10 {
				t.Errorf("%v, after at most %d bytes queued", err, queued)
			}
			if longest > 2*time.Second {
				t.Errorf("a write took %v", longest)
			}
			if err := <-over; !errors.Is(err, c2s.ErrSlow) {
				t.Errorf("the stream ended with %v", err)
			}
		})
	}
}
