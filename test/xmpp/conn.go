package xmpp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"

	"github.com/coder/websocket"

	"sallyport/core/stanza"
)

// maxElement bounds what the client takes in one piece.
const maxElement = 1 << 20

// conn is one connection, of any transport. One goroutine reads, any write.
type conn struct {
	tcp    *net.TCPConn
	stream net.Conn        // tcp, or TLS over it; not read with a WebSocket
	ws     *websocket.Conn // nil but for one
	cut    *stanza.Cutter
	buf    []byte
	domain string

	writing sync.Mutex
}

// dial connects to a URL of the schemes tcp, starttls, tls, ws or wss. What
// STARTTLS needs is done.
func dial(ctx context.Context, url, domain string, config *tls.Config) (*conn, error) {
	scheme, rest, _ := strings.Cut(url, "://")
	c := &conn{domain: domain, cut: stanza.New(stanza.Limits{MaxElement: maxElement}), buf: make([]byte, 16<<10)}
	if scheme == "ws" || scheme == "wss" {
		return c, c.dialWS(ctx, url, config)
	}
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", rest)
	if err != nil {
		return nil, err
	}
	c.tcp = raw.(*net.TCPConn)
	c.stream = raw
	stop := context.AfterFunc(ctx, c.reset)
	defer stop()
	switch scheme {
	case "tcp":
	case "tls":
		err = c.secure(ctx, config)
	case "starttls":
		err = c.startTLS(ctx, config)
	default:
		err = fmt.Errorf("%s: unknown scheme", url)
	}
	if err != nil {
		c.reset()
		return nil, err
	}
	return c, nil
}

func (c *conn) dialWS(ctx context.Context, url string, config *tls.Config) error {
	transport := &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}
	transport.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		raw, err := new(net.Dialer).DialContext(ctx, network, addr)
		if err == nil {
			c.tcp = raw.(*net.TCPConn)
		}
		return raw, err
	}
	ws, _, err := websocket.Dial(ctx, url, &websocket.DialOptions{
		HTTPClient: &http.Client{Transport: transport}, Subprotocols: []string{"xmpp"},
	})
	if err != nil {
		return err
	}
	if ws.Subprotocol() != "xmpp" {
		_ = ws.CloseNow()
		return fmt.Errorf("%s chose subprotocol %q, want xmpp", url, ws.Subprotocol())
	}
	ws.SetReadLimit(maxElement)
	c.ws = ws
	return nil
}

// secure makes the connection one of TLS.
func (c *conn) secure(ctx context.Context, config *tls.Config) error {
	config = config.Clone()
	config.NextProtos = []string{"xmpp-client"}
	over := tls.Client(c.tcp, config)
	if err := over.HandshakeContext(ctx); err != nil {
		return err
	}
	c.stream = over
	c.cut = stanza.New(stanza.Limits{MaxElement: maxElement})
	return nil
}

func (c *conn) startTLS(ctx context.Context, config *tls.Config) error {
	if _, err := c.open(); err != nil {
		return err
	}
	if err := c.write([]byte("<starttls xmlns='" + NSTLS + "'/>")); err != nil {
		return err
	}
	answer, err := c.read()
	if err != nil {
		return err
	}
	if !answer.Is(NSTLS, "proceed") {
		return fmt.Errorf("STARTTLS was answered by %s", answer.Raw)
	}
	return c.secure(ctx, config)
}

// open starts a stream, the first or one after SASL, and returns its features.
func (c *conn) open() (*Stanza, error) {
	header := "<?xml version='1.0'?><stream:stream xmlns='" + NSClient + "' xmlns:stream='" + NSStream + "' version='1.0' to='" + escape(c.domain) + "'>"
	if c.ws != nil {
		header = "<open xmlns='" + NSFraming + "' version='1.0' to='" + escape(c.domain) + "'/>"
	}
	c.cut.Restart()
	if err := c.write([]byte(header)); err != nil {
		return nil, err
	}
	answer, err := c.next()
	if err != nil {
		return nil, err
	}
	if !answer.Is(NSStream, "stream") && !answer.Is(NSFraming, "open") {
		return nil, fmt.Errorf("the stream's header was answered by %s", answer.Raw)
	}
	features, err := c.read()
	if err == nil && !features.Is(NSStream, "features") {
		err = fmt.Errorf("no features but %s", features.Raw)
	}
	return features, err
}

// errStreamEnd: the other side ended the stream as it should.
var errStreamEnd = errors.New("the stream was ended")

// read returns the next element, or a stream error as an error.
func (c *conn) read() (*Stanza, error) {
	s, err := c.next()
	switch {
	case err != nil:
		return nil, err
	case s.Is(NSStream, "error"):
		return nil, &StreamError{Raw: s.Raw, Condition: firstChild(s)}
	case s.Is(NSFraming, "close"):
		return nil, errStreamEnd
	default:
		return s, nil
	}
}

// next returns what comes next, the header included.
func (c *conn) next() (*Stanza, error) {
	if c.ws != nil {
		kind, text, err := c.ws.Read(context.Background())
		if err != nil {
			return nil, err
		}
		if kind != websocket.MessageText {
			return nil, errors.New("a binary message (RFC 7395 §3.2 has text alone)")
		}
		e, err := stanza.Parse(text, stanza.Limits{MaxElement: maxElement})
		if err != nil {
			return nil, fmt.Errorf("%w: %q", err, text)
		}
		return keepStanza(e), nil
	}
	for {
		kind, e, err := c.cut.Next()
		switch {
		case err != nil:
			return nil, err
		case kind == stanza.Header, kind == stanza.Whole:
			return keepStanza(e), nil
		case kind == stanza.End:
			return nil, errStreamEnd
		}
		n, err := c.stream.Read(c.buf)
		if n > 0 {
			c.cut.Feed(c.buf[:n])
		} else if err != nil {
			return nil, err
		}
	}
}

// write sends one element, whole.
func (c *conn) write(p []byte) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	if c.ws != nil {
		return c.ws.Write(context.Background(), websocket.MessageText, p)
	}
	_, err := c.stream.Write(p)
	return err
}

// reset ends the connection by a TCP RST, as a network does that forgets it.
func (c *conn) reset() {
	if c.tcp != nil {
		_ = c.tcp.SetLinger(0)
		_ = c.tcp.Close()
	}
	if c.ws != nil {
		_ = c.ws.CloseNow()
	}
}

// drop ends the connection by a TCP FIN, without a word.
func (c *conn) drop() {
	_ = c.tcp.Close()
	if c.ws != nil {
		_ = c.ws.CloseNow()
	}
}

// bye ends the stream.
func (c *conn) bye() error {
	if c.ws != nil {
		return c.write([]byte("<close xmlns='" + NSFraming + "'/>"))
	}
	return c.write([]byte("</stream:stream>"))
}

// StreamError is what ended a stream (RFC 6120 §4.9).
type StreamError struct {
	Condition string
	Raw       []byte
}

// Error is the element itself.
func (e *StreamError) Error() string { return "stream error: " + string(e.Raw) }

func firstChild(s *Stanza) string {
	if len(s.Children) == 0 {
		return ""
	}
	return s.Children[0].Name
}
