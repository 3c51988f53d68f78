// Package admin shows the core to its operators: the status API, the traces,
// a push test, and the pages /metrics, /healthz and /readyz. It asks the
// sources it is given and keeps no state of its own; it does not know SIP
// grammar, and it changes what the core does by a push test and by
// do-not-disturb alone.
//
// Whoever reaches the API can read who calls whom. So off loopback it wants a
// bearer token; names in Host other than localhost must be listed, against
// DNS rebinding; and a POST from another web page is refused.
package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/net/netutil"

	"sallyport/core/trace"
)

// Config says where the API listens and who may use it.
type Config struct {
	// Listen is host:port of API, /metrics, /healthz and /readyz; "" for none.
	Listen string
	// TokenFile holds the bearer token of the API, at least 16 characters;
	// needed when Listen is not on loopback.
	TokenFile string
	// MetricsListen is host:port of /metrics, /healthz and /readyz alone; ""
	// for none.
	MetricsListen string
	// Hosts are names that may stand in Host, beside localhost and the address
	// that the request came to.
	Hosts []string
}

// Validate returns every fault, joined, each as "admin.key: …". It opens
// nothing.
func (c Config) Validate() error {
	var faults []error
	switch host, _, err := net.SplitHostPort(c.Listen); {
	case c.Listen == "":
	case err != nil:
		faults = append(faults, fmt.Errorf("admin.listen: must be host:port (got %q)", c.Listen))
	case !isLoopback(host) && c.TokenFile == "":
		faults = append(faults, fmt.Errorf("admin.token_file: is needed since admin.listen %q is not on loopback: name a file with a secret of 16 characters or more, or listen on 127.0.0.1", c.Listen))
	}
	if c.MetricsListen != "" {
		if _, _, err := net.SplitHostPort(c.MetricsListen); err != nil {
			faults = append(faults, fmt.Errorf("admin.metrics_listen: must be host:port (got %q)", c.MetricsListen))
		}
	}
	return errors.Join(faults...)
}

// isLoopback reports whether a listen host is reached from this machine alone.
// The empty host is every interface.
func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap().IsLoopback()
}

// Sources are where the API gets its answers. They are called by several
// goroutines at once, must not block for long, and hand out copies. A nil
// source makes its page answer 404.
type Sources struct {
	// Status describes the whole core; Ready in it is filled in here.
	Status func() Status
	// Clients lists the devices of an AOR, of all for "".
	Clients func(aor string) []Client
	// Traces lists the calls to an AOR, newest first; of all for "".
	Traces func(aor string) []trace.Trace
	// PushTest sends a harmless push on the Message channel to each device of
	// an AOR, waits for those to register whose push was accepted, and returns
	// what the providers said; [ErrNoDevice] when there is none.
	PushTest func(ctx context.Context, aor string, wait time.Duration) ([]PushResult, error)
	// DND lists who is not to be disturbed. SetDND switches it on until a time,
	// which may be zero for no end, or off.
	DND    func() []DND
	SetDND func(aor string, on bool, until time.Time) error
	// Ready reports whether the core serves: a tunnel to an edge is up.
	Ready func() bool
}

// ErrNoDevice is returned by a PushTest source for an AOR without a device.
var ErrNoDevice = errors.New("no device is known for this address")

// Bounds of a listener that operators and their tools use.
const (
	maxConns    = 64
	maxHeader   = 8 << 10
	maxBody     = 4 << 10
	testTimeout = 10 * time.Second // of the pushes of a test
	maxWait     = time.Minute      // for the devices to come back
)

// Admin serves the API.
type Admin struct {
	// Static after New.
	cfg      Config
	src      Sources
	log      *slog.Logger
	gatherer prometheus.Gatherer
	hosts    map[string]bool
	opened   chan struct{} // closed by Run once all listeners are open
	testing  sync.Mutex    // held during a push test: one at a time

	// Guarded by mu.
	mu          sync.Mutex
	token       []byte // SHA-256 of the bearer token; nil for none
	addr, plain net.Addr
}

// New returns an API for sources; it opens nothing yet. It errors when the
// config has faults. A nil gatherer leaves /metrics out.
func New(cfg Config, src Sources, log *slog.Logger, gatherer prometheus.Gatherer) (*Admin, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	a := &Admin{
		cfg: cfg, src: src, gatherer: gatherer,
		log:    log.With("room", "admin"),
		hosts:  map[string]bool{"localhost": true},
		opened: make(chan struct{}),
	}
	for _, h := range cfg.Hosts {
		a.hosts[strings.ToLower(h)] = true
	}
	return a, nil
}

// Opened is closed once Run has opened every listener.
func (a *Admin) Opened() <-chan struct{} { return a.opened }

// Addr is where the API listens, and MetricsAddr where the other pages do; nil
// before Opened, or for a listener that is off.
func (a *Admin) Addr() net.Addr { return a.address(&a.addr) }

// MetricsAddr is the address of metrics_listen; see Addr.
func (a *Admin) MetricsAddr() net.Addr { return a.address(&a.plain) }

func (a *Admin) address(p *net.Addr) net.Addr {
	a.mu.Lock()
	defer a.mu.Unlock()
	return *p
}

// Run reads the token, opens the listeners and serves until ctx ends, upon
// which it returns nil. It errors when it cannot begin or a listener breaks.
func (a *Admin) Run(ctx context.Context) error {
	if err := a.Reload(); err != nil {
		return err
	}
	var servers []*http.Server
	var listeners []net.Listener
	for _, door := range []struct {
		key, addr string
		handler   http.Handler
		opened    *net.Addr
	}{
		{"admin.listen", a.cfg.Listen, a.api(), &a.addr},
		{"admin.metrics_listen", a.cfg.MetricsListen, a.pages(http.NewServeMux()), &a.plain},
	} {
		if door.addr == "" {
			continue
		}
		l, err := listen(ctx, door.key, door.addr)
		if err != nil {
			for _, l := range listeners {
				l.Close()
			}
			return err
		}
		servers, listeners = append(servers, a.server(door.handler)), append(listeners, l)
		a.mu.Lock()
		*door.opened = l.Addr()
		a.mu.Unlock()
		a.log.Info("admin listener open", "key", door.key, "addr", l.Addr().String())
	}
	close(a.opened)
	return serve(ctx, servers, listeners)
}

// serve runs servers until ctx ends or one of them breaks, and then stops all.
func serve(ctx context.Context, servers []*http.Server, listeners []net.Listener) error {
	ended := make(chan error, len(servers))
	for i, s := range servers {
		go func() { ended <- s.Serve(listeners[i]) }()
	}
	var faults []error
	left := len(servers)
	select {
	case <-ctx.Done():
	case err := <-ended:
		faults, left = append(faults, err), left-1
	}
	for _, s := range servers {
		s.Close()
	}
	for range left {
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			faults = append(faults, err)
		}
	}
	return errors.Join(faults...)
}

func listen(ctx context.Context, key, addr string) (net.Listener, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	return netutil.LimitListener(l, maxConns), nil
}

func (a *Admin) server(h http.Handler) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      testTimeout + maxWait + 10*time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(a.log.Handler(), slog.LevelDebug),
	}
}
