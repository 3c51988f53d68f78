package transport_test

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"io"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sallyport/edge/transport"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// ear is a receiver that notes what it hears.
type ear struct {
	heard chan string
	hold  chan struct{} // when not nil, Message waits for it
}

func newEar() *ear { return &ear{heard: make(chan string, 1000)} }

func (e *ear) Message(p []byte) error {
	e.heard <- "message " + string(p)
	if e.hold != nil {
		<-e.hold
	}
	return nil
}
func (e *ear) KeepAlive()      { e.heard <- "keep-alive" }
func (e *ear) Alive()          { e.heard <- "alive" }
func (e *ear) Ended(err error) { e.heard <- "ended " + transport.ReasonOf(err).String() }

func (e *ear) expect(t *testing.T, want ...string) {
	t.Helper()
	for _, w := range want {
		if got := <-e.heard; got != w {
			t.Fatalf("heard %.80q, want %.80q", got, w)
		}
	}
}

func options(n int) string {
	return fmt.Sprintf("OPTIONS sip:%d@example.com SIP/2.0\r\nContent-Length: 0\r\n\r\n", n)
}

// sized is a message of exactly n bytes.
func sized(n int) string {
	head := "MESSAGE sip:a@example.com SIP/2.0\r\nContent-Length: %05d\r\n\r\n"
	empty := len(fmt.Sprintf(head, 0))
	return fmt.Sprintf(head, n-empty) + strings.Repeat("b", n-empty)
}

// secure does both sides of a TLS handshake over a pipe.
func secure(t *testing.T, tr *transport.Transport) (client, server *tls.Conn) {
	t.Helper()
	c, s := net.Pipe()
	return shake(t, tr, c, s)
}

func selfSigned(t testing.TB) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour), DNSNames: []string{"edge.example.com"}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// browser is the client's end of a WebSocket, frame by frame.
type browser struct {
	t    *testing.T
	conn net.Conn
	r    *bufio.Reader
}

const upgradeRequest = "GET /ws HTTP/1.1\r\nHost: edge.example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
	"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: sip\r\n"

// upgradeFor is an upgradeRequest for other subprotocols.
func upgradeFor(subprotocols string) string {
	return strings.Replace(upgradeRequest, "Protocol: sip", "Protocol: "+subprotocols, 1)
}

func upgrade() transport.Upgrade {
	return transport.Upgrade{
		Origins: []string{"*"}, Timeout: 10 * time.Second,
		Ready:      func(string) bool { return true },
		RetryAfter: func() time.Duration { return 7 * time.Second },
	}
}

func (b *browser) response() string {
	var all strings.Builder
	for {
		line, err := b.r.ReadString('\n')
		all.WriteString(line)
		if line == "\r\n" || err != nil {
			return all.String()
		}
	}
}

// frame opcodes; fin is added where the message ends.
const (
	opCont, opText, opBinary, opClose, opPing, opPong = 0, 1, 2, 8, 9, 10
	fin                                               = 0x80
)

// send writes one masked frame.
func (b *browser) send(first byte, payload string) {
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
	mask := [4]byte{1, 2, 3, 4}
	head = append(head, mask[:]...)
	for i := range len(payload) {
		head = append(head, payload[i]^mask[i%4])
	}
	_, _ = b.conn.Write(head)
}

// receive reads one frame.
func (b *browser) receive() (first byte, payload string) {
	b.t.Helper()
	head := make([]byte, 2)
	if _, err := io.ReadFull(b.r, head); err != nil {
		b.t.Fatalf("no frame: %v", err)
	}
	n := int(head[1])
	if n == 126 {
		long := make([]byte, 2)
		_, _ = io.ReadFull(b.r, long)
		n = int(binary.BigEndian.Uint16(long))
	}
	p := make([]byte, n)
	_, _ = io.ReadFull(b.r, p)
	return head[0], string(p)
}

func (b *browser) expect(first byte, payload string) {
	b.t.Helper()
	if f, p := b.receive(); f != first || p != payload {
		b.t.Fatalf("frame 0x%02x %q, want 0x%02x %q", f, p, first, payload)
	}
}

// closed reads until a close frame, answers it, and returns its status.
func (b *browser) closed() int {
	b.t.Helper()
	first, p := b.receive()
	if first != fin|opClose || len(p) < 2 {
		b.t.Fatalf("frame 0x%02x %q, want a close frame", first, p)
	}
	b.send(fin|opClose, p[:2])
	return int(p[0])<<8 | int(p[1])
}
