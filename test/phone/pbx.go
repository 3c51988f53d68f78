package phone

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
)

// PBX is a small registrar and stateless proxy over TCP and WebSocket with digest
// authentication, for whole-system tests where Kamailio would be too heavy.
// It calls a contact on the connection that ends there, or dials it, as a
// PBX does; it forks to nobody and keeps no call.
type PBX struct {
	// Static after NewPBX.
	domain    string
	passwords map[string]string
	log       *slog.Logger
	nonce     string

	mu sync.Mutex
	// Guarded by mu.
	addr     string // where it listens: its name in Via and Record-Route
	lines    map[string]conn
	contacts map[string][]string // user → contact URIs, the newest last
	counts   map[string]int
	wg       sync.WaitGroup
}

// NewPBX makes a PBX for one domain with users and their passwords.
func NewPBX(domain string, passwords map[string]string, log *slog.Logger) *PBX {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &PBX{
		domain: domain, passwords: maps.Clone(passwords), log: log, nonce: token(16),
		lines: map[string]conn{}, contacts: map[string][]string{}, counts: map[string]int{},
	}
}

// Serve answers on l until ctx ends, and returns when no connection is left.
func (x *PBX) Serve(ctx context.Context, l net.Listener) error {
	x.mu.Lock()
	x.addr = l.Addr().String()
	x.mu.Unlock()
	stop := context.AfterFunc(ctx, func() {
		l.Close()
		x.mu.Lock()
		defer x.mu.Unlock()
		for _, c := range x.lines {
			c.close()
		}
	})
	defer stop()
	for {
		c, err := l.Accept()
		if err != nil {
			x.wg.Wait()
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		x.adopt(ctx, &streamConn{conn: c, r: bufio.NewReaderSize(c, 64<<10)}, c.RemoteAddr().String())
	}
}

// WebSocket returns a handler for clients that speak SIP over WebSocket
// (RFC 7118), for as long as ctx lasts. Serve must be running.
func (x *PBX) WebSocket(ctx context.Context) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"sip"}, InsecureSkipVerify: true})
		if err != nil {
			return
		}
		ws.SetReadLimit(maxMessage)
		reading, stop := context.WithCancel(ctx)
		x.adopt(ctx, &wsConn{ws: ws, ctx: reading, stop: stop}, r.RemoteAddr)
	})
}

// adopt takes a connection into service, accepted or dialled.
func (x *PBX) adopt(ctx context.Context, s conn, remote string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.lines[remote] = s
	if ctx.Err() != nil {
		s.close()
	}
	x.wg.Go(func() {
		defer func() {
			s.close()
			x.mu.Lock()
			defer x.mu.Unlock()
			maps.DeleteFunc(x.lines, func(_ string, other conn) bool { return other == s })
		}()
		for {
			raw, err := s.read()
			if err != nil {
				return
			}
			if strings.TrimSpace(string(raw)) == "" {
				if len(raw) == 4 {
					_ = s.write([]byte("\r\n"))
				}
				continue
			}
			if m, err := parse(raw); err == nil {
				x.handle(ctx, s, remote, m)
			}
		}
	})
}

// Contacts returns what user is registered with.
func (x *PBX) Contacts(user string) []string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return slices.Clone(x.contacts[user])
}

// Count returns how many requests of a method arrived.
func (x *PBX) Count(method string) int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.counts[method]
}

func (x *PBX) handle(ctx context.Context, s conn, remote string, m *Message) {
	if m.Method == "" {
		x.back(m)
		return
	}
	x.mu.Lock()
	x.counts[m.Method]++
	x.mu.Unlock()
	if m.Method == "REGISTER" {
		_ = s.write(x.register(s, m).Bytes())
		return
	}
	x.forward(ctx, s, remote, m)
}

// register answers a REGISTER and keeps what it says.
func (x *PBX) register(s conn, m *Message) *Message {
	to, _ := address(m.Get("To"))
	user := userOf(to)
	if !x.authentic(m, user) {
		resp := reply(m, 401, "Unauthorized", token(5))
		for _, algorithm := range []string{"SHA-256", "MD5"} {
			resp.Add("WWW-Authenticate", fmt.Sprintf(`Digest realm="%s", nonce="%s", algorithm=%s, qop="auth"`, x.domain, x.nonce, algorithm))
		}
		return resp
	}
	expires := m.Get("Expires")
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, c := range m.Values("Contact") {
		uri, params := address(c)
		kept := slices.DeleteFunc(x.contacts[user], func(old string) bool { return c == "*" || old == uri })
		if e, ok := param(params, "expires"); ok {
			expires = e
		}
		if expires != "0" {
			kept = append(kept, uri)
		}
		x.contacts[user] = kept
		if host := hostOf(uri); strings.HasSuffix(host, ".invalid") {
			x.lines[host] = s // only the connection leads there (RFC 7118 §5)
		}
	}
	resp := reply(m, 200, "OK", token(5))
	for _, uri := range x.contacts[user] {
		resp.Add("Contact", fmt.Sprintf("<%s>;expires=%s", uri, expires))
	}
	return resp
}

// authentic checks the digest of m, which must be user's own.
func (x *PBX) authentic(m *Message, user string) bool {
	_, rest, _ := strings.Cut(strings.Join(m.Lines("Authorization"), ","), " ")
	p := authParams(rest)
	password, known := x.passwords[user]
	sum, can := algorithms[strings.ToUpper(p["algorithm"])]
	if !known || !can || p["username"] != user || p["nonce"] != x.nonce {
		return false
	}
	hash := func(parts ...string) string {
		h := sum()
		h.Write([]byte(strings.Join(parts, ":")))
		return hex.EncodeToString(h.Sum(nil))
	}
	ha1, ha2 := hash(user, x.domain, password), hash(m.Method, p["uri"])
	return p["response"] == hash(ha1, x.nonce, p["nc"], p["cnonce"], p["qop"], ha2)
}

// forward sends a request on, statelessly (RFC 3261 §16.11): its branch follows
// from the one it came with, so that CANCEL and ACK take the INVITE's way.
func (x *PBX) forward(ctx context.Context, s conn, remote string, m *Message) {
	target, next, ok := x.route(m)
	if !ok {
		if m.Method != "ACK" {
			_ = s.write(reply(m, 480, "Temporarily Unavailable", token(5)).Bytes())
		}
		return
	}
	sum := sha256.Sum256([]byte(branchOf(m)))
	out := &Message{Method: m.Method, URI: target, Body: m.Body}
	out.Add("Via", fmt.Sprintf("SIP/2.0/TCP %s;branch=z9hG4bK%x;back=%x", x.addr, sum[:8], remote))
	if m.Method == "INVITE" {
		out.Add("Record-Route", "<sip:"+x.addr+";transport=tcp;lr>")
	}
	mine := true
	for _, h := range m.Headers {
		if sameHeader(h.Name, "Route") {
			routes := splitList(h.Value)
			if mine && strings.Contains(routes[0], x.addr) {
				routes = routes[1:]
			}
			mine = false
			for _, r := range routes {
				out.Add("Route", r)
			}
			continue
		}
		out.Headers = append(out.Headers, h)
	}
	line, err := x.lineTo(ctx, next)
	if err == nil {
		err = line.write(out.Bytes())
	}
	if err != nil && m.Method != "ACK" {
		_ = s.write(reply(m, 503, "Service Unavailable", token(5)).Bytes())
	}
}

// route finds where a request goes: its R-URI, and the address to send it to.
func (x *PBX) route(m *Message) (target, next string, ok bool) {
	target = m.URI
	x.mu.Lock()
	defer x.mu.Unlock()
	if host := hostOf(m.URI); host == x.domain || host == x.addr {
		all := x.contacts[userOf(m.URI)]
		if len(all) == 0 {
			return "", "", false
		}
		target = all[len(all)-1]
	}
	routes := m.Values("Route")
	if len(routes) > 0 && strings.Contains(routes[0], x.addr) {
		routes = routes[1:]
	}
	if len(routes) > 0 {
		uri, _ := address(routes[0])
		return target, hostOf(uri), true
	}
	return target, hostOf(target), true
}

// back returns a response to where our Via says the request came from.
func (x *PBX) back(m *Message) {
	_, params, _ := strings.Cut(m.Get("Via"), ";")
	back, _ := param(params, "back")
	from, _ := hex.DecodeString(back)
	out := &Message{Status: m.Status, Reason: m.Reason, Body: m.Body}
	first := true
	for _, h := range m.Headers {
		if sameHeader(h.Name, "Via") && first {
			first = false
			for _, rest := range splitList(h.Value)[1:] {
				out.Add("Via", rest)
			}
			continue
		}
		out.Headers = append(out.Headers, h)
	}
	x.mu.Lock()
	s := x.lines[string(from)]
	x.mu.Unlock()
	if s != nil {
		_ = s.write(out.Bytes())
	}
}

// lineTo returns the connection that ends at addr, dialled if need be.
func (x *PBX) lineTo(ctx context.Context, addr string) (conn, error) {
	x.mu.Lock()
	s := x.lines[addr]
	x.mu.Unlock()
	if s != nil {
		return s, nil
	}
	dialing, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	c, err := new(net.Dialer).DialContext(dialing, "tcp", addr)
	if err != nil {
		return nil, err
	}
	s = &streamConn{conn: c, r: bufio.NewReaderSize(c, 64<<10)}
	x.adopt(ctx, s, addr)
	return s, nil
}

// hostOf is the host:port of a URI.
func hostOf(uri string) string {
	_, rest, _ := strings.Cut(uri, ":")
	rest, _, _ = strings.Cut(rest, ";")
	rest, _, _ = strings.Cut(rest, "?")
	return rest[strings.LastIndexByte(rest, '@')+1:]
}
