package transport

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/coder/websocket"
)

const (
	// Path is where WebSockets are served.
	Path = "/ws"
	// SIP is the WebSocket subprotocol of RFC 7118.
	SIP = "sip"
	// XMPP is the WebSocket subprotocol of RFC 7395.
	XMPP = "xmpp"
	// maxRequest bounds the head of an HTTP request, in bytes. Browsers send
	// cookies of the whole site along.
	maxRequest = 16 << 10
	// wsRead and wsWrite are the buffers that a WebSocket keeps while idle, in
	// bytes. Longer messages go past them.
	wsRead, wsWrite = 512, 1024
)

// Upgrade is what the operator lets a WebSocket client do.
type Upgrade struct {
	// Origins are the web pages from which scripts may come: "*" for any,
	// otherwise scheme://host[:port], where host may begin with "*.". Clients
	// that are no web page send no Origin and pass.
	Origins []string
	// Timeout is how long the whole request may take.
	Timeout time.Duration
	// Ready reports whether there is somebody inside to talk to, in SIP or XMPP.
	Ready func(subprotocol string) bool
	// RetryAfter is what a client is told to wait when there is not.
	RetryAfter func() time.Duration
}

// Asked is what a client said in its HTTP request, with the subprotocol that
// was chosen of those it offered; "" where none was.
type Asked struct {
	Host, Path, Origin, Subprotocol string
}

// Refusal is a request that was answered, and not with an upgrade.
type Refusal struct {
	Status int    // of the answer, 0 where there was nobody to answer
	Why    Denied // a small set, for counting
	Err    error
	// Subprotocol is what nobody inside speaks, with DeniedNotReady.
	Subprotocol string

	page page // with status 200
}

// Denied says why there was no upgrade.
type Denied string

// Why there was no upgrade.
const (
	DeniedTimeout     Denied = "timeout"
	DeniedHTTP        Denied = "http"
	DeniedPath        Denied = "path"
	DeniedOrigin      Denied = "origin"
	DeniedSubprotocol Denied = "subprotocol"
	DeniedNotReady    Denied = "not-ready"
	Told              Denied = "told" // it was not asked for: a page was
)

// Error is the text of the error within.
func (r *Refusal) Error() string { return r.Err.Error() }

// Unwrap is the error within.
func (r *Refusal) Unwrap() error { return r.Err }

// WebSocket reads one HTTP request from c, whose TLS handshake is over, and
// upgrades it to SIP or XMPP over WebSocket, or answers and closes. The error
// is a *Refusal.
func (t *Transport) WebSocket(c net.Conn, u Upgrade) (Conn, Asked, error) {
	_ = c.SetDeadline(time.Now().Add(u.Timeout))
	head, req, err := readRequest(c)
	if err != nil {
		return nil, Asked{}, refuseUnread(c, err)
	}
	asked := Asked{Host: req.Host, Path: req.URL.Path, Origin: req.Header.Get("Origin"), Subprotocol: u.choose(req)}
	if no := u.judge(req, asked.Subprotocol); no != nil {
		answer(c, no, u.RetryAfter)
		return nil, asked, no
	}
	if asked.Subprotocol == XMPP {
		t.bound(c)
	}
	if t.ownFrames || parkable(c) {
		conn, no := t.frame(c, head, req, asked.Subprotocol)
		if no != nil {
			answer(c, no, nil)
			return nil, asked, no
		}
		_ = c.SetDeadline(time.Time{})
		return conn, asked, nil
	}
	w := &webSocket{t: t, raw: c, text: asked.Subprotocol == XMPP}
	rw := &hijackable{conn: head, header: make(http.Header)}
	w.ws, err = websocket.Accept(rw, req, &websocket.AcceptOptions{
		Subprotocols:       []string{asked.Subprotocol},
		InsecureSkipVerify: true, // judge has looked at Origin
		CompressionMode:    websocket.CompressionDisabled,
		OnPingReceived:     w.pinged,
		OnPongReceived:     w.ponged,
	})
	if err != nil {
		rw.finish()
		_ = c.Close()
		return nil, asked, &Refusal{Status: rw.status, Why: DeniedHTTP, Err: err}
	}
	w.ws.SetReadLimit(int64(t.longest(w.text)))
	_ = c.SetDeadline(time.Time{})
	return w, asked, nil
}

// longest is the longest message of a WebSocket, in XMPP or in SIP.
func (t *Transport) longest(xmpp bool) int {
	if xmpp {
		return t.cfg.MaxElement
	}
	return t.cfg.MaxMessage
}

// readRequest reads the head of one request. What was read beyond it is given
// back by the connection returned.
func readRequest(c net.Conn) (*prefixed, *http.Request, error) {
	src := &failing{Reader: c}
	br := bufio.NewReaderSize(io.LimitReader(src, maxRequest), 2048)
	req, err := http.ReadRequest(br)
	if err != nil {
		return nil, nil, cmp.Or(src.err, err)
	}
	rest, _ := br.Peek(br.Buffered())
	return &prefixed{Conn: c, rest: bytes.Clone(rest)}, req, nil
}

// refuseUnread ends a connection that brought no request.
func refuseUnread(c net.Conn, err error) *Refusal {
	why, status := DeniedHTTP, http.StatusBadRequest
	var timeout net.Error
	switch {
	case errors.As(err, &timeout) && timeout.Timeout():
		why, status = DeniedTimeout, 0
	case errors.Is(err, io.EOF):
		status = 0
	}
	no := &Refusal{Status: status, Why: why, Err: fmt.Errorf("http request: %w", err)}
	answer(c, no, nil)
	return no
}

// judge decides on a request before its upgrade is looked at.
func (u Upgrade) judge(req *http.Request, subprotocol string) *Refusal {
	origin := req.Header.Get("Origin")
	switch {
	case req.ProtoMajor != 1:
		return &Refusal{Status: http.StatusHTTPVersionNotSupported, Why: DeniedHTTP, Err: errors.New("only HTTP/1 is spoken here")}
	case !wellFormed(req):
		return &Refusal{Status: http.StatusBadRequest, Why: DeniedHTTP, Err: errors.New("a Host that is none, or a header name that is none")}
	case req.URL.Path == hostMetaXML, req.URL.Path == hostMetaJSON:
		return u.hostMeta(req)
	case req.URL.Path != Path:
		return &Refusal{Status: http.StatusNotFound, Why: DeniedPath, Err: errors.New("only " + Path + " is served here")}
	case req.Method != http.MethodGet:
		return &Refusal{Status: http.StatusMethodNotAllowed, Why: DeniedHTTP, Err: errors.New("only GET is served here")}
	case req.ContentLength != 0 || len(req.TransferEncoding) > 0:
		return &Refusal{Status: http.StatusBadRequest, Why: DeniedHTTP, Err: errors.New("a WebSocket request has no body")}
	case !originAllowed(u.Origins, origin):
		return &Refusal{Status: http.StatusForbidden, Why: DeniedOrigin, Err: errors.New("origin not allowed: the edge's public.origins does not list it")}
	case !offers(req.Header, "Upgrade", "websocket"):
		return &Refusal{Status: http.StatusUpgradeRequired, Why: DeniedHTTP, Err: errors.New("this is a WebSocket endpoint")}
	case subprotocol == "":
		return &Refusal{Status: http.StatusBadRequest, Why: DeniedSubprotocol, Err: errors.New("offer the WebSocket subprotocol sip (RFC 7118) or xmpp (RFC 7395)")}
	case !u.Ready(subprotocol):
		return notReady(subprotocol)
	}
	return nil
}

func notReady(subprotocol string) *Refusal {
	return &Refusal{
		Status: http.StatusServiceUnavailable, Why: DeniedNotReady, Subprotocol: subprotocol,
		Err: errors.New("no core is connected that carries " + subprotocol),
	}
}

// choose finds the first subprotocol offered that is spoken here and that has
// somebody to talk to; where none has, the first that is spoken.
func (u Upgrade) choose(req *http.Request) string {
	first := ""
	for p := range tokens(req.Header, "Sec-WebSocket-Protocol") {
		for _, spoken := range [...]string{SIP, XMPP} {
			if !strings.EqualFold(p, spoken) {
				continue
			}
			if u.Ready(spoken) {
				return spoken
			}
			first = cmp.Or(first, spoken)
		}
	}
	return first
}

// wellFormed checks what http.ReadRequest leaves to its callers: that there is
// a Host, and that no header has a name with a space in it (RFC 9112 §3.2, §5.1).
func wellFormed(req *http.Request) bool {
	if req.Host == "" || strings.ContainsAny(req.Host, "/\\@?# \t<>\"") {
		return false
	}
	for name := range req.Header {
		if strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune("\"(),/:;<=>?@[\\]{}", r) }) {
			return false
		}
	}
	return true
}

// offers reports whether a comma-separated header lists token.
func offers(h http.Header, name, token string) bool {
	for one := range tokens(h, name) {
		if strings.EqualFold(one, token) {
			return true
		}
	}
	return false
}

// tokens are those that a comma-separated header lists, in order.
func tokens(h http.Header, name string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, v := range h.Values(name) {
			for one := range strings.SplitSeq(v, ",") {
				if !yield(strings.TrimSpace(one)) {
					return
				}
			}
		}
	}
}

// originAllowed checks an Origin header (RFC 6454) against the list.
func originAllowed(allowed []string, origin string) bool {
	if origin == "" {
		return true
	}
	scheme, host, ok := strings.Cut(strings.ToLower(origin), "://")
	for _, a := range allowed {
		if a == "*" {
			return true
		}
		s, h, _ := strings.Cut(strings.ToLower(a), "://")
		if !ok || s != scheme {
			continue
		}
		if suffix, wild := strings.CutPrefix(h, "*"); h == host || wild && strings.HasSuffix(host, suffix) && len(host) > len(suffix) {
			return true
		}
	}
	return false
}
