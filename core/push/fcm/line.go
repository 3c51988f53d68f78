package fcm

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"sallyport/core/push"
)

const (
	dialTimeout = 5 * time.Second
	// pingAfter finds a path that died in silence before the next call needs it,
	// at 60 pings an hour.
	pingAfter   = time.Minute
	pingTimeout = 5 * time.Second
)

// way is how Google is reached.
type way struct {
	trust *tls.Config
	proxy func(*http.Request) (*url.URL, error)
	dial  func(ctx context.Context, network, addr string) (net.Conn, error)
	ended context.Context // ends with the client, and with it what is being dialled
}

// open dials, for no longer than dialTimeout. The transport's own context
// outlives the request that the connection is for.
func (w way) open(ctx context.Context, network, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	defer context.AfterFunc(w.ended, cancel)()
	return w.dial(ctx, network, addr)
}

// transport makes a transport whose TCP connections come from dial.
func (w way) transport(dial func(ctx context.Context, network, addr string) (net.Conn, error)) *http.Transport {
	return &http.Transport{
		Proxy:               w.proxy,
		DialContext:         dial,
		TLSClientConfig:     w.trust.Clone(),
		TLSHandshakeTimeout: dialTimeout,
		ForceAttemptHTTP2:   true,
		HTTP2:               &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout},
		DisableCompression:  true,
		OnProxyConnectResponse: func(_ context.Context, _ *url.URL, _ *http.Request, resp *http.Response) error {
			if resp.StatusCode != http.StatusOK {
				return proxyError(resp.StatusCode)
			}
			return nil
		},
	}
}

// proxyError is the status of an egress proxy that refused CONNECT.
type proxyError int

// Error implements error.
func (e proxyError) Error() string {
	return fmt.Sprintf("the egress proxy answers %d to CONNECT", int(e))
}

// once is a transport with a new connection for each request.
func (w way) once() http.RoundTripper {
	t := w.transport(w.open)
	t.DisableKeepAlives = true
	return t
}

// line is one connection to FCM, never another. What ended or does not answer
// is retired, and its lane makes another line: left alone, the transport would
// go on using a connection that is dead but open, and open as many as there are
// pushes when one goes away.
type line struct {
	// Static after newLine.
	transport *http.Transport
	opened    func() (closed func()) // counts connections
	gate      gate                   // has its own lock
	answered  push.Stamp             // has its own lock

	mu      sync.Mutex
	dialled bool  // guarded by mu
	conn    *conn // guarded by mu; nil before it is open and after it is closed
	closed  bool  // guarded by mu
}

var (
	// errFull: the connection takes no push now.
	errFull = errors.New("FCM takes no pushes on this connection")
	// errSpent: the connection takes no push any more.
	errSpent = errors.New("connection to FCM ended")
)

// untouched reports that FCM never looked at the push: its line was retired, or
// took no more.
func untouched(err error) bool {
	return errors.Is(err, errRetired) || errors.Is(err, errSpent) || errors.Is(err, errFull)
}

// conn tells its line when it is closed.
type conn struct {
	net.Conn
	line   *line
	closed func()
	once   sync.Once
}

// Close implements [net.Conn].
func (c *conn) Close() error {
	c.once.Do(c.closed)
	c.line.mu.Lock()
	if c.line.conn == c {
		c.line.conn = nil
	}
	c.line.mu.Unlock()
	return c.Conn.Close()
}

// newLine makes a line, which dials when it is first used.
func newLine(w way, opened func() (closed func())) *line {
	l := &line{opened: opened}
	l.transport = w.transport(func(ctx context.Context, network, addr string) (net.Conn, error) {
		return l.dial(ctx, w, network, addr)
	})
	return l
}

// dial opens the line's one connection. The transport asks for a second one
// when the first is closed, going away or full.
func (l *line) dial(ctx context.Context, w way, network, addr string) (net.Conn, error) {
	if err := l.mayDial(); err != nil {
		return nil, err
	}
	c, err := w.open(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		_ = c.Close()
		return nil, errRetired
	}
	l.conn = &conn{Conn: c, line: l, closed: l.opened()}
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
		return errFull
	}
}

// exchange sends r, for which the gate has been entered, and reads the answer
// whole.
func (l *line) exchange(r *http.Request) (status int, h http.Header, body []byte, err error) {
	r.GetBody = notTaken
	resp, err := l.transport.RoundTrip(r)
	if errors.Is(err, errFull) && l.gate.full() {
		err = errSpent // full of nothing: it is going away
	}
	if err != nil {
		return 0, nil, nil, err
	}
	body, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	_ = resp.Body.Close()
	if err != nil {
		return 0, nil, nil, err
	}
	l.answered.Note()
	return resp.StatusCode, resp.Header, body, nil
}

// notTaken stands in for the request's own GetBody. The transport asks for the
// body again exactly when it knows that FCM did not look at the request: the
// stream was refused, or the connection is going away. It would then resend
// past the gate, all of them at once, and wait for a second between its tries.
func notTaken() (io.ReadCloser, error) { return nil, errFull }

// leave gives the place at the gate back.
func (l *line) leave(answered bool) {
	if l.gate.leave(answered) {
		l.close()
	}
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

// lane is a succession of lines for one purpose: at any time one line is in
// use, and what replaced it may still be finishing.
type lane struct {
	make func() *line // static

	answered push.Stamp // by FCM, on any line of the lane; has its own lock

	mu     sync.Mutex
	cur    *line // guarded by mu; nil until a push needs it
	closed bool  // guarded by mu
}

// line returns the line in use.
func (l *lane) line() (*line, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, errClosed
	}
	if l.cur == nil {
		l.cur = l.make()
	}
	return l.cur, nil
}

// retire gives ln up, if it is still the one in use.
func (l *lane) retire(ln *line) {
	l.mu.Lock()
	if l.cur == ln {
		l.cur = nil
	}
	l.mu.Unlock()
	ln.retire()
}

// close ends the lane for good.
func (l *lane) close() {
	l.mu.Lock()
	l.closed = true
	old := l.cur
	l.cur = nil
	l.mu.Unlock()
	if old != nil {
		old.retire()
	}
}
