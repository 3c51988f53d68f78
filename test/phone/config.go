package phone

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net"
	"strings"
)

// Transport is how a phone reaches its server.
type Transport string

// The transports a phone speaks.
const (
	TLS Transport = "tls"
	WSS Transport = "wss"
	WS  Transport = "ws"
	TCP Transport = "tcp"
)

// Config says who a phone is and where its server is.
type Config struct {
	// AOR is the public identity, as in "sip:alice@example.com".
	AOR string
	// DisplayName goes into From; empty means none.
	DisplayName string
	// AuthUser is the digest user name; empty means the user part of AOR.
	AuthUser string
	Password string

	Transport Transport
	// Addr is the HOST:PORT to dial.
	Addr string
	// Path is the WebSocket's path; empty means "/ws".
	Path string
	// TLS is used by TLS and WSS; ServerName defaults to the host of Addr.
	TLS *tls.Config
	// Dial replaces the dialer of the TCP connection under everything else.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Public is the HOST:PORT of the edge in front of the phone. Where it is set, the
	// phone complains of a Record-Route that names another (clients that dial their
	// top Route would be lost) and of a request with Vias beside the edge's.
	Public string

	// Instance is the +sip.instance URN; empty means a random one.
	Instance string
	// ContactUser is the user part of the contact; empty means a random one.
	ContactUser string
	UserAgent   string
	// Headers are added to every request outside a dialog.
	Headers []Header
	Log     *slog.Logger
}

// withDefaults fills what is empty and says what is wrong.
func (c Config) withDefaults() (Config, error) {
	user, domain, ok := strings.Cut(strings.TrimPrefix(c.AOR, "sip:"), "@")
	if !ok || user == "" || domain == "" {
		return c, fmt.Errorf("phone: AOR %q is not sip:user@domain", c.AOR)
	}
	c.AOR = "sip:" + user + "@" + domain
	switch c.Transport {
	case TLS, WSS, WS, TCP:
	default:
		return c, fmt.Errorf("phone: transport %q is none of tls, wss, ws, tcp", c.Transport)
	}
	defaultTo(&c.AuthUser, user)
	defaultTo(&c.Path, "/ws")
	defaultTo(&c.UserAgent, "sallyport-phone")
	if c.Instance == "" {
		c.Instance = newUUID()
	}
	if c.ContactUser == "" {
		c.ContactUser = token(5)
	}
	if c.Dial == nil {
		c.Dial = new(net.Dialer).DialContext
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

func defaultTo(s *string, value string) {
	if *s == "" {
		*s = value
	}
}

// overWebSocket reports whether messages travel as WebSocket messages.
func (t Transport) overWebSocket() bool { return t == WSS || t == WS }

// via is the transport's name in a Via header (RFC 3261 §7.1, RFC 7118 §5.2).
func (t Transport) via() string { return strings.ToUpper(string(t)) }

// param is the transport's name in a URI: RFC 7118 §5.3 has "ws" for both.
func (t Transport) param() string {
	if t == WSS {
		return string(WS)
	}
	return string(t)
}

// token returns n random bytes in hexadecimal, for tags, branches and names.
func token(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	return hex.EncodeToString(b)
}

// newUUID returns a random UUID as a URN (RFC 5626 §4.1).
func newUUID() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b)
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("urn:uuid:%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
