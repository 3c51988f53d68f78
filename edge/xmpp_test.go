package edge_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"sallyport/edge"
	"sallyport/tunnel"
)

const (
	streamHeader = "<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' to='example.com'>"
	openFrame    = `<open xmlns="urn:ietf:params:xml:ns:xmpp-framing" to="example.com" version="1.0"/>`
)

var both = []string{"sip", "xmpp"}

// echo answers an element of XMPP, as long as it may be, with itself.
func (w *town) echo(f *tunnel.Flow, p []byte) {
	if len(w.under) == 0 {
		_ = f.Send(p)
		return
	}
	all := append(w.under, p...)
	w.under = nil
	go func() {
		for ; len(all) > 50_000; all = all[50_000:] {
			_ = f.SendPartWait(w.t.Context(), all[:50_000])
		}
		_ = f.SendWait(w.t.Context(), all)
	}()
}

// Part takes a piece of a message that goes on.
func (w *town) Part(f *tunnel.Flow, p []byte) {
	w.under = append(w.under, p...)
	f.Consumed(len(p))
}

// echo says what the core is to say again.
func (p *phone) echo(what string) {
	p.t.Helper()
	p.say(what)
	p.hear(what)
}

func TestXEP0368_XMPPOverTLSReachesTheCore(t *testing.T) {
	for name, alpn := range map[string][]string{"with ALPN": {"xmpp-client"}, "without": nil} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := foundFor(t, both, true, nil)
				p := w.mustCall(":5223", &tls.Config{NextProtos: alpn, ServerName: "example.com"})
				if got := p.conn.ConnectionState().NegotiatedProtocol; len(alpn) > 0 && got != alpn[0] {
					t.Errorf("chose %q", got)
				}
				for _, s := range []string{streamHeader, "<auth", "/>", " ", "</stream:stream>"} {
					p.echo(s)
					w.expect(s[:min(len(s), 60)])
				}
				i := (<-w.flows).Info()
				if i.Service != "xmpp" || i.Transport != "tls" || i.Remote.String() != "192.0.2.7:4711" ||
					i.Public != "edge.example.com:5223" || i.SNI != "example.com" {
					t.Errorf("the core was told %+v", i)
				}
				w.count("sallyport_edge_flows", "service", "xmpp", 1)
				_ = p.conn.Close()
				w.expect("closed client-closed")
			})
		})
	}
}

func TestXEP0368_XMPPByALPNOnHTTPS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := foundFor(t, both, true, nil)
		p := w.mustCall(":443", &tls.Config{NextProtos: []string{"xmpp-client"}})
		p.echo(streamHeader)
		if i := (<-w.flows).Info(); i.Service != "xmpp" || i.Transport != "tls" || i.Public != "edge.example.com:443" {
			t.Errorf("the core was told %+v", i)
		}
		if _, err := w.call(":5223", &tls.Config{NextProtos: []string{"h2"}}); err == nil {
			t.Error("another protocol's client was let in on xmpps")
		}
	})
}

// RFC 7395 §3.3: one frame is one element, both ways.
func TestRFC7395_XMPPOverWebSocketReachesTheCore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := foundFor(t, both, true, nil)
		ws, _, err := w.page(&websocket.DialOptions{Subprotocols: []string{"xmpp"}})
		if err != nil {
			t.Fatal(err)
		}
		if ws.Subprotocol() != "xmpp" {
			t.Errorf("subprotocol %q", ws.Subprotocol())
		}
		for _, s := range []string{openFrame, "<r xmlns='urn:xmpp:sm:3'/>"} {
			_ = ws.Write(t.Context(), websocket.MessageText, []byte(s))
			w.expect(s[:min(len(s), 60)])
			if typ, p, err := ws.Read(t.Context()); string(p) != s || typ != websocket.MessageText {
				t.Errorf("read %q, %v", p, err)
			}
		}
		f := <-w.flows
		if i := f.Info(); i.Service != "xmpp" || i.Transport != "wss" || i.Path != "/ws" || i.Subprotocol != "xmpp" || i.Public != "edge.example.com:443" {
			t.Errorf("the core was told %+v", i)
		}
		f.Close(tunnel.CloseClient, "") // the stream was closed in order (RFC 7395 §3.6)
		if _, _, err := ws.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusNormalClosure {
			t.Errorf("the page was told %v", err)
		}
	})
}

// A roster is longer than a frame of the tunnel.
func TestRFC7395_LongElementsPassBothWays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := foundFor(t, both, true, nil)
		ws, _, err := w.page(&websocket.DialOptions{Subprotocols: []string{"xmpp"}})
		if err != nil {
			t.Fatal(err)
		}
		ws.SetReadLimit(1 << 20)
		for _, n := range []int{65_536, 65_537, 131_072, 200_000, 262_144} {
			s := "<iq>" + strings.Repeat("é", (n-9)/2) + strings.Repeat(" ", (n-9)%2) + "</iq>"
			go func() { _ = ws.Write(t.Context(), websocket.MessageText, []byte(s)) }()
			if typ, p, err := ws.Read(t.Context()); string(p) != s || typ != websocket.MessageText {
				t.Errorf("read %d bytes of %d, %v", len(p), n, err)
			}
		}
		_ = ws.Close(websocket.StatusNormalClosure, "")
	})
}

func TestXMPPPageThatStopsAnsweringIsSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := foundFor(t, both, true, nil)
		ws, _, err := w.page(&websocket.DialOptions{Subprotocols: []string{"xmpp"}})
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		_ = ws.Write(t.Context(), websocket.MessageText, []byte("<open/>"))
		w.expect("<open/>", "silent", "closed keepalive-lost") // it reads no more, so it pongs no more
		if d := time.Since(start); d != 60*time.Second {
			t.Errorf("gone after %v", d)
		}
		_ = ws.CloseNow()
	})
}

// What a stream says between elements is its server's business, and so is when
// it has said nothing for too long.
func TestXMPPStreamIsNeverSilentToTheEdge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := foundFor(t, both, true, nil)
		p := w.mustCall(":5223", &tls.Config{})
		p.echo("<a/>\r\n\r\n")
		time.Sleep(24 * time.Hour)
		p.echo("<b/>")
		w.expect("<a/>\r\n\r\n", "<b/>")
	})
}

// Flows go only to cores that offer their service (HELLO). Where none does,
// XMPP is refused at the door and SIP goes on.
func TestWithoutXMPPInsideItsClientsAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := foundFor(t, []string{"sip"}, true, nil)
		for range 2 {
			_, resp, err := w.page(&websocket.DialOptions{Subprotocols: []string{"xmpp"}})
			if err == nil || resp == nil || resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
				t.Errorf("upgrade: %v, %v", resp, err)
			}
		}
		if _, err := w.call(":5223", &tls.Config{}); err == nil {
			t.Error("a handshake was spent on a client that nobody serves")
		}
		p := w.mustCall(":443", &tls.Config{NextProtos: []string{"xmpp-client"}})
		<-p.over
		w.count("sallyport_edge_refused_total", "reason", "no_service", 4)
		w.count("sallyport_edge_refused_total", "reason", "no_core", 0)
		phone := w.mustCall(":5061", &tls.Config{})
		phone.say(options(1))
		phone.hear(ok)
		ws, _, err := w.page(&websocket.DialOptions{Subprotocols: []string{"xmpp", "sip"}})
		if err != nil || ws.Subprotocol() != "sip" {
			t.Errorf("one who speaks both: %v", err)
		}
		w.stop()
		<-w.done
		w.done <- nil
		if n := strings.Count(w.logs.String(), "no core that is connected carries their service"); n != 1 {
			t.Errorf("it was logged %d times", n)
		}
	})
}

func TestXEP0156_HostMetaIsServedAndCountsAsNoRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := foundFor(t, both, true, func(c *edge.Config) { c.Public.Origins = []string{"https://app.example.com"} })
		p := w.mustCall(":443", &tls.Config{NextProtos: []string{"http/1.1"}, ServerName: "example.com"})
		p.say("GET /.well-known/host-meta.json HTTP/1.1\r\nHost: example.com\r\nOrigin: https://any.example\r\n\r\n")
		answer, _ := io.ReadAll(p.r)
		if !strings.HasSuffix(string(answer), `{"links":[{"href":"wss://example.com/ws","rel":"urn:xmpp:alt-connections:websocket"}]}`+"\n") {
			t.Errorf("answer %q", answer)
		}
		w.count("sallyport_edge_refused_total", "reason", "http", 0)
	})
}

// An XMPP client needs the certificate of its domain, not of the host it found
// by SRV (RFC 6125, XEP-0368).
func TestXMPPDomainHasItsOwnCertificate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		writePublic(t, dir, 77)
		w := foundFor(t, both, true, func(c *edge.Config) {
			c.TLS.Certificates = []edge.Certificate{{Cert: dir + "/public.pem", Key: dir + "/public.key", Names: []string{"example.com"}}}
		})
		for name, want := range map[string]int64{"example.com": 77, "edge.example.com": 1} {
			for _, door := range []string{":5223", ":443"} {
				p := w.mustCall(door, &tls.Config{ServerName: name, NextProtos: []string{"xmpp-client"}})
				if n := p.conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64(); n != want {
					t.Errorf("%s at %s is shown certificate %d, want %d", name, door, n, want)
				}
				p.echo("<stream:stream>")
			}
		}
	})
}

// A second core that carries XMPP gets its flows, and the first keeps SIP's.
func TestEachServiceGoesToItsCore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := foundFor(t, []string{"sip"}, true, nil)
		chat := &town{t: t, services: []string{"xmpp"}, flows: make(chan *tunnel.Flow, 10), heard: make(chan string, 10)}
		ctx, hangUp := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = runCoreAs(t, ctx, w.dir, "core2", chat, func(ctx context.Context) (net.Conn, error) {
				return w.dial(ctx, "10.2.0.6:50000", "10.1.0.4:7443")
			})
		}()
		synctest.Wait()
		p := w.mustCall(":5223", &tls.Config{})
		p.echo("<a/>")
		chat.expect("<a/>")
		phone := w.mustCall(":5061", &tls.Config{})
		phone.say(options(1))
		w.expect(options(1))
		hangUp()
		<-done
	})
}
