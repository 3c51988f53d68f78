package transport_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"sallyport/edge/transport"
)

// asked is a connection on which everything has been said already; it keeps
// what is answered.
type asked struct {
	io.Reader
	strings.Builder
}

func (*asked) Close() error                     { return nil }
func (*asked) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (*asked) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (*asked) SetDeadline(time.Time) error      { return nil }
func (*asked) SetReadDeadline(time.Time) error  { return nil }
func (*asked) SetWriteDeadline(time.Time) error { return nil }

func spoken(subprotocol string) bool { return subprotocol == "sip" || subprotocol == "xmpp" }

// FuzzUpgrade: whatever a client asks, it gets one HTTP answer at most, and is
// let in with 101 and one of our subprotocols, or not at all.
func FuzzUpgrade(f *testing.F) {
	f.Add(upgradeRequest + "\r\n")
	f.Add(upgradeFor("soap, xmpp, sip") + "\r\n")
	f.Add("GET /.well-known/host-meta HTTP/1.1\r\nHost: a.example:443\r\n\r\n")
	f.Add("GET /.well-known/host-meta.json HTTP/1.1\r\nHost: [::1]\r\n\r\n")
	f.Add("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	f.Add("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
	f.Add(strings.Replace(upgradeRequest, "GET /ws", "POST http://other/ws?x#y", 1) + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n")
	f.Add(upgradeRequest + "Origin: https://a.example\r\nX : y\r\n z\r\n\r\n\x81\x80")
	tr := transport.New(transport.Config{})
	f.Fuzz(func(t *testing.T, request string) {
		c := &asked{Reader: strings.NewReader(request)}
		conn, _, err := tr.WebSocket(c, upgrade())
		said := bufio.NewReader(strings.NewReader(c.String()))
		answer, aerr := http.ReadResponse(said, &http.Request{Method: http.MethodGet})
		var no *transport.Refusal
		switch {
		case err == nil:
			if aerr != nil || answer.StatusCode != http.StatusSwitchingProtocols || !spoken(answer.Header.Get("Sec-WebSocket-Protocol")) {
				t.Fatalf("let in with %q, %v", c.String(), aerr)
			}
			conn.Close(transport.ClientReset)
			return
		case !errors.As(err, &no):
			t.Fatalf("an error of its own kind: %v", err)
		case no.Status == 0:
			if c.Len() != 0 {
				t.Fatalf("nobody was there, and was told %q", c.String())
			}
			return
		case aerr != nil || answer.StatusCode != no.Status || (answer.StatusCode < 400) != (no.Why == transport.Told) || !answer.Close:
			t.Fatalf("refused with %d and told %q, %v", no.Status, c.String(), aerr)
		}
		if _, err := io.Copy(io.Discard, answer.Body); err != nil || said.Buffered() > 0 {
			t.Fatalf("more than one answer: %q, %v", c.String(), err)
		}
	})
}
