package c2s

import (
	"cmp"
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"sallyport/core/stanza"
)

// Config says how the servers of one domain are met. Zero values mean the
// defaults.
type Config struct {
	// Name is the domain of the users' JIDs.
	Name string
	// Upstream is where its servers are; see [ParseTarget].
	Upstream string
	// Roots are the CAs that a server's certificate may be from, asked for each
	// stream. Nil, or a nil pool: the system's.
	Roots func() *x509.CertPool
	// SharedCert: the edge shows the server's own certificate to clients, so
	// that tls-server-end-point holds.
	SharedCert bool

	MaxElement   int           // bytes of one element; default [stanza.DefaultMaxElement]
	Queue        int           // bytes that wait for a server that does not read; default 1 MiB
	OpenTimeout  time.Duration // of Open, all in all; default 15 s
	DialTimeout  time.Duration // of one attempt to connect; default 5 s
	WriteTimeout time.Duration // in which a server has to take some of what waits for it; default 60 s
	Probe        time.Duration // how long a domain may go without word of its servers; default 30 s

	Metrics  *Metrics // default: ones that nobody sees
	Resolver Resolver // default: the system's
	// Dial connects to "address:port". Default: TCP.
	Dial func(ctx context.Context, addr string) (net.Conn, error)
}

// maxOpening bounds the streams of a domain that are being opened at a time.
const maxOpening = 128

// Domain opens streams to the servers of one domain. Its methods may be called
// from any goroutine. Streams outlive it.
type Domain struct {
	// Static.
	cfg     Config
	target  Target
	log     *slog.Logger
	opening chan struct{}
	asking  chan struct{} // capacity 1: one lookup at a time

	mu       sync.Mutex
	known    []netip.AddrPort // what the upstream resolved to
	resolved time.Time        // when
	bad      map[netip.AddrPort]time.Time
	health   Status
	told     time.Time // when a stream last told how the servers fare
}

// New makes a domain. The error names what is configured wrongly. log may be
// nil.
func New(cfg Config, log *slog.Logger) (*Domain, error) {
	target, err := ParseTarget(cfg.Upstream)
	if err != nil {
		return nil, fmt.Errorf("xmpp.domain %s: upstream: %w", cfg.Name, err)
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	cfg.MaxElement = cmp.Or(cfg.MaxElement, stanza.DefaultMaxElement)
	cfg.Queue = cmp.Or(cfg.Queue, 1<<20)
	cfg.OpenTimeout = cmp.Or(cfg.OpenTimeout, 15*time.Second)
	cfg.DialTimeout = cmp.Or(cfg.DialTimeout, 5*time.Second)
	cfg.WriteTimeout = cmp.Or(cfg.WriteTimeout, time.Minute)
	cfg.Probe = cmp.Or(cfg.Probe, 30*time.Second)
	if cfg.Metrics == nil {
		cfg.Metrics = NewMetrics(nil)
	}
	if cfg.Resolver == nil {
		cfg.Resolver = net.DefaultResolver
	}
	if cfg.Dial == nil {
		cfg.Dial = dial
	}
	return &Domain{
		cfg: cfg, target: target, log: log.With("room", "c2s", "domain", cfg.Name),
		opening: make(chan struct{}, maxOpening), asking: make(chan struct{}, 1),
		bad:    make(map[netip.AddrPort]time.Time),
		health: Status{Domain: cfg.Name, Upstream: target.URI},
	}, nil
}

func (d *Domain) roots() *x509.CertPool {
	if d.cfg.Roots == nil {
		return nil
	}
	return d.cfg.Roots()
}

// cutter is one for a new stream of ours.
func (d *Domain) cutter() *stanza.Cutter {
	limits := stanza.Limits{MaxElement: d.cfg.MaxElement}
	if d.target.web() {
		return stanza.NewFrames(limits)
	}
	return stanza.New(limits)
}

const (
	// lookupKeep is for how long a lookup is good.
	lookupKeep = 30 * time.Second
	// badKeep is for how long a server that failed is tried last.
	badKeep = 30 * time.Second
)

// places are the addresses to try, in order. A lookup that fails leaves what
// was known before.
func (d *Domain) places(ctx context.Context) ([]netip.AddrPort, error) {
	select {
	case d.asking <- struct{}{}:
		defer func() { <-d.asking }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	d.mu.Lock()
	fresh := d.known != nil && time.Since(d.resolved) < lookupKeep
	d.mu.Unlock()
	var found []netip.AddrPort
	var err error
	if !fresh {
		within, cancel := context.WithTimeout(ctx, d.cfg.DialTimeout)
		found, err = d.target.resolve(within, d.cfg.Resolver)
		cancel()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case fresh:
	case err == nil:
		d.known, d.resolved = found, time.Now()
	case d.known == nil:
		return nil, err
	default:
		d.resolved = time.Now()
		d.log.Warn("xmpp upstream does not resolve: the addresses of before are kept", "upstream", d.target.URI, "err", err)
	}
	now := time.Now()
	good := slices.Clone(d.known)
	slices.SortStableFunc(good, func(a, b netip.AddrPort) int {
		return cmp.Compare(d.badness(a, now), d.badness(b, now))
	})
	return good, nil
}

// badness orders servers; it needs mu.
func (d *Domain) badness(at netip.AddrPort, now time.Time) int {
	if since, ok := d.bad[at]; ok && now.Sub(since) < badKeep {
		return 1
	}
	return 0
}

// fare notes how a server did.
func (d *Domain) fare(at netip.AddrPort, well bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if well {
		delete(d.bad, at)
		return
	}
	if len(d.bad) > 4*maxPlaces { // addresses that DNS no longer names
		clear(d.bad)
	}
	d.bad[at] = time.Now()
}
