package pushtest

import (
	"context"
	"fmt"
	"net"
	"slices"
	"time"
)

// Ready is closed when Serve has begun and URL is known.
func (s *web) Ready() <-chan struct{} { return s.ready }

// Addr is the address served, nil before Serve.
func (s *web) Addr() net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.addr
}

// URL is the base URL served, without a slash at its end; "" before Serve.
func (s *web) URL() string {
	addr := s.Addr()
	if addr == nil {
		return ""
	}
	return "https://" + addr.String()
}

// CA returns the certificate in PEM that a client must trust.
func (s *web) CA() []byte {
	if s.pki == nil {
		return nil
	}
	return slices.Clone(s.pki.ca)
}

// RotateCertificate gives new connections another certificate of the same CA.
func (s *web) RotateCertificate() error { return s.pki.issue() }

// Violations returns what a client did that the provider forbids, whether or
// not it answers with an error. A good client has none.
func (s *web) Violations() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.violations)
}

func (s *web) violate(format string, a ...any) {
	v := fmt.Sprintf(format, a...)
	s.log.Warn("push rule violated", "simulator", s.name, "violation", v)
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.violations) < maxViolations {
		s.violations = append(s.violations, v)
	}
}

// Connections returns how many connections were opened so far, and how many
// are open now.
func (s *web) Connections() (opened, open int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.opened, len(s.conns)
}

// Inject queues a fault. Faults are used up in the order they were queued.
func (s *web) Inject(f Fault) { s.faults.add(f) }

// ClearFaults forgets all that is to go wrong, the latencies too.
func (s *web) ClearFaults() { s.faults.clear() }

// SetLatency delays each answer from now on.
func (s *web) SetLatency(d time.Duration) { s.faults.setDelay(d) }

// SetHandshakeDelay delays each TLS handshake from now on.
func (s *web) SetHandshakeDelay(d time.Duration) { s.faults.setShake(d) }

// networkActions are those of the control API that are about connections.
func (s *web) networkActions() map[string]func() {
	return map[string]func(){
		"black_hole":         s.BlackHole,
		"goaway":             s.GoAway,
		"disconnect":         s.Disconnect,
		"rotate_certificate": func() { _ = s.RotateCertificate() }, // without randomness the old one stays
	}
}

// after keeps an action until n more pushes have been accepted.
func (s *web) after(n int, act func(), known bool) bool {
	if known {
		s.faults.later(n, act)
	}
	return known
}

// BlackHole makes the connections that are open now fall silent, as when a NAT
// forgot them: they stay open and nothing comes back. Later ones work.
func (s *web) BlackHole() {
	for _, c := range s.open() {
		c.frozen.Store(true)
	}
}

// Disconnect closes the connections that are open now without a word.
func (s *web) Disconnect() {
	for _, c := range s.open() {
		_ = c.Close()
	}
}

func (s *web) open() []*webConn {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]*webConn, 0, len(s.conns))
	for c := range s.conns {
		out = append(out, c)
	}
	return out
}

// GoAway tells the connections that are open now to end (RFC 9113 §6.8), after
// the requests under way on them. It does nothing before Serve and after it.
func (s *web) GoAway() {
	s.mu.Lock()
	old := s.front
	if old == nil {
		s.mu.Unlock()
		return
	}
	next, err := s.renew()
	if err == nil {
		s.front = next
	}
	s.mu.Unlock()
	if err == nil { // it was taken before, so it is again
		old.end()
	}
}

// end lets the front go: GOAWAY on HTTP/2 connections, the end of HTTP/1.1
// ones that are idle. Those under way go on.
func (f *front) end() {
	_ = f.plain.Close()
	ended, cancel := context.WithCancel(context.Background())
	cancel() // the calls, not the wait
	_ = f.base.Shutdown(ended)
}

// leave ends the last front.
func (s *web) leave() {
	s.mu.Lock()
	f := s.front
	s.front = nil
	s.mu.Unlock()
	if f != nil {
		_ = f.base.Close()
		_ = f.plain.Close()
	}
}
