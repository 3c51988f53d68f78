package apns

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"maps"
	"mime"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"sync"
	"time"

	"github.com/sideshow/apns2"
)

const (
	dialTimeout = 5 * time.Second
	// pingAfter finds a path that died in silence before the next call needs it,
	// at 60 pings an hour.
	pingAfter   = time.Minute
	pingTimeout = 5 * time.Second
	// maxAnswer bounds the body of an answer. Apple's have two fields.
	maxAnswer = 4 << 10
)

// dialFunc opens the TCP connection below TLS.
type dialFunc func(ctx context.Context, network, addr string) (net.Conn, error)

// line is one HTTP/2 connection to APNs with what Apple binds to a
// connection: the number of streams, the provider token, the key. The
// transport may replace a connection that ended; a line that does not answer
// is retired whole, since the transport goes on using a connection that is
// dead but open.
type line struct {
	// Static after newLine.
	client    *apns2.Client
	transport *http.Transport
	opened    func() // counts connections
	gate      gate   // has its own lock

	mu     sync.Mutex
	bearer bearer             // guarded by mu
	conns  map[*conn]struct{} // guarded by mu
	closed bool               // guarded by mu
}

// conn tells its line when it is closed.
type conn struct {
	net.Conn
	line *line
}

// Close implements [net.Conn].
func (c *conn) Close() error {
	c.line.mu.Lock()
	delete(c.line.conns, c)
	c.line.mu.Unlock()
	return c.Conn.Close()
}

// newLine makes a line to host, which dials when it is first used.
func newLine(host string, trust *tls.Config, proxy *url.URL, dial dialFunc, opened func(), b bearer) *line {
	l := &line{bearer: b, opened: opened, conns: make(map[*conn]struct{})}
	l.transport = &http.Transport{
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			return l.dial(ctx, dial, network, addr)
		},
		TLSClientConfig:     trust.Clone(),
		TLSHandshakeTimeout: dialTimeout,
		ForceAttemptHTTP2:   true,
		HTTP2:               &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout},
		DisableCompression:  true,
	}
	if proxy != nil {
		l.transport.Proxy = http.ProxyURL(proxy)
	}
	l.client = &apns2.Client{Host: host, HTTPClient: &http.Client{
		Transport:     l,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	return l
}

func (l *line) dial(ctx context.Context, dial dialFunc, network, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	c, err := dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	held := &conn{Conn: c, line: l}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		_ = c.Close()
		return nil, errRetired
	}
	l.conns[held] = struct{}{}
	l.opened()
	return held, nil
}

// answer is what came back for one attempt: a status with Apple's reason, or
// an error.
type answer struct {
	status    int
	reason    string
	timestamp time.Time // of a 410, cut to the second by apns2
	err       error
}

// push makes one attempt. It returns errRetired when the line was given up
// before the attempt began.
func (l *line) push(ctx context.Context, n *apns2.Notification) answer {
	r, err := l.client.PushWithContext(ctx, n)
	if err != nil {
		var u *url.Error // names the URL, and thereby the token
		if errors.As(err, &u) {
			err = u.Err
		}
		return answer{err: err}
	}
	return answer{status: r.StatusCode, reason: r.Reason, timestamp: r.Timestamp.Time}
}

// RoundTrip implements [http.RoundTripper] for apns2: it waits at the gate,
// adds the provider token, and reads the answer whole before the next push is
// let in.
func (l *line) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := l.gate.enter(r.Context()); err != nil {
		return nil, err
	}
	status := 0
	defer func() {
		if l.gate.leave(status) {
			l.close()
		}
	}()
	token, err := l.token()
	if err != nil {
		return nil, err
	}
	trace := &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) {
		if !i.Reused {
			l.gate.cool()
		}
	}}
	r = r.WithContext(httptrace.WithClientTrace(r.Context(), trace))
	r.Header = maps.Clone(r.Header)
	r.Header.Set("Authorization", "bearer "+token)
	resp, err := l.transport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if err := readWhole(resp); err != nil {
		return nil, err
	}
	status = resp.StatusCode
	return resp, nil
}

func (l *line) token() (string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return "", errRetired
	}
	return l.bearer.at(time.Now())
}

// readWhole replaces the body by what it holds, or by an empty object where
// that is not JSON, as from a proxy in between: apns2 would lose the status.
func readWhole(resp *http.Response) error {
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	_ = resp.Body.Close()
	if err != nil {
		return err
	}
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if len(body) > 0 && kind != "application/json" && body[0] != '{' {
		body = []byte("{}")
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return nil
}

// stale reports that the line's provider token has aged without leave to
// change it here.
func (l *line) stale() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.bearer.stale(time.Now())
}

// hold keeps the provider token as it is for a while.
func (l *line) hold() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.bearer.held = time.Now().Add(keepToken)
}

// retire ends the line: nothing new starts on it, what is under way ends by
// its own timeout, and the last one out closes the connection.
func (l *line) retire() {
	if l.gate.retire() {
		l.close()
	}
}

// close closes whatever is open. A connection whose peer fell silent counts as
// busy to the transport, so it is closed below it.
func (l *line) close() {
	l.mu.Lock()
	l.closed = true
	open := make([]*conn, 0, len(l.conns))
	for c := range l.conns {
		open = append(open, c)
	}
	l.mu.Unlock()
	l.transport.CloseIdleConnections()
	for _, c := range open {
		_ = c.Close()
	}
}
