package phone

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/coder/websocket"
)

const (
	// maxMessage bounds what a server may send a phone at once.
	maxMessage = 1 << 20
	// writeLimit ends a connection whose server has stopped reading.
	writeLimit = 10 * time.Second
)

// conn carries whole messages and keep-alives ("\r\n\r\n" and "\r\n").
type conn interface {
	read() ([]byte, error)
	write(p []byte) error
	close()
	localAddr() string
}

// dial connects as cfg says. The connection lives on when ctx ends.
func dial(ctx context.Context, cfg Config) (conn, error) {
	if cfg.Transport.overWebSocket() {
		return dialWebSocket(ctx, cfg)
	}
	c, err := cfg.Dial(ctx, "tcp", cfg.Addr)
	if err != nil {
		return nil, err
	}
	if cfg.Transport == TLS {
		secure := tls.Client(c, tlsConfig(cfg, "sip"))
		if err := secure.HandshakeContext(ctx); err != nil {
			c.Close()
			return nil, err
		}
		c = secure
	}
	return &streamConn{conn: c, r: bufio.NewReaderSize(c, 64<<10)}, nil
}

// tlsConfig is the phone's own copy, so that its caller's stays untouched.
func tlsConfig(cfg Config, alpn ...string) *tls.Config {
	c := cfg.TLS.Clone()
	if c == nil {
		c = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if c.ServerName == "" {
		c.ServerName, _, _ = net.SplitHostPort(cfg.Addr)
	}
	if c.NextProtos == nil {
		c.NextProtos = alpn
	}
	return c
}

// streamConn frames by Content-Length (RFC 3261 §18.3).
type streamConn struct {
	conn net.Conn
	r    *bufio.Reader
}

func (c *streamConn) localAddr() string { return c.conn.LocalAddr().String() }
func (c *streamConn) close()            { c.conn.Close() }

func (c *streamConn) write(p []byte) error {
	if err := c.conn.SetWriteDeadline(time.Now().Add(writeLimit)); err != nil {
		return err
	}
	_, err := c.conn.Write(p)
	return err
}

func (c *streamConn) read() ([]byte, error) {
	var msg bytes.Buffer
	length := 0
	for {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			return nil, err
		}
		if msg.Len() == 0 && string(line) == "\r\n" {
			return c.keepalive()
		}
		if msg.Write(line); msg.Len() > maxMessage {
			return nil, fmt.Errorf("phone: header block over %d bytes", maxMessage)
		}
		if string(line) == "\r\n" {
			break
		}
		if name, value, _ := strings.Cut(string(line), ":"); sameHeader(strings.TrimSpace(name), "Content-Length") {
			if length, err = strconv.Atoi(strings.TrimSpace(value)); err != nil || length < 0 || length > maxMessage {
				return nil, fmt.Errorf("phone: Content-Length %q", strings.TrimSpace(value))
			}
		}
	}
	if _, err := io.CopyN(&msg, c.r, int64(length)); err != nil {
		return nil, err
	}
	return msg.Bytes(), nil
}

// keepalive has read one CRLF between messages; a second one that is already
// there makes it a ping (RFC 5626 §3.5.1).
func (c *streamConn) keepalive() ([]byte, error) {
	if c.r.Buffered() >= 2 {
		if next, _ := c.r.Peek(2); string(next) == "\r\n" {
			_, err := c.r.Discard(2)
			return []byte("\r\n\r\n"), err
		}
	}
	return []byte("\r\n"), nil
}

// wsConn is SIP over WebSocket (RFC 7118): a message a WebSocket message.
type wsConn struct {
	ws    *websocket.Conn
	local string
	stop  context.CancelFunc
	ctx   context.Context // ends the reads; cancelled by close
}

func dialWebSocket(ctx context.Context, cfg Config) (conn, error) {
	var local string
	transport := &http.Transport{
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := cfg.Dial(ctx, network, cfg.Addr)
			if err == nil {
				local = c.LocalAddr().String()
			}
			return c, err
		},
		TLSClientConfig:   tlsConfig(cfg, "http/1.1"),
		DisableKeepAlives: true,
	}
	ws, resp, err := websocket.Dial(ctx, string(cfg.Transport)+"://"+cfg.Addr+cfg.Path, &websocket.DialOptions{
		HTTPClient:   &http.Client{Transport: transport},
		HTTPHeader:   http.Header{"Origin": {"https://phone.invalid"}},
		Subprotocols: []string{"sip"},
	})
	if err != nil {
		if resp != nil {
			return nil, fmt.Errorf("websocket: %s: %w", resp.Status, err)
		}
		return nil, err
	}
	if ws.Subprotocol() != "sip" {
		_ = ws.CloseNow()
		return nil, fmt.Errorf("websocket: subprotocol %q, want sip (RFC 7118 §4)", ws.Subprotocol())
	}
	ws.SetReadLimit(maxMessage)
	reading, stop := context.WithCancel(context.WithoutCancel(ctx))
	return &wsConn{ws: ws, local: local, ctx: reading, stop: stop}, nil
}

func (c *wsConn) localAddr() string { return c.local }

func (c *wsConn) read() ([]byte, error) {
	_, p, err := c.ws.Read(c.ctx)
	return p, err
}

func (c *wsConn) write(p []byte) error {
	ctx, cancel := context.WithTimeout(c.ctx, writeLimit)
	defer cancel()
	return c.ws.Write(ctx, websocket.MessageText, p)
}

// close drops the socket without a closing handshake, as a phone that is put
// to sleep does.
func (c *wsConn) close() {
	c.stop()
	_ = c.ws.CloseNow()
}
