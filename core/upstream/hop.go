package upstream

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"
)

// hop is a next hop that is no server of a domain: where a dialog or a response
// has to go, by the PBX's own word. It has at most one connection and one
// attempt to make it, shared by all, and is forgotten when idle.
type hop struct {
	// Static after construction.
	up     *Upstream
	target Target

	// Guarded by mu.
	mu      sync.Mutex
	conn    *Conn
	attempt *attempt // under way
	err     error    // of the last attempt
	failed  time.Time
}

// attempt is one round of dialling. conn and err are set before done closes.
type attempt struct {
	done chan struct{}
	conn *Conn
	err  error
}

// Pauses between attempts. A caller does not bring one about within pauseMin of
// a failure; a server's own pauses double from pauseMin to pauseMax.
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
		h.conn = nil
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
	u.spawn(func() { h.finish(ctx, a) })
	return nil
}

func (h *hop) finish(ctx context.Context, a *attempt) {
	a.conn, a.err = h.dialAll(ctx)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.conn, h.err, h.attempt = a.conn, a.err, nil
	if a.err != nil {
		h.failed = time.Now()
	}
	close(a.done)
}

// dialAll tries all addresses of the target in order.
func (h *hop) dialAll(ctx context.Context) (*Conn, error) {
	var errs []error
	addrs, err := h.up.resolveHost(ctx, h.target.Host, h.target.port())
	if err != nil {
		errs = append(errs, err)
	}
	for _, a := range addrs {
		c, err := h.dial(ctx, a)
		if err == nil {
			h.up.metrics.dials.WithLabelValues("ok").Inc()
			return c, nil
		}
		errs = append(errs, err)
	}
	h.up.metrics.dials.WithLabelValues("failed").Inc()
	err = errors.Join(errs...)
	if errors.Is(err, ErrUntrusted) {
		return nil, err
	}
	return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
}

func (h *hop) dial(ctx context.Context, a netip.AddrPort) (*Conn, error) {
	if !h.up.Trusted(a.Addr()) {
		return nil, fmt.Errorf("%w: %s", ErrUntrusted, a)
	}
	if h.target.Transport == udp {
		return h.up.packetConn(a)
	}
	return h.up.dialStream(ctx, a, nil)
}

func (h *hop) idle() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.attempt == nil && h.live() == nil
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
