package transport

import (
	"errors"
	"net"
	"sync"
	"time"
)

// paced gives every write its own deadline, so that what counts is progress
// and not the length of a queue. A deadline set from outside holds where it is
// earlier.
type paced struct {
	net.Conn
	timeout  time.Duration
	throttle *throttle // nil: none; set before anything is read beside TLS

	// Guarded by mu.
	mu    sync.Mutex
	bound time.Time
}

func (p *paced) Write(b []byte) (int, error) {
	until := time.Now().Add(p.timeout)
	p.mu.Lock()
	if !p.bound.IsZero() && p.bound.Before(until) {
		until = p.bound
	}
	err := p.Conn.SetWriteDeadline(until)
	p.mu.Unlock()
	if err != nil {
		return 0, err
	}
	return p.Conn.Write(b)
}

func (p *paced) hold(th *throttle) { p.throttle = th }

// Read waits until the client may have sent more.
func (p *paced) Read(b []byte) (int, error) {
	if p.throttle == nil {
		return p.Conn.Read(b)
	}
	if wait := p.throttle.wait(); wait > 0 {
		time.Sleep(wait) // at most that of one read
	}
	n, err := p.Conn.Read(b)
	p.throttle.took(n)
	return n, err
}

func (p *paced) SetWriteDeadline(t time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.bound = t
	return p.Conn.SetWriteDeadline(t)
}

func (p *paced) SetDeadline(t time.Time) error {
	return errors.Join(p.SetReadDeadline(t), p.SetWriteDeadline(t))
}

// bounded reports whether a deadline was set from outside.
func (p *paced) bounded() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.bound.IsZero()
}
