package tunnel

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sallyport/tunnel/frame"
)

// DialerConfig is the core's side of the tunnel. Zero values stand for the
// defaults given.
type DialerConfig struct {
	Name  string   // of this node, as in its certificate
	Boot  uint64   // differs for each start; random
	Edges []string // addresses, each dialled for itself
	// Dial connects to one of Edges and returns the authenticated connection
	// and the name the peer's certificate gives. It has 10 s.
	Dial func(ctx context.Context, edge string) (net.Conn, string, error)
	// Open takes a flow in. It is called as a Handler's methods are, and must
	// not block. Returning nil refuses the flow.
	Open func(*Flow) Handler

	Services   []string      // taken here; none means any
	Weight     uint16        // share of new flows among cores; 1
	PingEvery  time.Duration // 2 s without a byte are answered with a PING…
	DeadAfter  time.Duration // …and 6 s with the end of the session
	StuckAfter time.Duration // a flow without credit for 30 s is closed
	Grace      time.Duration // how long flows outlive a broken connection; 15 s
	Links      int           // connections to each edge, 1 to 8; 2 where the kernel offers BBR, else 4
	Window     int           // bytes a flow may be sent before they are consumed; 64 KiB
	Budget     int           // bytes all flows may have been sent that are not consumed; 256 MiB
	MaxFlows   int           // per edge; 100,000
	OpenRate   int           // new flows a second and edge, after a burst of MaxFlows; 2000
	Build      string        // told to the peer, for people

	Log     *slog.Logger          // nil discards
	Metrics prometheus.Registerer // nil counts for nobody
}

// A Dialer keeps a session with each edge.
type Dialer struct {
	// Static after NewDialer.
	cfg     DialerConfig
	t       tunables
	metrics *metrics
	budget  *budget

	mu sync.Mutex
	// Guarded by mu.
	edges    []*remote
	draining bool
}

// remote is an edge to be kept in touch with. Guarded by Dialer.mu.
type remote struct {
	addr    string
	name    string   // of the edge found there; "" while there is no connection
	session *session // nil while there is none
	peer    Peer     // of the session, or the one before
	since   time.Time
	lastErr error
}

const (
	dialWithin = 10 * time.Second
	// firstBackoff doubles with each failure up to maxBackoff; the wait is
	// anything between nothing and that, so that cores do not come in step.
	firstBackoff = 200 * time.Millisecond
	maxBackoff   = 10 * time.Second
	manyFailures = 6
)

// NewDialer returns a Dialer that Run sets to work.
func NewDialer(cfg DialerConfig) *Dialer {
	cfg.Boot = cmp.Or(cfg.Boot, randomID())
	cfg.Weight = cmp.Or(cfg.Weight, 1)
	t := tunables{
		pingEvery: cfg.PingEvery, deadAfter: cfg.DeadAfter, stuckAfter: cfg.StuckAfter,
		grace: cfg.Grace, window: cfg.Window, maxFlows: cfg.MaxFlows, openRate: cfg.OpenRate, budget: cfg.Budget,
		log: cfg.Log, build: cfg.Build,
	}.withDefaults()
	d := &Dialer{cfg: cfg, t: t, metrics: newMetrics(cfg.Metrics, frame.RoleCore), budget: newBudget(t.budget)}
	for _, addr := range cfg.Edges {
		d.edges = append(d.edges, &remote{addr: addr, since: time.Now()})
	}
	return d
}

func randomID() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return binary.BigEndian.Uint64(b[:])
}

// links is how many connections each session is to have.
func (d *Dialer) links() int {
	switch {
	case d.cfg.Links > 0:
		return min(d.cfg.Links, maxLinks)
	case bbrOffered():
		return linksWithBBR
	}
	return linksWithout
}

// Run keeps the sessions until ctx ends; then it leaves each in order, ends
// every flow with tunnel-lost, and returns nil.
func (d *Dialer) Run(ctx context.Context) error {
	var all sync.WaitGroup
	for _, e := range d.edges {
		all.Go(func() { d.keep(ctx, e) })
	}
	all.Wait()
	return nil
}

// keep dials e whenever there is no session: at once after one that stood, and
// after a growing, random wait after one that did not.
func (d *Dialer) keep(ctx context.Context, e *remote) {
	failures := 0
	for ctx.Err() == nil {
		stood, err := d.serve(ctx, e)
		var away *goAway
		switch {
		case errors.As(err, &away) && away.code == frame.GoAwayReplaced:
			// Somebody else has our name. Two who fight help nobody.
			failures = manyFailures
		case stood >= d.t.deadAfter:
			failures = 0
			continue
		}
		select {
		case <-time.After(backoff(failures)):
		case <-ctx.Done():
		}
		failures++
	}
}

// backoff returns how long to wait after so many failures in a row.
func backoff(failures int) time.Duration {
	limit := min(firstBackoff<<min(failures, manyFailures), maxBackoff)
	return mathrand.N(limit)
}

// serve makes a session with e and returns, when it has ended, how long it
// stood and why it ended.
func (d *Dialer) serve(ctx context.Context, e *remote) (time.Duration, error) {
	s, c, err := d.begin(ctx, e)
	if err != nil {
		d.failed(ctx, e, err)
		return 0, err
	}
	d.metrics.sessions.Inc()
	d.t.log.Info("tunnel up", "edge", e.addr, "peer", s.peer.Name, "links", len(s.links), "build", s.hello.Build)
	d.carryAll(ctx, e, s, c)
	err = s.cause()
	d.metrics.sessionEnded(err)
	d.mu.Lock()
	e.name, e.session, e.since, e.lastErr = "", nil, time.Now(), err
	d.mu.Unlock()
	if ctx.Err() == nil {
		d.t.log.Warn("tunnel down", "edge", e.addr, "peer", s.peer.Name, "err", err)
	}
	s.giveUp(CloseTunnelLost, "the tunnel was lost")
	return time.Since(s.start), err
}

// failed notes why e cannot be reached. The same reason is logged once.
func (d *Dialer) failed(ctx context.Context, e *remote, err error) {
	d.mu.Lock()
	known := e.lastErr != nil && e.lastErr.Error() == err.Error()
	e.name, e.lastErr = "", err
	d.mu.Unlock()
	level := slog.LevelWarn
	if known || ctx.Err() != nil {
		level = slog.LevelDebug
	}
	d.t.log.Log(ctx, level, "tunnel not up", "edge", e.addr, "err", err)
}

// connect dials e and exchanges HELLOs: own is said, and what the edge says is
// in the carrier returned.
func (d *Dialer) connect(ctx context.Context, e *remote, own func() frame.Hello) (*carrier, error) {
	dialing, cancel := context.WithTimeout(ctx, dialWithin)
	defer cancel()
	conn, name, err := d.cfg.Dial(dialing, e.addr)
	if err != nil {
		d.metrics.refused.WithLabelValues("dial").Inc()
		return nil, err
	}
	if err := d.claim(e, name); err != nil {
		d.metrics.refused.WithLabelValues("twice").Inc()
		_ = conn.Close()
		return nil, err
	}
	c := newCarrier(conn)
	err = within(ctx, conn, d.t.helloWithin, func() error {
		if err := c.say(own()); err != nil {
			return err
		}
		return c.hear(frame.RoleEdge, name)
	})
	if err != nil {
		d.metrics.refused.WithLabelValues(c.refuse(err)).Inc()
		return nil, err
	}
	return c, nil
}

// claim notes that e leads to the edge of that name, unless another address
// does: two sessions of one pair would replace each other for ever.
func (d *Dialer) claim(e *remote, name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, other := range d.edges {
		if other != e && other.name == name && name != "" {
			return fmt.Errorf("tunnel: %s is the edge %s, which is in use by the address %s: list it once",
				e.addr, name, other.addr)
		}
	}
	e.name = name
	return nil
}

// introduce is what the core says of itself on a new connection.
func (d *Dialer) introduce() frame.Hello {
	d.mu.Lock()
	defer d.mu.Unlock()
	h := d.t.introduce(frame.RoleCore, d.cfg.Name, d.cfg.Boot)
	h.MaxFlows = uint32(d.t.maxFlows)
	h.Services, h.Weight, h.Draining = d.cfg.Services, d.cfg.Weight, d.draining
	return h
}

// admit makes s the session with e.
func (d *Dialer) admit(e *remote, s *session) {
	d.mu.Lock()
	defer d.mu.Unlock()
	e.session, e.peer, e.since = s, s.peer, time.Now()
	if d.draining { // whatever HELLO said: the edge answers this
		s.drain(0)
	}
}

// Ready tells whether at least one session is up: connected at this moment.
func (d *Dialer) Ready() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, e := range d.edges {
		if e.session == nil {
			continue
		}
		if up, _ := e.session.carried(); up {
			return true
		}
	}
	return false
}

// Sessions returns the state of every edge, in the order of Edges.
func (d *Dialer) Sessions() []SessionStatus {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := make([]SessionStatus, 0, len(d.edges))
	for _, e := range d.edges {
		st := SessionStatus{Edge: e.addr, Peer: e.peer, Since: e.since}
		if e.lastErr != nil && !errors.Is(e.lastErr, errLeft) {
			st.LastError = e.lastErr.Error()
		}
		if e.session != nil {
			e.session.describe(&st)
		}
		all = append(all, st)
	}
	return all
}

// Drain tells every edge to open no new flows here, and that this core leaves
// when ctx is over, if it has a deadline. It overtakes all data and does not
// wait; the flows there are go on. Sessions made later start drained. What
// becomes of those flows, [Dialer.Release] decides.
func (d *Dialer) Drain(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.draining = true
	for _, e := range d.edges {
		if e.session != nil {
			e.session.drain(until(ctx))
		}
	}
	return ctx.Err()
}

// until returns the time left before ctx's deadline, 0 without one.
func until(ctx context.Context) time.Duration {
	if at, ok := ctx.Deadline(); ok {
		return time.Until(at)
	}
	return 0
}
