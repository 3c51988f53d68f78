package apns

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/sideshow/apns2"

	"sallyport/core/push"
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

// proxyFunc is what [http.Transport.Proxy] is.
type proxyFunc func(*http.Request) (*url.URL, error)

// way is how lines reach APNs, and who counts their connections.
type way struct {
	trust          *tls.Config
	proxy          proxyFunc
	dial           dialFunc
	opened, closed func()
}

// line is one HTTP/2 connection to APNs, never another, with what Apple binds
// to a connection: the number of streams, the provider token, the key. What
// ended or does not answer is retired, and its lane makes another line: left
// alone, the transport would go on using a connection that is dead but open,
// and open as many as there are pushes when one goes away.
type line struct {
	// Static after newLine.
	client    *apns2.Client
	transport *http.Transport
	way       way
	gate      gate       // has its own lock
	answered  push.Stamp // has its own lock

	mu      sync.Mutex
	bearer  bearer   // guarded by mu
	sent    string   // guarded by mu; the token that header is made of
	header  []string // guarded by mu; replaced and never changed
	dialled bool     // guarded by mu
	conn    *conn    // guarded by mu; nil before it is open and after it is closed
	closed  bool     // guarded by mu
}

var (
	// errBusy: the connection takes no push now.
	errBusy = errors.New("APNs takes no pushes on this connection")
	// errSpent: the connection takes no push any more.
	errSpent = errors.New("connection to APNs ended")
)

// conn tells its line when it is closed.
type conn struct {
	net.Conn
	line *line
}

// Close implements [net.Conn].
func (c *conn) Close() error {
	c.line.mu.Lock()
	last := c.line.conn == c
	if last {
		c.line.conn = nil
	}
	c.line.mu.Unlock()
	if last {
		c.line.way.closed()
	}
	return c.Conn.Close()
}

// newLine makes a line to host, which dials when it is first used.
func newLine(host string, w way, b bearer) *line {
	l := &line{bearer: b, way: w}
	l.transport = &http.Transport{
		DialContext:            l.dial,
		Proxy:                  w.proxy,
		OnProxyConnectResponse: throughProxy,
		TLSClientConfig:        w.trust.Clone(),
		TLSHandshakeTimeout:    dialTimeout,
		ForceAttemptHTTP2:      true,
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout},
		DisableCompression:     true,
	}
	l.client = &apns2.Client{Host: host, HTTPClient: &http.Client{
		Transport:     l,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	return l
}

// dial opens the line's one connection. The transport asks for a second one
// when the first is closed, going away or full.
func (l *line) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if err := l.mayDial(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	c, err := l.way.dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		_ = c.Close()
		return nil, errRetired
	}
	l.conn = &conn{Conn: c, line: l}
	l.way.opened()
	return l.conn, nil
}

func (l *line) mayDial() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return errRetired
	case !l.dialled:
		l.dialled = true
		return nil
	case l.conn == nil:
		return errSpent
	default:
		return errBusy
	}
}

// proxyError is a proxy's word that it does not let us through.
type proxyError struct{ status int }

func (e *proxyError) Error() string {
	return fmt.Sprintf("the proxy answers %d %s", e.status, http.StatusText(e.status))
}

// throughProxy reads the proxy's answer to CONNECT.
func throughProxy(_ context.Context, _ *url.URL, _ *http.Request, resp *http.Response) error {
	if resp.StatusCode != http.StatusOK {
		return &proxyError{resp.StatusCode}
	}
	return nil
}

// answer is what came back for one attempt: a status with Apple's reason, or
// an error.
type answer struct {
	status    int
	reason    string
	timestamp time.Time // of a 410, cut to the second by apns2
	err       error
}

// push makes one attempt, for which the gate has been entered, and leaves it.
func (l *line) push(ctx context.Context, n *apns2.Notification) (a answer) {
	defer func() {
		if a.status != 0 {
			l.answered.Note()
		}
		if l.gate.leave(a.status) {
			l.close()
		}
	}()
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

// RoundTrip implements [http.RoundTripper] for apns2: it adds the provider
// token, and reads the answer whole before the next push is let in. The request
// is changed in place: apns2 made it for this one push.
func (l *line) RoundTrip(r *http.Request) (*http.Response, error) {
	token, err := l.token()
	if err != nil {
		return nil, err
	}
	r.Header["Authorization"] = token
	r.GetBody = notTaken
	resp, err := l.transport.RoundTrip(r)
	if errors.Is(err, errBusy) && l.gate.drain() {
		return nil, errSpent // busy with nothing: it is going away
	}
	if err != nil {
		return nil, err
	}
	if err := readWhole(resp); err != nil {
		return nil, err
	}
	return resp, nil
}

// notTaken stands in for the request's own GetBody. The transport asks for the
// body again exactly when it knows that APNs did not look at the request: the
// stream was refused, or the connection is going away. It would then resend
// past the gate, all of them at once, and wait for a second between its tries.
func notTaken() (io.ReadCloser, error) { return nil, errBusy }

// token returns the Authorization header, which is shared by all requests that
// have the same token, and not changed.
func (l *line) token() ([]string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, errRetired
	}
	token, err := l.bearer.at(time.Now())
	if err != nil {
		return nil, err
	}
	if l.sent != token {
		l.sent, l.header = token, []string{"bearer " + token}
	}
	return l.header, nil
}

// readWhole replaces the body by what it holds, or by an empty object where
// that is not Apple's, as from a proxy in between: apns2 would lose the status,
// and what was answered would be sent again.
func readWhole(resp *http.Response) error {
	if resp.ContentLength == 0 {
		return nil // accepted
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	_ = resp.Body.Close()
	if err != nil {
		return err
	}
	if json.Unmarshal(body, new(apns2.Response)) != nil {
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

// close closes the connection, below the transport: one whose peer fell silent
// counts as busy there.
func (l *line) close() {
	l.mu.Lock()
	l.closed = true
	open := l.conn
	l.mu.Unlock()
	l.transport.CloseIdleConnections()
	if open != nil {
		_ = open.Close()
	}
}
