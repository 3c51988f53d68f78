package transport

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// answer writes a refusal, or a page, and closes: nothing is served twice on a
// connection.
func answer(c net.Conn, no *Refusal, retryAfter func() time.Duration) {
	h := make(http.Header)
	text := no.Err.Error() + "\n"
	switch no.Status {
	case http.StatusOK:
		h.Set("Content-Type", no.page.kind)
		h.Set("Access-Control-Allow-Origin", "*")
		text = no.page.body
	case http.StatusServiceUnavailable:
		if retryAfter != nil {
			seconds := (retryAfter() + time.Second - 1) / time.Second
			h.Set("Retry-After", strconv.Itoa(int(seconds)))
		}
	case http.StatusMethodNotAllowed:
		h.Set("Allow", http.MethodGet)
	case http.StatusUpgradeRequired:
		h.Set("Upgrade", "websocket")
		h.Set("Sec-WebSocket-Version", "13")
	case http.StatusBadRequest:
		if no.Why == DeniedHTTP {
			text = http.StatusText(no.Status) + "\n"
		}
	}
	if no.Status != 0 {
		writeAnswer(c, no.Status, h, text)
	}
	_ = c.Close()
}

// writeAnswer writes one whole HTTP response, the last on its connection.
func writeAnswer(w io.Writer, status int, h http.Header, body string) {
	h.Set("Connection", "close")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if body != "" {
		if h.Get("Content-Type") == "" {
			h.Set("Content-Type", "text/plain; charset=utf-8")
		}
		h.Set("X-Content-Type-Options", "nosniff")
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "HTTP/1.1 %d %s\r\n", status, http.StatusText(status))
	_ = h.Write(&b)
	b.WriteString("\r\n" + body)
	_, _ = w.Write(b.Bytes())
}

// Redirect answers one plain HTTP request on c with the same path at host,
// over https, and closes. host is ours: the request's is not looked at. A path
// below /.well-known/acme-challenge/ (RFC 8555 §8.3) that token knows is
// answered with what it says; token may be nil.
func (t *Transport) Redirect(c net.Conn, host string, timeout time.Duration, token func(path string) ([]byte, bool)) {
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(timeout))
	_, req, err := readRequest(c)
	if err != nil {
		return
	}
	if token != nil && strings.HasPrefix(req.URL.Path, "/.well-known/acme-challenge/") {
		if body, ok := token(req.URL.Path); ok {
			writeAnswer(c, http.StatusOK, make(http.Header), string(body))
			return
		}
	}
	// RequestURI of the parsed URL is escaped anew, so that it holds no line end.
	to := "https://" + host + req.URL.RequestURI()
	if req.URL.Host != "" || req.URL.Opaque != "" {
		to = "https://" + host + "/"
	}
	writeAnswer(c, http.StatusPermanentRedirect, http.Header{"Location": {to}}, "")
}

// failing remembers the error of a read, which http.ReadRequest hides behind
// what it thinks of the half of a line that came before.
type failing struct {
	io.Reader
	err error
}

func (f *failing) Read(b []byte) (int, error) {
	n, err := f.Reader.Read(b)
	if err != nil {
		f.err = err
	}
	return n, err
}

// prefixed is a connection from which a little was read already.
type prefixed struct {
	net.Conn
	rest []byte
}

// Read says of an end that it came in the middle of something: coder/websocket
// takes an EOF within a message for the end of that message.
func (p *prefixed) Read(b []byte) (int, error) {
	if len(p.rest) == 0 {
		n, err := p.Conn.Read(b)
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return n, err
	}
	n := copy(b, p.rest)
	if p.rest = p.rest[n:]; len(p.rest) == 0 {
		p.rest = nil
	}
	return n, nil
}

// hijackable is what websocket.Accept needs of an HTTP server: it writes the
// upgrade, or keeps another answer for finish, and gives the connection away
// with buffers of our size.
type hijackable struct {
	conn   net.Conn
	header http.Header
	status int
	body   bytes.Buffer
}

func (h *hijackable) Header() http.Header         { return h.header }
func (h *hijackable) Write(p []byte) (int, error) { return h.body.Write(p) }

func (h *hijackable) WriteHeader(status int) {
	if h.status == 0 {
		h.status = status
	}
}

// Hijack writes the upgrade that WriteHeader announced.
func (h *hijackable) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "HTTP/1.1 %d %s\r\n", h.status, http.StatusText(h.status))
	_ = h.header.Write(&b)
	b.WriteString("\r\n")
	if _, err := h.conn.Write(b.Bytes()); err != nil {
		return nil, nil, err
	}
	return h.conn, bufio.NewReadWriter(bufio.NewReaderSize(h.conn, wsRead), bufio.NewWriterSize(h.conn, wsWrite)), nil
}

// finish writes an answer that is no upgrade.
func (h *hijackable) finish() {
	if h.status != 0 && h.status != http.StatusSwitchingProtocols {
		writeAnswer(h.conn, h.status, h.header, h.body.String())
	}
}
