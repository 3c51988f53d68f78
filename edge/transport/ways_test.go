package transport_test

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/edge/transport"
)

// way is one of those in which a connection can be waited for. Over pipes, in
// bubbles, time is exact; over sockets it is real, and short.
type way struct {
	sockets bool // TLS over TCP, parked where the system can
	library bool // WebSocket frames by coder/websocket
	second  time.Duration
}

var (
	plain     = way{second: time.Second}
	byLibrary = way{library: true, second: time.Second}
	sockets   = way{sockets: true, second: 10 * time.Millisecond}
)

// each runs a test in several ways.
func each(t *testing.T, ways []way, test func(t *testing.T, w way)) {
	for _, w := range ways {
		switch {
		case w.sockets:
			t.Run("parked", func(t *testing.T) { test(t, w) })
		case w.library:
			t.Run("library", func(t *testing.T) { synctest.Test(t, func(t *testing.T) { test(t, w) }) })
		default:
			t.Run("plain", func(t *testing.T) { synctest.Test(t, func(t *testing.T) { test(t, w) }) })
		}
	}
}

func onStream(t *testing.T, test func(t *testing.T, w way)) {
	each(t, []way{plain, sockets}, test)
}

func onWebSocket(t *testing.T, test func(t *testing.T, w way)) {
	each(t, []way{byLibrary, plain, sockets}, test)
}

// times scales the limits of a test about time.
func (w way) times() transport.Config {
	return transport.Config{FirstMessage: 10 * w.second, WholeMessage: 30 * w.second, WriteTimeout: 30 * w.second}
}

// took checks how many of a way's seconds have gone by.
func (w way) took(t *testing.T, start time.Time, seconds int) {
	t.Helper()
	d, want := time.Since(start), time.Duration(seconds)*w.second
	if !w.sockets && d != want || d < want || d > want+20*time.Second {
		t.Errorf("took %v, want %v", d, want)
	}
}

// link returns both ends of a connection, the server's ready for tr.
func (w way) link(t *testing.T, tr *transport.Transport) (client, server net.Conn) {
	t.Helper()
	if !w.sockets {
		return net.Pipe()
	}
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return shake(t, tr, c, s)
}

// stream returns a client's end of a stream that e listens to.
func (w way) stream(t *testing.T, cfg transport.Config, e *ear) (net.Conn, transport.Conn) {
	t.Helper()
	tr := transport.New(cfg)
	c, s := w.link(t, tr)
	conn := tr.Stream(s)
	conn.Start(e)
	w.check(t, c, conn)
	return c, conn
}

// raw returns a client's end of a stream that is not cut.
func (w way) raw(t *testing.T, cfg transport.Config, e *ear) (net.Conn, transport.Conn) {
	t.Helper()
	tr := transport.New(cfg)
	c, s := w.link(t, tr)
	conn := tr.Raw(s)
	conn.Start(e)
	w.check(t, c, conn)
	return c, conn
}

// browse upgrades a connection to SIP and starts to listen.
func (w way) browse(t *testing.T, cfg transport.Config, e *ear) (*browser, transport.Conn) {
	t.Helper()
	return w.browseFor(t, "sip", cfg, e)
}

// browseFor is browse for a subprotocol.
func (w way) browseFor(t *testing.T, subprotocol string, cfg transport.Config, e *ear) (*browser, transport.Conn) {
	t.Helper()
	tr := transport.New(cfg)
	if !w.library {
		transport.OwnFrames(tr)
	}
	c, s := w.link(t, tr)
	b := &browser{t, c, bufio.NewReader(c)}
	answered := make(chan string, 1)
	go func() {
		_, _ = io.WriteString(c, upgradeFor(subprotocol)+"\r\n")
		answered <- b.response()
	}()
	conn, asked, err := tr.WebSocket(s, upgrade())
	if err != nil {
		t.Fatal(err)
	}
	if asked != (transport.Asked{Host: "edge.example.com", Path: "/ws", Subprotocol: subprotocol}) {
		t.Errorf("asked %+v", asked)
	}
	if got := <-answered; !strings.Contains(got, " 101 ") || !strings.Contains(got, "Sec-Websocket-Protocol: "+subprotocol+"\r\n") {
		t.Fatalf("answer %q", got)
	}
	conn.Start(e)
	w.check(t, c, conn)
	return b, conn
}

// check sees to it that a way is what it says, and that nothing is left.
func (w way) check(t *testing.T, c net.Conn, conn transport.Conn) {
	t.Helper()
	if has, _ := transport.Parked(conn); has != (w.sockets && runtime.GOOS == "linux") {
		t.Fatalf("parked: %v", has)
	}
	t.Cleanup(func() {
		_ = c.Close()
		conn.Close(transport.ClientReset)
	})
}

// trickle writes in a byte at a time until it fails: over pipes one each
// second, over sockets as fast as they go.
func (w way) trickle(c net.Conn, in string) {
	for i := range len(in) {
		if _, err := io.WriteString(c, in[i:i+1]); err != nil {
			return
		}
		if !w.sockets {
			time.Sleep(w.second)
		}
	}
}

// hour lets a long time pass where that costs nothing.
func (w way) hour() {
	if !w.sockets {
		time.Sleep(time.Hour)
	}
}

// shake does both sides of a TLS handshake.
func shake(t *testing.T, tr *transport.Transport, c, s net.Conn) (client, server *tls.Conn) {
	t.Helper()
	client = tls.Client(c, &tls.Config{InsecureSkipVerify: true})
	shaken := make(chan error, 1)
	go func() { shaken <- client.Handshake() }()
	server, err := tr.Handshake(t.Context(), s, &tls.Config{Certificates: []tls.Certificate{selfSigned(t)}, SessionTicketsDisabled: true}, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if err := <-shaken; err != nil {
		t.Fatal(err)
	}
	return client, server
}
