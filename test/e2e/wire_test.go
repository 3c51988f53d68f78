package e2e

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"
)

// The frames of RFC 6455 §5.2, as their first byte.
const (
	frameCont   = 0x00
	frameText   = 0x01
	frameBinary = 0x02
	frameClose  = 0x08
	framePing   = 0x09
	framePong   = 0x0a
	frameFin    = 0x80
)

// carrier is how raw messages travel on a wire.
type carrier string

const (
	overTLS    carrier = "tls"
	overText   carrier = "wss text"
	overBinary carrier = "wss binary"
)

// A wire is a client's connection on which anything can be said. It frames by
// itself, so that it can frame wrongly.
type wire struct {
	t    testing.TB
	conn net.Conn
	r    *bufio.Reader
	as   carrier
	// code is that of the close frame with which a WebSocket ended, else 0.
	code int
}

// wireLimit is how long a wire waits for what it should hear at once.
const wireLimit = 10 * time.Second

// plug connects to the edge.
func (t *Town) plug(tb testing.TB, as carrier) *wire {
	tb.Helper()
	w := t.dial(tb, as)
	if as == overTLS {
		return w
	}
	w.write(upgradeRequest("") + "\r\n")
	if head := w.httpHead(); !strings.HasPrefix(head, "HTTP/1.1 101 ") {
		tb.Fatalf("the upgrade was answered with %q", head)
	}
	return w
}

// dial connects and ends TLS, and says nothing.
func (t *Town) dial(tb testing.TB, as carrier) *wire {
	tb.Helper()
	addr, alpn := t.SIPS, "sip"
	if as != overTLS {
		addr, alpn = t.HTTPS, "http/1.1"
	}
	socket, err := new(net.Dialer).DialContext(tb.Context(), "tcp", addr)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = socket.Close() })
	_ = socket.(*net.TCPConn).SetReadBuffer(16 << 10) // so that who does not read is soon felt
	c := tls.Client(socket, &tls.Config{RootCAs: t.roots, ServerName: "localhost", NextProtos: []string{alpn}, MinVersion: tls.VersionTLS12})
	if err := c.HandshakeContext(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	return newWire(tb, c, as)
}

func newWire(tb testing.TB, c net.Conn, as carrier) *wire {
	return &wire{t: tb, conn: c, r: bufio.NewReaderSize(c, 64<<10), as: as}
}

// upgradeRequest is a whole request but for the empty line; extra are header
// lines that come first, with their ends.
func upgradeRequest(extra string) string {
	return "GET /ws HTTP/1.1\r\n" + extra + "Host: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: sip\r\n"
}

// httpHead reads the head of an HTTP answer, "" when the connection ends.
func (w *wire) httpHead() string {
	_ = w.conn.SetReadDeadline(time.Now().Add(wireLimit))
	var head strings.Builder
	for {
		line, err := w.r.ReadString('\n')
		head.WriteString(line)
		if err != nil || line == "\r\n" {
			return head.String()
		}
	}
}

// write sends bytes as they are. A connection that the edge has closed is no
// failure: what came of it is for [wire.hear] to say.
func (w *wire) write(p string) { _ = w.try(p) }

func (w *wire) try(p string) error {
	_ = w.conn.SetWriteDeadline(time.Now().Add(wireLimit))
	_, err := io.WriteString(w.conn, p)
	return err
}

// say sends one message the way the carrier has it.
func (w *wire) say(p string) {
	switch w.as {
	case overText:
		w.write(frame(frameFin|frameText, p))
	case overBinary:
		w.write(frame(frameFin|frameBinary, p))
	default:
		w.write(p)
	}
}

// frame is one masked WebSocket frame.
func frame(first byte, payload string) string {
	head := []byte{first, 0x80}
	switch n := len(payload); {
	case n < 126:
		head[1] |= byte(n)
	case n < 1<<16:
		head[1] |= 126
		head = binary.BigEndian.AppendUint16(head, uint16(n))
	default:
		head[1] |= 127
		head = binary.BigEndian.AppendUint64(head, uint64(n))
	}
	mask := [4]byte{0xa5, 0x5a, 0x3c, 0xc3}
	head = append(head, mask[:]...)
	for i := range len(payload) {
		head = append(head, payload[i]^mask[i%4])
	}
	return string(head)
}

// errEnded says that the edge has closed the connection.
var errEnded = errors.New("closed")

// hear reads the next SIP message, or returns errEnded, or a timeout.
// Keep-alives and control frames are passed over.
func (w *wire) hear(within time.Duration) (string, error) {
	_ = w.conn.SetReadDeadline(time.Now().Add(within))
	for {
		p, err := w.next()
		var late net.Error
		switch {
		case errors.As(err, &late) && late.Timeout():
			return "", err
		case err != nil:
			return "", fmt.Errorf("%w: %w", errEnded, err)
		case strings.TrimSpace(p) != "":
			return p, nil
		}
	}
}

func (w *wire) next() (string, error) {
	if w.as == overTLS {
		return readSIP(w.r)
	}
	first, p, err := w.frame()
	switch {
	case err != nil:
		return "", err
	case first == frameFin|frameClose:
		if w.code = 1005; len(p) >= 2 {
			w.code = int(p[0])<<8 | int(p[1])
		}
		_ = w.try(frame(frameFin|frameClose, p))
		return "", io.EOF
	case first&0x08 != 0:
		return "", nil
	}
	return p, nil
}

// frame reads one frame of the edge.
func (w *wire) frame() (first byte, payload string, err error) {
	head := make([]byte, 2, 10)
	if _, err := io.ReadFull(w.r, head); err != nil {
		return 0, "", err
	}
	n := uint64(head[1])
	switch n {
	case 126:
		_, err = io.ReadFull(w.r, head[2:4])
		n = uint64(binary.BigEndian.Uint16(head[2:4]))
	case 127:
		_, err = io.ReadFull(w.r, head[2:10])
		n = binary.BigEndian.Uint64(head[2:10])
	}
	if err != nil || n > 1<<20 {
		return 0, "", fmt.Errorf("a frame of %d bytes: %w", n, err)
	}
	p := make([]byte, n)
	_, err = io.ReadFull(w.r, p)
	return head[0], string(p), err
}

// readSIP cuts one message off a stream.
func readSIP(r *bufio.Reader) (string, error) {
	var msg bytes.Buffer
	length := 0
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return "", err
		}
		msg.WriteString(line)
		if line == "\r\n" {
			break
		}
		if v, ok := strings.CutPrefix(line, "Content-Length:"); ok {
			if length, err = strconv.Atoi(strings.TrimSpace(v)); err != nil {
				return "", err
			}
		}
	}
	_, err := io.CopyN(&msg, r, int64(length))
	return msg.String(), err
}

// ended waits until the edge closes the connection.
func (w *wire) ended(within time.Duration) {
	w.t.Helper()
	for {
		if _, err := w.hear(within); errors.Is(err, errEnded) {
			return
		} else if err != nil {
			w.t.Fatalf("the flow lives on: %v", err)
		}
	}
}

// healthy is an OPTIONS that any server answers with 200; n tells it from
// others.
func healthy(via string, n int) string {
	return fmt.Sprintf("OPTIONS sip:localhost SIP/2.0\r\nVia: SIP/2.0/%s healthy.invalid;branch=z9hG4bKhealthy%d;rport\r\n"+
		"From: <sip:healthy@healthy.invalid>;tag=%[2]d\r\nTo: <sip:localhost>\r\nCall-ID: healthy-%[2]d\r\nCSeq: 1 OPTIONS\r\n"+
		"Max-Forwards: 70\r\nContent-Length: 0\r\n\r\n", via, n)
}

// isHealthy says whether an answer is that to healthy.
func isHealthy(answer string, n int) bool {
	return strings.HasPrefix(answer, "SIP/2.0 200 ") && strings.Contains(answer, fmt.Sprintf("\r\nCall-ID: healthy-%d\r\n", n))
}

// alive asks a healthy question and takes the answer, past whatever else comes.
func (w *wire) alive(n int) {
	w.t.Helper()
	w.say(healthy(map[bool]string{true: "TLS", false: "WSS"}[w.as == overTLS], n))
	for {
		answer, err := w.hear(wireLimit)
		if err != nil {
			w.t.Fatalf("a healthy OPTIONS got no answer: %v", err)
		}
		if isHealthy(answer, n) {
			return
		}
	}
}
