package pushtest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
)

// web is what the simulators of FCM and WebPush share: a server for HTTP/2 and
// HTTP/1.1 over TLS that can fail as a network and a fleet of front ends do.
type web struct {
	// Static after newWeb and before Serve.
	name        string
	log         *slog.Logger
	now         func() time.Time
	streams     uint32 // requests at a time on a connection
	goAwayAfter int    // requests after which a connection is told to end; 0 never
	handler     http.Handler
	pki         *pki
	err         error // of making the CA; Serve returns it
	ready       chan struct{}

	faults faults         // has its own lock
	wg     sync.WaitGroup // all that Serve started

	mu         sync.Mutex
	addr       net.Addr               // guarded by mu
	front      *front                 // guarded by mu; takes the next connections; nil when not serving
	renew      func() (*front, error) // guarded by mu; makes another front
	conns      map[*webConn]struct{}  // guarded by mu
	opened     int                    // guarded by mu
	violations []string               // guarded by mu
}

func newWeb(name string, log *slog.Logger, now func() time.Time, names ...string) *web {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if now == nil {
		now = time.Now
	}
	w := &web{name: name, log: log, now: now, ready: make(chan struct{}), conns: make(map[*webConn]struct{})}
	w.pki, w.err = newPKI(names...)
	return w
}

// webConn is a connection below TLS, which can fall silent.
type webConn struct {
	net.Conn
	id       int
	frozen   atomic.Bool
	requests atomic.Int64
	closing  sync.Once
	closed   chan struct{} // closed by Close
}

// Close implements [net.Conn].
func (c *webConn) Close() error {
	c.closing.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// Read swallows what comes once the connection is frozen.
func (c *webConn) Read(b []byte) (int, error) {
	for {
		n, err := c.Conn.Read(b)
		if err != nil || !c.frozen.Load() {
			return n, err
		}
	}
}

// Write says that it wrote when the connection is frozen.
func (c *webConn) Write(b []byte) (int, error) {
	if c.frozen.Load() {
		return len(b), nil
	}
	return c.Conn.Write(b)
}

// front serves the connections that came since the last GOAWAY. HTTP/1.1
// connections reach base through plain.
type front struct {
	base  *http.Server
	h2    *http2.Server //nolint:staticcheck // net/http has no GOAWAY for connections that are idle
	plain *Listener
}

// connKey finds the connection in a request's context.
type connKey struct{}

// Serve accepts connections on l until ctx ends, and closes l. It returns nil
// then, with nothing left behind. A simulator serves once.
func (s *web) Serve(ctx context.Context, l net.Listener) error {
	if s.err != nil {
		_ = l.Close()
		return s.err
	}
	defer s.wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	renew := func() (*front, error) { return s.newFront(ctx) }
	f, err := renew()
	if err != nil {
		_ = l.Close()
		return err
	}
	s.mu.Lock()
	s.addr, s.front, s.renew = l.Addr(), f, renew
	close(s.ready)
	s.mu.Unlock()
	defer s.Disconnect()
	defer s.leave()
	defer context.AfterFunc(ctx, func() { _ = l.Close() })()
	config := &tls.Config{
		GetCertificate: s.pki.certificate,
		NextProtos:     []string{"h2", "http/1.1"},
		MinVersion:     tls.VersionTLS12,
	}
	for {
		raw, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return nil
			}
			return fmt.Errorf("%s: %w", s.name, err)
		}
		c, f := s.admit(raw)
		if c == nil {
			_ = raw.Close()
			continue
		}
		s.wg.Go(func() {
			defer s.forget(c)
			s.talk(ctx, c, f, tls.Server(c, config))
		})
	}
}

// newFront makes a front and starts its HTTP/1.1 half, which ends with
// Shutdown.
func (s *web) newFront(ctx context.Context) (*front, error) {
	f := &front{h2: &http2.Server{MaxConcurrentStreams: s.streams}, plain: NewListener()} //nolint:staticcheck // net/http has no GOAWAY for connections that are idle
	f.base = &http.Server{
		Handler:           http.HandlerFunc(s.serveHTTP),
		ReadHeaderTimeout: ioTimeout,
		ReadTimeout:       ioTimeout,
		IdleTimeout:       time.Hour, // as the providers, who like long connections
		MaxHeaderBytes:    maxHeaders,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		TLSNextProto:      map[string]func(*http.Server, *tls.Conn, http.Handler){},
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			if secure, ok := c.(*tls.Conn); ok {
				return context.WithValue(ctx, connKey{}, secure.NetConn())
			}
			return ctx
		},
	}
	if err := http2.ConfigureServer(f.base, f.h2); err != nil { //nolint:staticcheck // net/http has no GOAWAY for connections that are idle
		return nil, fmt.Errorf("%s: %w", s.name, err)
	}
	s.wg.Go(func() { _ = f.base.Serve(f.plain) })
	return f, nil
}

// talk serves one connection until it ends.
func (s *web) talk(ctx context.Context, c *webConn, f *front, secure *tls.Conn) {
	if !pause(ctx, s.faults.slow()) {
		_ = c.Close()
		return
	}
	timely, cancel := context.WithTimeout(ctx, ioTimeout)
	err := secure.HandshakeContext(timely)
	cancel()
	switch {
	case err != nil:
		_ = c.Close()
	case secure.ConnectionState().NegotiatedProtocol == "h2":
		f.h2.ServeConn(secure, &http2.ServeConnOpts{ //nolint:staticcheck // net/http has no GOAWAY for connections that are idle
			Context: context.WithValue(ctx, connKey{}, c), BaseConfig: f.base,
		})
	default:
		select {
		case f.plain.conns <- secure:
			<-c.closed // base serves it
		case <-f.plain.done:
			_ = c.Close()
		}
	}
}

func (s *web) admit(raw net.Conn) (*webConn, *front) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.conns) >= maxConns {
		return nil, nil
	}
	s.opened++
	c := &webConn{Conn: raw, id: s.opened, closed: make(chan struct{})}
	s.conns[c] = struct{}{}
	return c, s.front
}

func (s *web) forget(c *webConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}

// serveHTTP counts the request, waits for as long as it is told, and hands it
// on.
func (s *web) serveHTTP(w http.ResponseWriter, r *http.Request) {
	if c := connOf(r); c != nil && s.goAwayAfter > 0 && c.requests.Add(1) >= int64(s.goAwayAfter) {
		w.Header().Set("Connection", "close") // GOAWAY, in HTTP/2
	}
	w.Header().Set("Date", s.now().UTC().Format(http.TimeFormat))
	r.Body = http.MaxBytesReader(w, r.Body, maxWebBody)
	s.handler.ServeHTTP(w, r)
}

// maxWebBody bounds a request; the providers' own limits are far below.
const maxWebBody = 64 << 10

// cut bounds what is remembered of a body that was refused.
func cut(body []byte) []byte { return slices.Clone(body[:min(len(body), maxBody)]) }

// pause waits for the latency that is set, and reports whether the client
// still waits too.
func (s *web) pause(ctx context.Context) bool {
	return pause(ctx, s.faults.delay()) && ctx.Err() == nil
}

// answerOut is how long an answer may take to leave after its handler: the
// HTTP server does not say when it has.
const answerOut = 20 * time.Millisecond

// accepted calls tell, beside the handler so that the answer does not wait for
// it, and then does what was to be done after so many accepted pushes.
func (s *web) accepted(tell func()) {
	due := s.faults.due()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.front == nil { // Serve ends, and waits for what it knows of
		return
	}
	s.wg.Go(func() {
		tell()
		if len(due) == 0 {
			return
		}
		time.Sleep(answerOut)
		for _, act := range due {
			act()
		}
	})
}

// connOf is the connection that a request came on.
func connOf(r *http.Request) *webConn {
	c, _ := r.Context().Value(connKey{}).(*webConn)
	return c
}

// connID is its number.
func connID(r *http.Request) int {
	if c := connOf(r); c != nil {
		return c.id
	}
	return 0
}
