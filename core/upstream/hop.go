package upstream

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// hop is one place to send to: a domain's upstream, or a sealed next hop. It
// has at most one connection and one attempt to make it, shared by all.
type hop struct {
	// Static after construction.
	up      *Upstream
	domain  string // empty for a sealed next hop
	targets []Target
	checked bool // only trusted addresses may be dialled

	// Guarded by mu.
	mu      sync.Mutex
	conn    *Conn
	target  Target   // of conn
	attempt *attempt // under way
	err     error    // of the last attempt
	failed  time.Time
	since   time.Time
	wasUp   bool
}

// attempt is one round of dialling. conn and err are set before done closes.
type attempt struct {
	done chan struct{}
	conn *Conn
	err  error
}

// Pauses between attempts. A caller does not start one within pauseMin of a
// failure; the keeper's pauses double from pauseMin to pauseMax.
const (
	pauseMin = time.Second
	pauseMax = 30 * time.Second
)

// get returns the live connection or the outcome of the next attempt.
func (h *hop) get(ctx context.Context) (*Conn, error) {
	h.mu.Lock()
	if c := h.live(); c != nil {
		h.mu.Unlock()
		return c, nil
	}
	if h.attempt == nil {
		if h.err != nil && time.Since(h.failed) < pauseMin {
			defer h.mu.Unlock()
			return nil, h.err
		}
		if err := h.start(); err != nil {
			h.mu.Unlock()
			return nil, err
		}
	}
	a := h.attempt
	h.mu.Unlock()
	select {
	case <-a.done:
		return a.conn, a.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// live is the connection if it has not ended. Callers hold mu.
func (h *hop) live() *Conn {
	if h.conn != nil && h.conn.isClosing() {
		h.conn, h.since, h.wasUp = nil, time.Now(), false
	}
	return h.conn
}

// start begins an attempt, which belongs to Run. Callers hold mu.
func (h *hop) start() error {
	u := h.up
	u.mu.Lock()
	defer u.mu.Unlock()
	ctx := u.ctx
	if ctx == nil {
		return fmt.Errorf("%w: not running", ErrUnreachable)
	}
	a := &attempt{done: make(chan struct{})}
	h.attempt = a
	u.spawn(func() {
		conn, target, err := h.dialAll(ctx)
		h.finish(a, conn, target, err)
	})
	return nil
}

func (h *hop) finish(a *attempt, conn *Conn, target Target, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	a.conn, a.err = conn, err
	if up := conn != nil; up != h.wasUp || h.since.IsZero() {
		h.wasUp, h.since = up, time.Now()
	}
	h.conn, h.target, h.err, h.attempt = conn, target, err, nil
	if err != nil {
		h.failed = time.Now()
	}
	close(a.done)
}

// dialAll tries all addresses of all targets in order.
func (h *hop) dialAll(ctx context.Context) (*Conn, Target, error) {
	var errs []error
	for _, t := range h.targets {
		addrs, err := h.up.resolve(ctx, t)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, a := range addrs {
			c, err := h.dial(ctx, t, a)
			if err == nil {
				h.up.metrics.dials.WithLabelValues("ok").Inc()
				return c, t, nil
			}
			errs = append(errs, err)
		}
	}
	h.up.metrics.dials.WithLabelValues("failed").Inc()
	err := errors.Join(errs...)
	if errors.Is(err, ErrUntrusted) {
		return nil, Target{}, err
	}
	return nil, Target{}, fmt.Errorf("%w: %w", ErrUnreachable, err)
}

func (h *hop) dial(ctx context.Context, t Target, a netip.AddrPort) (*Conn, error) {
	if h.checked && !h.up.Trusted(a.Addr()) {
		return nil, fmt.Errorf("%w: %s", ErrUntrusted, a)
	}
	if t.Transport == udp {
		return h.up.packetConn(a)
	}
	return h.up.dialTCP(ctx, a)
}

func (u *Upstream) dialTCP(ctx context.Context, a netip.AddrPort) (*Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, u.cfg.DialTimeout)
	defer cancel()
	nc, err := u.cfg.DialTCP(ctx, a.String())
	if err != nil {
		return nil, err
	}
	c := u.newStream(nc, a, true)
	if !u.admit(c, c.serve) {
		nc.Close()
		return nil, ErrClosed
	}
	return c, nil
}

// keep holds a connection to the domain open until ctx ends.
func (h *hop) keep(ctx context.Context) {
	pause := pauseMin
	for ctx.Err() == nil {
		c, err := h.get(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			h.up.log.Warn("upstream unreachable", "domain", h.domain, "retry", pause, "err", err)
		default:
			h.up.log.Info("upstream connected", "domain", h.domain, "remote", c.Remote(), "transport", c.Transport())
			began := time.Now()
			if !h.watch(ctx, c) {
				return
			}
			if time.Since(began) > pauseMax {
				pause = pauseMin
			}
			h.up.log.Warn("upstream connection lost", "domain", h.domain, "remote", c.Remote())
		}
		if !sleep(ctx, pause/2+rand.N(pause/2+1)) {
			return
		}
		pause = min(2*pause, pauseMax)
	}
}

// watch waits until c ends; over UDP, until the upstream's name no longer
// leads to c's address. It returns false when ctx ended.
func (h *hop) watch(ctx context.Context, c *Conn) bool {
	tick := time.NewTicker(h.up.cfg.ResolveEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-c.Done():
			return true
		case <-tick.C:
			if c.Transport() == udp && h.moved(ctx, c) {
				return true
			}
		}
	}
}

// moved lets go of c if its address is the target's no more.
func (h *hop) moved(ctx context.Context, c *Conn) bool {
	h.mu.Lock()
	target := h.target
	h.mu.Unlock()
	addrs, err := h.up.resolve(ctx, target)
	if err != nil || slices.Contains(addrs, c.remote) {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.conn == c {
		h.conn = nil
	}
	return true
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

func (h *hop) idle() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.attempt == nil && h.live() == nil
}

func (h *hop) status() Status {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := Status{Domain: h.domain}
	if len(h.targets) > 0 {
		s.Upstream = h.targets[0].URI
	}
	if c := h.live(); c != nil {
		s.Up, s.Upstream, s.Remote, s.Transport = true, h.target.URI, c.remote, c.transport
	}
	s.Since = h.since
	if h.err != nil {
		s.LastError = h.err.Error()
	}
	return s
}
