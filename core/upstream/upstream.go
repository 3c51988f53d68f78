package upstream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

var (
	// ErrUnreachable: no server of the domain can be reached now.
	ErrUnreachable = errors.New("upstream unreachable")
	// ErrUntrusted: a next hop outside the trusted addresses.
	ErrUntrusted = errors.New("next hop not trusted")
	// ErrNoDomain: the domain has no upstream.
	ErrNoDomain = errors.New("domain has no upstream")
)

// Handler is told what comes in. Both methods are called on the connection's
// reading goroutine and must not block; one connection's calls are in order.
type Handler interface {
	// Message is one whole message, which the callee owns. From a connection
	// that is not Trusted it is to be answered with 403 and nothing else; the
	// connection is closed after that.
	Message(c *Conn, p []byte)
	// Closed is the last call for c.
	Closed(c *Conn)
}

// Upstream is the set of all connections to SIP servers.
type Upstream struct {
	// Static after construction.
	cfg     Config
	handler Handler
	log     *slog.Logger
	metrics *metrics
	domains map[string]*hop
	ready   chan struct{}

	peers atomic.Pointer[map[netip.Addr]bool]
	// Owned by Run, then by watchPeers.
	lastPeers map[Target][]netip.AddrPort

	// Guarded by mu.
	mu       sync.Mutex
	ctx      context.Context // Run's, nil before and after
	conns    map[*Conn]struct{}
	accepted int
	addrs    []net.Addr
	seq      uint64

	// Guarded by hopsMu, which is taken before a hop's and mu.
	hopsMu sync.Mutex
	hops   map[string]*hop

	sockets []*socket // set by Run before Ready

	tasks sync.WaitGroup
}

// New prepares the connections. It starts nothing; faults of cfg, which
// [Config.Validate] tells, are returned by Run. reg may be nil.
func New(cfg Config, h Handler, log *slog.Logger, reg prometheus.Registerer) *Upstream {
	u := &Upstream{
		cfg:       cfg.withDefaults(),
		handler:   h,
		log:       discardIfNil(log).With("room", "upstream"),
		metrics:   newMetrics(reg),
		domains:   make(map[string]*hop),
		ready:     make(chan struct{}),
		lastPeers: make(map[Target][]netip.AddrPort),
		conns:     make(map[*Conn]struct{}),
		hops:      make(map[string]*hop),
	}
	for domain, uris := range cfg.Upstreams {
		d := &hop{up: u, domain: strings.ToLower(domain)}
		for _, uri := range uris {
			if t, err := ParseTarget(uri); err == nil {
				d.targets = append(d.targets, t)
			}
		}
		u.domains[d.domain] = d
	}
	return u
}

// Run opens the listeners, keeps a connection to each domain, and serves until
// ctx ends. It returns nil then, or why it could not serve.
func (u *Upstream) Run(ctx context.Context) error {
	if err := u.cfg.Validate(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	u.resolvePeers(ctx)
	listeners, err := u.open(ctx)
	if err != nil {
		return err
	}
	u.mu.Lock()
	u.ctx = ctx
	u.mu.Unlock()
	for _, l := range listeners {
		u.spawn(func() { u.accept(ctx, l) })
	}
	for _, s := range u.sockets {
		u.spawn(s.read)
	}
	for _, d := range u.domains {
		u.spawn(func() { d.keep(ctx) })
	}
	u.spawn(func() { u.watchPeers(ctx) })
	close(u.ready)
	<-ctx.Done()
	u.leave(listeners)
	return nil
}

// leave closes doors first, then connections, and waits for all of it.
func (u *Upstream) leave(listeners []net.Listener) {
	for _, l := range listeners {
		l.Close()
	}
	u.mu.Lock()
	u.ctx = nil
	conns := slices.Collect(maps.Keys(u.conns))
	u.mu.Unlock()
	for _, c := range conns {
		c.shut()
	}
	for _, s := range u.sockets {
		s.pc.Close()
	}
	u.tasks.Wait()
}

// Ready is closed when all listeners are open.
func (u *Upstream) Ready() <-chan struct{} { return u.ready }

// Addrs are the addresses listened on, in the order of Config.Listen.
func (u *Upstream) Addrs() []net.Addr {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Clone(u.addrs)
}

// Conn returns a live connection to the domain's upstream. It dials where
// there is none, together with whoever else waits, for as long as ctx allows;
// within a second of a failed attempt it fails at once. Errors are
// ErrUnreachable, with the reason behind it, ErrNoDomain, or ctx's.
func (u *Upstream) Conn(ctx context.Context, domain string) (*Conn, error) {
	d := u.domains[strings.ToLower(domain)]
	if d == nil {
		return nil, fmt.Errorf("%w: %s", ErrNoDomain, domain)
	}
	return d.get(ctx)
}

// maxHops bounds the next hops remembered beside the domains' upstreams.
const maxHops = 256

// Dial returns a live connection to a next hop: "HOST:PORT", with "tcp:" or
// "udp:" before it or not (then tcp). Only trusted addresses are dialled, else
// ErrUntrusted. Connections are shared and reused as with Conn.
func (u *Upstream) Dial(ctx context.Context, hostport string) (*Conn, error) {
	t, err := splitHop(hostport)
	if err != nil {
		return nil, err
	}
	u.hopsMu.Lock()
	h := u.hops[hostport]
	if h == nil {
		if len(u.hops) >= maxHops {
			u.dropIdleHops()
		}
		if len(u.hops) >= maxHops {
			u.hopsMu.Unlock()
			return nil, fmt.Errorf("%w: too many next hops", ErrUnreachable)
		}
		h = &hop{up: u, targets: []Target{t}, checked: true}
		u.hops[hostport] = h
	}
	u.hopsMu.Unlock()
	return h.get(ctx)
}

// dropIdleHops forgets the next hops without a connection. Callers hold hopsMu.
func (u *Upstream) dropIdleHops() {
	for name, h := range u.hops {
		if h.idle() {
			delete(u.hops, name)
		}
	}
}

// Status is how one domain's upstream fares.
type Status struct {
	Domain string
	// Upstream is the URI in use, or the first configured.
	Upstream string
	// Remote and Transport tell the live connection; zero without one.
	Remote    netip.AddrPort
	Transport string
	Up        bool
	// Since is when Up last changed; zero before the first attempt ended.
	Since time.Time
	// LastError is why the last attempt failed or "" after a good one.
	LastError string
}

// Status tells how each domain's upstream fares, sorted by domain.
func (u *Upstream) Status() []Status {
	var out []Status
	for _, name := range slices.Sorted(maps.Keys(u.domains)) {
		out = append(out, u.domains[name].status())
	}
	return out
}

// spawn runs f as a task that Run waits for.
func (u *Upstream) spawn(f func()) {
	u.tasks.Add(1)
	go func() {
		defer u.tasks.Done()
		f()
	}()
}

// admit registers c and starts serve for it, unless Run is over.
func (u *Upstream) admit(c *Conn, serve func()) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.ctx == nil || u.ctx.Err() != nil {
		return false
	}
	u.seq++
	c.id = fmt.Sprintf("%s/%s/%d", strings.ToLower(c.transport), c.remote, u.seq)
	u.conns[c] = struct{}{}
	if c.transport == tcp && !c.dialled {
		u.accepted++
	}
	u.metrics.conns.WithLabelValues(c.transport, direction(c)).Inc()
	if serve != nil {
		u.spawn(serve)
	}
	return true
}

func (u *Upstream) forget(c *Conn) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if _, ok := u.conns[c]; !ok {
		return
	}
	delete(u.conns, c)
	if c.transport == tcp && !c.dialled {
		u.accepted--
	}
	u.metrics.conns.WithLabelValues(c.transport, direction(c)).Dec()
}

func direction(c *Conn) string {
	if c.dialled {
		return "out"
	}
	return "in"
}
