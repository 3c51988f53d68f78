package tunnel

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sallyport/tunnel/frame"
)

// AcceptorConfig is the edge's side of the tunnel. Zero values stand for the
// defaults given.
type AcceptorConfig struct {
	Name string // of this node, as in its certificate
	Boot uint64 // differs for each start; random
	// Handshake authenticates a connection that came in, and returns it and
	// the name the peer's certificate gives. It has 10 s.
	Handshake func(ctx context.Context, c net.Conn) (net.Conn, string, error)

	Grace      time.Duration // how long flows outlive a broken connection, or wait for a core; 15 s
	PingEvery  time.Duration // 2 s without a byte are answered with a PING…
	DeadAfter  time.Duration // …and 6 s with the end of the session
	StuckAfter time.Duration // a flow without credit for 30 s is closed
	Window     int           // bytes a flow may be sent before they are consumed; 64 KiB
	Budget     int           // bytes all flows may have been sent that are not consumed; 256 MiB
	Build      string        // told to the peer, for people

	Log     *slog.Logger          // nil discards
	Metrics prometheus.Registerer // nil counts for nobody
}

// An Acceptor is where cores dial in, and where an edge opens flows.
type Acceptor struct {
	// Static after NewAcceptor.
	cfg     AcceptorConfig
	t       tunables
	metrics *metrics
	budget  *budget
	pending chan struct{} // a place per connection that has not said HELLO

	mu sync.Mutex
	// Guarded by mu, which is taken before any session's.
	live     map[string]*session // by the core's name
	coming   map[uint64]*session // by id: HELLO is under way, and they are not yet live
	lost     []*session          // ended; their flows wait for another
	names    names
	draining bool
	notices  []string
	noticed  bool // there were notices once
}

const (
	handshakeWithin = 10 * time.Second
	// maxPending connections may be unauthenticated at a time: cores are few.
	maxPending = 64
)

// NewAcceptor returns an Acceptor that Serve sets to work.
func NewAcceptor(cfg AcceptorConfig) *Acceptor {
	cfg.Boot = cmp.Or(cfg.Boot, randomID())
	cfg.Grace = cmp.Or(cfg.Grace, defaultGrace)
	t := tunables{
		pingEvery: cfg.PingEvery, deadAfter: cfg.DeadAfter, stuckAfter: cfg.StuckAfter,
		grace: cfg.Grace, window: cfg.Window, budget: cfg.Budget, log: cfg.Log, build: cfg.Build,
	}.withDefaults()
	return &Acceptor{
		cfg: cfg, t: t, metrics: newMetrics(cfg.Metrics, frame.RoleEdge), budget: newBudget(t.budget),
		pending: make(chan struct{}, maxPending),
		live:    make(map[string]*session), coming: make(map[uint64]*session), names: make(names),
	}
}

// Serve accepts cores from l until ctx ends or l fails, and closes l. It
// returns when every session has ended; flows left then end with tunnel-lost.
// The error is nil if ctx ended.
func (a *Acceptor) Serve(ctx context.Context, l net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	for pause := time.Duration(0); ; {
		conn, err := l.Accept()
		switch {
		case err == nil:
			pause = 0
			a.receive(ctx, conn, &all)
			continue
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("tunnel: listener: %w", err)
		}
		// Out of file descriptors, or a caller that gave up: both pass.
		pause = min(max(2*pause, 5*time.Millisecond), time.Second)
		a.t.log.Warn("tunnel listener", "err", err, "retry_in", pause)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

// receive serves conn on a goroutine of its own, if it is not one too many.
func (a *Acceptor) receive(ctx context.Context, conn net.Conn, all *sync.WaitGroup) {
	select {
	case a.pending <- struct{}{}:
		all.Go(func() { a.serve(ctx, conn, all) })
	default:
		a.metrics.refused.WithLabelValues("busy").Inc()
		_ = conn.Close()
	}
}

// serve carries a link over conn until it breaks. If it is the first of a
// session, it sees to that too.
func (a *Acceptor) serve(ctx context.Context, conn net.Conn, all *sync.WaitGroup) {
	l, c, err := a.greet(ctx, conn)
	<-a.pending
	remote := conn.RemoteAddr()
	if err != nil {
		a.t.log.Warn("tunnel refused", "remote", remote, "err", err)
		return
	}
	s := l.s
	if c.hello.Resume {
		a.t.log.Info("tunnel link up", "remote", remote, "peer", s.peer.Name, "link", l.number, "resumed", c.resumed)
		a.repeat(s, l)
	} else {
		a.admit(s)
		a.metrics.sessions.Inc()
		a.t.log.Info("tunnel up", "remote", remote, "peer", s.peer.Name, "links", len(s.links), "build", s.hello.Build)
		all.Go(func() { a.tend(ctx, s) })
	}
	if err = l.carry(c); s.cause() == nil {
		a.t.log.Warn("tunnel link broke", "remote", remote, "peer", s.peer.Name, "link", l.number, "err", err)
	}
}

// tend sees a session through to the end of its flows, or to the session that
// takes them.
func (a *Acceptor) tend(ctx context.Context, s *session) {
	stop := context.AfterFunc(ctx, s.leave)
	defer stop()
	a.await(s)
	s.settle()
	err := s.cause()
	a.metrics.sessionEnded(err)
	a.bury(s)
	if ctx.Err() == nil {
		a.t.log.Warn("tunnel down", "remote", s.addr, "peer", s.peer.Name, "err", err)
	}
	a.keep(ctx, s)
}

// greet authenticates conn and exchanges HELLOs. Nothing of the peer's is
// parsed before its certificate was accepted. It returns the carrier that conn
// is, attached to a link of a new session, or of one that is known.
func (a *Acceptor) greet(ctx context.Context, conn net.Conn) (*link, *carrier, error) {
	shaking, cancel := context.WithTimeout(ctx, handshakeWithin)
	defer cancel()
	_ = conn.SetDeadline(time.Now().Add(handshakeWithin))
	trusted, name, err := a.cfg.Handshake(shaking, conn)
	if err != nil {
		a.metrics.refused.WithLabelValues("handshake").Inc()
		_ = conn.Close()
		return nil, nil, err
	}
	c := newCarrier(trusted)
	err = within(ctx, trusted, a.t.helloWithin, func() error { return c.hear(frame.RoleCore, name) })
	var l *link
	if err == nil && c.hello.Resume {
		l, err = a.rejoin(ctx, c)
	} else if err == nil {
		l, err = a.begin(ctx, c)
	}
	if errors.Is(err, errReset) {
		err = &refusal{frame.GoAwayReset, "reset", err.Error()}
	}
	if err != nil {
		a.metrics.refused.WithLabelValues(c.refuse(err)).Inc()
		return nil, nil, err
	}
	return l, c, nil
}

// begin makes a new session of c.
func (a *Acceptor) begin(ctx context.Context, c *carrier) (*link, error) {
	if h := c.hello; h.Link != 0 || h.RxOffset != 0 {
		return nil, fmt.Errorf("%w: link %d from byte %d is no beginning", errProtocol, h.Link, h.RxOffset)
	}
	own := a.introduce()
	own.Session, own.Links = c.hello.Session, maxLinks
	own.Links = uint8(agree(own, c.hello))
	s := newSession(a.t, c, c.hello.Session, int(own.Links), a.metrics, a.budget)
	s.outlived, s.others = true, func(first bool) bool { return a.spares(s, first) }
	// Once HELLO is out, the core may be back for more links before we are, and
	// for this one too.
	s.links[0].joining.Lock()
	defer s.links[0].joining.Unlock()
	a.mu.Lock()
	a.coming[s.id] = s
	a.mu.Unlock()
	err := within(ctx, c.conn, a.t.helloWithin, func() error { return c.say(own) })
	if err == nil {
		err = s.links[0].attach(c)
	}
	if err != nil {
		a.mu.Lock()
		delete(a.coming, s.id)
		a.mu.Unlock()
		s.fail(err, 0)
	}
	return s.links[0], err
}

// introduce is what the edge says of itself on a new link.
func (a *Acceptor) introduce() frame.Hello {
	a.mu.Lock()
	defer a.mu.Unlock()
	h := a.t.introduce(frame.RoleEdge, a.cfg.Name, a.cfg.Boot)
	h.Draining = a.draining
	return h
}

// Open opens a flow to the core that has the fewest, for its weight. It fails
// with ErrNoCore, or names what in info is beyond its limits; an info without
// uuid gets one. The flow outlives its session: it is opened again, with
// Reopened set, in the next one within Grace.
func (a *Acceptor) Open(info Info, h Handler) (*Flow, error) {
	if err := info.Check(); err != nil {
		return nil, fmt.Errorf("tunnel: open: %w", err)
	}
	if info.UUID == [16]byte{} {
		info.UUID = newUUID()
	}
	f := &Flow{info: &info, h: h}
	if info.Silent {
		f.state |= flowSilent
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.names.shareAll(&info)
	if s := a.choose(f); s != nil {
		if l := s.pick(false); l != nil {
			l.open(f, info.Reopened)
			a.metrics.flows.Inc()
			return f, nil
		}
	}
	return nil, ErrNoCore
}

// choose returns the session a new flow belongs on, nil if there is none. a.mu
// is held.
func (a *Acceptor) choose(f *Flow) *session {
	var best *session
	var least float64
	for _, s := range a.live {
		if load, ok := s.load(f.info.Service); ok && (best == nil || load < least) {
			best, least = s, load
		}
	}
	return best
}

// Ready tells whether at least one session is up: connected at this moment.
func (a *Acceptor) Ready() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, s := range a.live {
		if up, _ := s.carried(); up {
			return true
		}
	}
	return false
}

// Serves tells whether at least one session is up whose core takes flows of
// that service.
func (a *Acceptor) Serves(service string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, s := range a.live {
		if up, _ := s.carried(); up && s.serves(service) {
			return true
		}
	}
	return false
}

// Sessions returns the sessions there are, by the core's name, and after them
// those whose flows wait for another.
func (a *Acceptor) Sessions() []SessionStatus {
	a.mu.Lock()
	defer a.mu.Unlock()
	var all []SessionStatus
	for _, s := range a.live {
		all = append(all, s.status())
	}
	slices.SortFunc(all, func(x, y SessionStatus) int { return cmp.Compare(x.Peer.Name, y.Peer.Name) })
	for _, s := range a.lost {
		all = append(all, s.status())
	}
	return all
}

// status describes a session of an edge.
func (s *session) status() SessionStatus {
	st := SessionStatus{Edge: s.addr, Peer: s.peer}
	s.describe(&st)
	return st
}

// SetNotices tells every core, now and when it comes, what an operator should
// know of this edge: a certificate that nears its end, for instance. Notes
// replace those set before; none take them back. Eight notes of 255 bytes
// are told; the rest is cut off, and what does not print is left out.
func (a *Acceptor) SetNotices(notes []string) {
	notes = frame.CleanNotices(notes)
	a.mu.Lock()
	defer a.mu.Unlock()
	if slices.Equal(notes, a.notices) {
		return
	}
	a.notices, a.noticed = notes, true
	for _, s := range a.live {
		s.notify(notes)
	}
}

// Drain tells every core that this edge takes no new clients, and leaves when
// ctx is over, if it has a deadline. It overtakes all data and does not wait;
// the flows there are go on.
func (a *Acceptor) Drain(ctx context.Context) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.draining = true
	for _, s := range a.live {
		s.drain(until(ctx))
	}
	return ctx.Err()
}
