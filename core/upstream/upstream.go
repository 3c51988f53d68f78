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

// UnreachableError says that no server of a domain can be reached now. It is
// ErrUnreachable.
type UnreachableError struct {
	Domain string
	// Retry is when a server that is only away, by its own word, is asked
	// again; 0 when nobody knows.
	Retry time.Duration
	Err   error // why each of them cannot
}

func (e *UnreachableError) Error() string {
	return fmt.Sprintf("%v: %s: %v", ErrUnreachable, e.Domain, e.Err)
}

// Unwrap makes errors.Is find ErrUnreachable and the reasons behind it.
func (e *UnreachableError) Unwrap() []error { return []error{ErrUnreachable, e.Err} }

// Handler is told what comes in. Message and Closed are called on the
// connection's reading goroutine and must not block; one connection's calls are
// in order.
type Handler interface {
	// Message is one whole message, which the callee owns. From a connection
	// that is not Trusted it is to be answered with 403 and nothing else; the
	// connection is closed after that.
	Message(c *Conn, p []byte)
	// Closed is the last call for c.
	Closed(c *Conn)
	// Reachable says that no server of the domain can be reached any more, or
	// that one can again after none could. It must not block, nor call back
	// into Upstream; the calls for a domain are in order.
	Reachable(domain string, up bool)
}

// Upstream is the set of all connections to SIP servers.
type Upstream struct {
	// Static after construction.
	cfg     Config
	handler Handler
	log     *slog.Logger
	metrics *metrics
	domains map[string]*domain
	ready   chan struct{}

	trustMu sync.Mutex // taken before a domain's
	peers   atomic.Pointer[map[netip.Addr]bool]

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
		cfg:     cfg.withDefaults(),
		handler: h,
		log:     discardIfNil(log).With("room", "upstream"),
		metrics: newMetrics(reg),
		domains: make(map[string]*domain),
		ready:   make(chan struct{}),
		conns:   make(map[*Conn]struct{}),
		hops:    make(map[string]*hop),
	}
	for name, uris := range cfg.Upstreams {
		d := &domain{
			up: u, name: strings.ToLower(name), tls: cfg.ClientTLS[name],
			changed: make(chan struct{}), kick: make(chan struct{}, 1),
		}
		for _, uri := range uris {
			if t, err := ParseTarget(uri); err == nil {
				d.targets = append(d.targets, t)
			}
		}
		u.domains[d.name] = d
	}
	return u
}

// Run opens the listeners, keeps a connection to each server of each domain, and
// serves until ctx ends. It returns nil then, or why it could not serve.
func (u *Upstream) Run(ctx context.Context) error {
	if err := u.cfg.Validate(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	found := u.resolveAll(ctx)
	u.trust(found)
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
		d.take(ctx, found[d])
		u.spawn(func() { d.follow(ctx) })
	}
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

// Conn returns a live connection to the best server of a domain that is not
// among those tried. key keeps those who ask alike on one of several servers
// that are equally good, as long as that is up: an AOR, say. Where none is up,
// Conn waits for one that may be soon, for as long as ctx allows, and no more
// than a second once all have failed. Errors are an [UnreachableError],
// ErrNoDomain, or ctx's.
func (u *Upstream) Conn(ctx context.Context, domain, key string, tried ...*Conn) (*Conn, error) {
	d := u.domains[strings.ToLower(domain)]
	if d == nil {
		return nil, fmt.Errorf("%w: %s", ErrNoDomain, domain)
	}
	return d.await(ctx, key, tried)
}

// Live is Conn for those who do not wait: nil where no server is up.
func (u *Upstream) Live(domain, key string, tried ...*Conn) *Conn {
	d := u.domains[strings.ToLower(domain)]
	if d == nil {
		return nil
	}
	return d.live(key, tried)
}

// LiveHop is Dial for those who do not wait: nil without a connection.
func (u *Upstream) LiveHop(hostport string) *Conn {
	t, err := splitHop(hostport)
	if err != nil {
		return nil
	}
	if s := u.serverAt(t); s != nil {
		return s.live()
	}
	u.hopsMu.Lock()
	h := u.hops[hostport]
	u.hopsMu.Unlock()
	if h == nil {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.live()
}

// Several reports whether a domain has, or may have, more than one server, so
// that a dialog has to remember which of them it is with.
func (u *Upstream) Several(domain string) bool {
	d := u.domains[strings.ToLower(domain)]
	return d != nil && d.several()
}

// Serves reports whether an address is that of a server of the domain.
func (u *Upstream) Serves(a netip.Addr, domain string) bool {
	d := u.domains[strings.ToLower(domain)]
	return d != nil && d.has(a.Unmap().WithZone(""))
}

// Suspect says that a request on c waits for its answer longer than it should.
// The server is asked by OPTIONS whether it is well.
func (u *Upstream) Suspect(c *Conn) {
	for _, s := range u.serversOf(c) {
		s.suspected()
	}
}

// Failed says that a request which left on c at the time at got no answer in
// time. If nothing at all was heard from the server since, it is taken for
// dead: its connection ends, and it is tried anew.
func (u *Upstream) Failed(c *Conn, at time.Time) {
	if c.heardSince(at) {
		return
	}
	for _, s := range u.serversOf(c) {
		s.failed(errors.New("a request was not answered"))
	}
}

// maxAway bounds how long a server may ask to be left alone.
const maxAway = 10 * time.Minute

// Away says that the server behind c asked to be left alone for d (503 with
// Retry-After, RFC 3261 §21.5.4), or for 10 min if that is less.
func (u *Upstream) Away(c *Conn, d time.Duration) {
	for _, s := range u.serversOf(c) {
		s.leaveAlone(min(d, maxAway))
	}
}

// serversOf are the domains' servers at the far end of c.
func (u *Upstream) serversOf(c *Conn) (found []*server) {
	for _, d := range u.domains {
		if s := d.at(c.transport, c.remote); s != nil {
			found = append(found, s)
		}
	}
	return found
}

// serverAt is a domain's server at a next hop.
func (u *Upstream) serverAt(t Target) *server {
	a, err := netip.ParseAddr(t.Host)
	if err != nil {
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(u.domains)) {
		if s := u.domains[name].at(t.Transport, netip.AddrPortFrom(a.Unmap(), t.port())); s != nil {
			return s
		}
	}
	return nil
}

// maxHops bounds the next hops remembered beside the domains' upstreams.
const maxHops = 256

// Dial returns a live connection to a next hop: "HOST:PORT", with "tcp:",
// "udp:" or "tls:" before it or not (then tcp). Only trusted addresses are
// dialled, else ErrUntrusted; over TLS only the domains' servers, since nobody
// else's name is known. Connections are shared and reused as with Conn.
func (u *Upstream) Dial(ctx context.Context, hostport string) (*Conn, error) {
	t, err := splitHop(hostport)
	if err != nil {
		return nil, err
	}
	if s := u.serverAt(t); s != nil {
		return s.await(ctx)
	}
	if t.Transport == tlsTransport {
		return nil, fmt.Errorf("%w: %s", ErrUntrusted, hostport)
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
		h = &hop{up: u, target: t}
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
	if c.stream != nil && !c.dialled {
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
	if c.stream != nil && !c.dialled {
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
