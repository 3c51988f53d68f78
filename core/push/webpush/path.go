package webpush

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"
)

const (
	// keepIdle is how long a connection is kept without a push. Push services are
	// many, and strangers.
	keepIdle    = 90 * time.Second
	pingAfter   = 30 * time.Second
	pingTimeout = 5 * time.Second
	// maxHeader bounds the header of an answer, in bytes; bodies are not read.
	maxHeader = 16 << 10
	// maxFlight bounds what a push service may send unasked on an HTTP/2
	// connection, in bytes.
	maxFlight = 64 << 10
)

// path is the connections to one push service for one purpose. What does not
// answer is retired as a whole, and its lane makes another: left alone, the
// transport would go on using a connection that is dead but open.
type path struct {
	transport *http.Transport // static after newPath

	mu       sync.Mutex
	conns    map[*conn]struct{} // guarded by mu; those that are open
	inflight int                // guarded by mu
	retired  bool               // guarded by mu
	answered time.Time          // guarded by mu; when the push service last answered
}

// conn tells its path when it is closed.
type conn struct {
	net.Conn
	path *path
}

// Close implements [net.Conn].
func (c *conn) Close() error {
	c.path.mu.Lock()
	delete(c.path.conns, c)
	c.path.mu.Unlock()
	return c.Conn.Close()
}

// A proxyError says what is wrong with the egress proxy itself.
type proxyError struct{ why string }

func (e *proxyError) Error() string { return e.why }

// newPath makes a path that dials with dial when it is first used. With a
// proxy, dial reaches the proxy.
func (c *Client) newPath(dial func(ctx context.Context, network, addr string) (net.Conn, error), proxy *url.URL) *path {
	p := &path{conns: make(map[*conn]struct{})}
	p.transport = &http.Transport{
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			raw, err := dial(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			c.metrics.connections.Inc()
			return p.keep(raw)
		},
		TLSClientConfig:        c.trust.Clone(),
		TLSHandshakeTimeout:    dialTimeout,
		ForceAttemptHTTP2:      true,
		IdleConnTimeout:        keepIdle,
		MaxResponseHeaderBytes: maxHeader,
		DisableCompression:     true,
		HTTP2: &http.HTTP2Config{
			SendPingTimeout: pingAfter, PingTimeout: pingTimeout,
			MaxReceiveBufferPerConnection: maxFlight, MaxReceiveBufferPerStream: maxFlight,
		},
	}
	if proxy != nil {
		p.transport.Proxy = http.ProxyURL(proxy)
		p.transport.OnProxyConnectResponse = c.proxyAnswered
	}
	return p
}

// proxyAnswered judges the egress proxy's answer to CONNECT. What it says of
// one push service is that one's affair: clients choose them.
func (c *Client) proxyAnswered(_ context.Context, _ *url.URL, req *http.Request, resp *http.Response) error {
	switch resp.StatusCode {
	case http.StatusOK:
		c.proxyHealth.Set(nil)
		return nil
	case http.StatusProxyAuthRequired:
		return &proxyError{"push.proxy: the proxy wants a user and a password: http://USER:PASSWORD@HOST:PORT"}
	default:
		return fmt.Errorf("the proxy does not connect to %s: %d", req.Host, resp.StatusCode)
	}
}

func (p *path) keep(raw net.Conn) (net.Conn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.retired && p.inflight == 0 {
		_ = raw.Close()
		return nil, errClosed
	}
	k := &conn{Conn: raw, path: p}
	p.conns[k] = struct{}{}
	return k, nil
}

func (p *path) leave() {
	p.mu.Lock()
	p.inflight--
	over := p.retired && p.inflight == 0
	p.mu.Unlock()
	if over {
		p.close()
	}
}

// retire closes the path once nothing is under way on it.
func (p *path) retire() {
	p.mu.Lock()
	p.retired = true
	over := p.inflight == 0
	p.mu.Unlock()
	if over {
		p.close()
	}
}

func (p *path) close() {
	p.transport.CloseIdleConnections()
	p.mu.Lock()
	var open []*conn
	for k := range p.conns {
		open = append(open, k)
	}
	p.mu.Unlock()
	for _, k := range open {
		_ = k.Close()
	}
}

// heard notes an answer.
func (p *path) heard() {
	p.mu.Lock()
	p.answered = time.Now()
	p.mu.Unlock()
}

func (p *path) heardSince(at time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.answered.After(at)
}

// lane is a succession of paths to one push service for one purpose, and the
// places on it.
type lane struct {
	// Static after newOrigin.
	make   func() *path
	places chan struct{} // one entry for each push under way

	mu     sync.Mutex
	cur    *path // guarded by mu; nil until a push needs it
	closed bool  // guarded by mu
}

// enter returns the path in use. Every success is followed by one leave of it.
func (l *lane) enter() (*path, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, errClosed
	}
	if l.cur == nil {
		l.cur = l.make()
	}
	l.cur.mu.Lock()
	l.cur.inflight++
	l.cur.mu.Unlock()
	return l.cur, nil
}

// retire gives p up, if it is still the one in use.
func (l *lane) retire(p *path) {
	l.mu.Lock()
	if l.cur == p {
		l.cur = nil
	}
	l.mu.Unlock()
	p.retire()
}

func (l *lane) close() {
	l.mu.Lock()
	l.closed = true
	p := l.cur
	l.cur = nil
	l.mu.Unlock()
	if p != nil {
		p.retire()
	}
}
