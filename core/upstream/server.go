package upstream

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// server is one address of a domain. It has one keeper, which holds a
// connection to it and asks after its health; all else only looks. State is
// guarded by the domain's mu.
//
//	dialling ──ok──▶ up ──lost──▶ dialling (at once, then with pauses)
//	    └──failed──▶ down ──pause, or somebody asks──▶ dialling
type server struct {
	// Static after construction.
	d       *domain
	target  Target
	at      netip.AddrPort
	label   string        // "tcp:10.0.0.9:5060"
	poke    chan struct{} // cuts a pause short
	suspect chan struct{} // asks for an OPTIONS now
	fault   chan error    // says that the server is dead
	stop    context.CancelFunc

	// Guarded by d.mu.
	tier      int
	weight    float64
	conn      *Conn
	dialling  bool
	attempted bool // an attempt is over
	reach     bool // the last attempt, or the connection since, was good
	err       error
	lostAt    time.Time
	away      time.Time // until when it asked to be left alone
	since     time.Time // when reach changed
	answers   bool      // it has answered an OPTIONS once
}

func newServer(d *domain, p place) *server {
	return &server{
		d: d, target: p.target, at: p.at, label: strings.ToLower(p.target.Transport) + ":" + p.at.String(),
		poke: make(chan struct{}, 1), suspect: make(chan struct{}, 1), fault: make(chan error, 1), dialling: true,
	}
}

func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// usable says whether requests may go there. Callers hold d.mu.
func (s *server) usable(now time.Time) bool {
	return s.conn != nil && !s.conn.isClosing() && !now.Before(s.away)
}

// among says whether one of the connections leads to it.
func (s *server) among(tried []*Conn) bool {
	return slices.ContainsFunc(tried, func(c *Conn) bool { return c.remote == s.at && c.transport == s.target.Transport })
}

// prod asks for an attempt before the pause is over, unless one has just
// failed. Callers hold d.mu.
func (s *server) prod(now time.Time) bool {
	if s.dialling || s.conn != nil && !s.conn.isClosing() || now.Sub(s.lostAt) < pauseMin {
		return false
	}
	s.dialling = true
	signal(s.poke)
	return true
}

// live is the connection, whether the server is away or not.
func (s *server) live() *Conn {
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	if s.conn == nil || s.conn.isClosing() {
		return nil
	}
	return s.conn
}

// await is domain.await for this server alone.
func (s *server) await(ctx context.Context) (*Conn, error) {
	for first := true; ; first = false {
		if c := s.live(); c != nil {
			return c, nil
		}
		s.d.mu.Lock()
		changed, err, dialling := s.d.changed, s.err, s.dialling
		if first && s.prod(time.Now()) {
			dialling = true
		}
		s.d.mu.Unlock()
		if !dialling {
			return nil, &UnreachableError{Domain: s.d.name, Err: err}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

var (
	errLost    = errors.New("the server closed the connection")
	errRetired = errors.New("its name leads elsewhere")
)

// keep holds a connection to the server until ctx ends.
func (s *server) keep(ctx context.Context) {
	pause := pauseMin
	var redialled time.Time
	for ctx.Err() == nil {
		c, err := s.connect(ctx)
		if err == nil {
			began := time.Now()
			s.gained(c)
			if err = s.watch(ctx, c); ctx.Err() != nil {
				break
			}
			if errors.Is(err, errLost) && time.Since(redialled) > pauseMin {
				// A server that only dropped the connection is not away.
				redialled = time.Now()
				s.redial()
				continue
			}
			if time.Since(began) > pauseMax {
				pause = pauseMin
			}
		}
		if ctx.Err() != nil {
			break
		}
		s.lost(err, pause)
		if !s.pause(ctx, pause/2+rand.N(pause/2+1)) {
			break
		}
		pause = min(2*pause, pauseMax)
	}
	s.retire()
}

// pause waits for d, or until somebody asks for the server.
func (s *server) pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
	case <-s.poke:
	}
	s.d.mu.Lock()
	s.dialling = true
	s.d.mu.Unlock()
	return true
}

// connect makes a connection. A server that is known to answer OPTIONS has to
// answer one first: an open port alone proves no life.
func (s *server) connect(ctx context.Context) (*Conn, error) {
	c, err := s.dial(ctx)
	outcome := "ok"
	if err == nil && s.proves() {
		if err = s.ask(ctx, c); err != nil {
			c.drop()
		}
	}
	if err != nil {
		outcome = "failed"
	}
	s.d.up.metrics.dials.WithLabelValues(outcome).Inc()
	return c, err
}

func (s *server) proves() bool {
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	return s.answers && s.d.up.cfg.Probe > 0
}

func (s *server) dial(ctx context.Context) (*Conn, error) {
	switch s.target.Transport {
	case udp:
		return s.d.up.packetConn(s.at)
	case tlsTransport:
		return s.d.up.dialStream(ctx, s.at, s.d.tlsFor(s.target))
	default:
		return s.d.up.dialStream(ctx, s.at, nil)
	}
}

// watch returns when c has ended (errLost), or the server is dead for another
// reason; then c has been ended too.
func (s *server) watch(ctx context.Context, c *Conn) error {
	every := s.d.up.cfg.Probe
	var next <-chan time.Time
	var timer *time.Timer
	var asked time.Time
	if every > 0 {
		timer = time.NewTimer(0)
		defer timer.Stop()
		next = timer.C
		if s.proves() { // it has just answered
			timer.Reset(jitter(every))
		}
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.Done():
			return errLost
		case err := <-s.fault:
			c.drop()
			return err
		case <-s.suspect:
			if every <= 0 || time.Since(asked) < pauseMin {
				continue
			}
		case <-next:
		}
		asked = time.Now()
		err := s.ask(ctx, c)
		timer.Reset(jitter(every))
		if err == nil || ctx.Err() != nil || errors.Is(err, ErrClosed) {
			continue
		}
		if refused := errors.Is(err, errRefused); refused || s.proves() {
			c.drop()
			return err
		}
	}
}

func jitter(d time.Duration) time.Duration { return d*4/5 + rand.N(d*2/5+1) }

func (s *server) gained(c *Conn) {
	s.d.mu.Lock()
	again := s.err != nil
	s.conn, s.dialling, s.attempted, s.err = c, false, true, nil
	s.setReach(true)
	drain(s.poke)
	drain(s.suspect)
	drain(s.fault)
	s.d.wake()
	s.d.tell()
	s.d.mu.Unlock()
	s.d.up.log.Info("upstream connected", "domain", s.d.name, "server", s.label, "again", again)
}

func (s *server) lost(err error, pause time.Duration) {
	s.d.mu.Lock()
	s.conn, s.dialling, s.attempted, s.err, s.lostAt = nil, false, true, err, time.Now()
	s.setReach(false)
	drain(s.poke)
	s.d.wake()
	s.d.tell()
	s.d.mu.Unlock()
	s.d.up.log.Warn("upstream unreachable", "domain", s.d.name, "server", s.label, "retry", pause, "err", err)
}

func drain[T any](ch chan T) {
	select {
	case <-ch:
	default:
	}
}

// setReach keeps gauge and since. Callers hold d.mu.
func (s *server) setReach(up bool) {
	if s.reach != up || s.since.IsZero() {
		s.reach, s.since = up, time.Now()
	}
	v := 0.0
	if up {
		v = 1
	}
	s.d.up.metrics.up.WithLabelValues(s.d.name, s.label).Set(v)
}

// redial says that the connection is gone and another is being made.
func (s *server) redial() {
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	s.conn, s.dialling = nil, true
}

// lingering is how long the connection of a server that DNS knows no more may
// still be used by what began on it.
const lingering = 5 * time.Minute

// retire ends the keeper: the server is none of the domain's any more, or Run
// is over.
func (s *server) retire() {
	s.d.mu.Lock()
	c := s.conn
	s.conn, s.dialling, s.attempted, s.reach = nil, false, true, false
	if s.err == nil {
		s.err = errRetired
	}
	s.d.up.metrics.up.DeleteLabelValues(s.d.name, s.label)
	s.d.wake()
	s.d.mu.Unlock()
	u := s.d.up
	u.mu.Lock()
	ctx := u.ctx
	u.mu.Unlock()
	if c == nil || ctx == nil || ctx.Err() != nil || c.stream == nil {
		return
	}
	t := time.NewTimer(lingering)
	defer t.Stop()
	select {
	case <-c.Done():
	case <-ctx.Done():
	case <-t.C:
		c.Close()
	}
}

func (s *server) suspected() { signal(s.suspect) }

// failed says that the server is dead, whatever its port says.
func (s *server) failed(err error) {
	select {
	case s.fault <- err:
	default:
	}
}

// leaveAlone keeps requests away from the server.
func (s *server) leaveAlone(d time.Duration) {
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	if until := time.Now().Add(d); until.After(s.away) {
		s.away = until
		s.d.up.log.Warn("upstream asks to be left alone", "domain", s.d.name, "server", s.label, "for", d)
	}
}

// rendezvous scores a server for a key: the highest wins, and wins as often as
// its weight asks. A weight of 0 wins almost never (RFC 2782).
func rendezvous(key, server string, weight float64) float64 {
	h := fnv.New64a()
	_, _ = fmt.Fprintf(h, "%s\x00%s", key, server)
	x := h.Sum64()
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9 // fnv alone leaves like keys alike
	x = (x ^ x>>27) * 0x94d049bb133111eb
	x ^= x >> 31
	u := (float64(x>>11) + 0.5) / (1 << 53)
	return -max(weight, 0.01) / math.Log(u)
}
