package pushtest

import (
	"slices"
	"sync"
	"time"

	"golang.org/x/net/http2"
)

// Fault is what goes wrong with the next pushes. The zero value of each field
// leaves that part alone.
type Fault struct {
	Count  int    `json:"count"`  // for how many pushes; 0 is 1, below 0 is all until ClearFaults
	Every  int    `json:"every"`  // only each so manieth of them; 0 is 1
	Token  string `json:"token"`  // only for pushes to this device token
	Status int    `json:"status"` // answer with this status…
	Reason string `json:"reason"` // …and reason
	// HTML answers like a proxy that reached nobody: with Status, 0 being 502,
	// and a page.
	HTML bool `json:"html"`
	// Reset ends the stream in the middle of an answer.
	Reset bool `json:"reset"`
	// Drop takes the push and never answers.
	Drop bool `json:"drop"`
}

// faults holds what is to go wrong.
type faults struct {
	mu      sync.Mutex
	queue   []fault       // guarded by mu
	latency time.Duration // guarded by mu
	shake   time.Duration // guarded by mu; before a TLS handshake
	after   []trigger     // guarded by mu
}

// fault is a Fault with how many pushes it has let pass.
type fault struct {
	Fault
	passed int
}

// trigger is an action that waits for pushes to be accepted.
type trigger struct {
	left int
	act  func(*APNs)
}

// maxFaults bounds the queue; the control API is reachable by others.
const maxFaults = 1000

// take returns the fault for the next push to token.
func (f *faults) take(token string) (Fault, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.queue {
		q := &f.queue[i]
		if q.Token != "" && q.Token != token {
			continue
		}
		if q.passed++; q.passed < q.Every {
			continue
		}
		q.passed = 0
		out := q.Fault
		switch q.Count {
		case -1: // for ever
		case 1:
			f.queue = slices.Delete(f.queue, i, i+1)
		default:
			q.Count--
		}
		return out, true
	}
	return Fault{}, false
}

// due returns the actions whose time has come with one more push accepted.
func (f *faults) due() []func(*APNs) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var now []func(*APNs)
	f.after = slices.DeleteFunc(f.after, func(t trigger) bool { return t.left <= 1 && add(&now, t.act) })
	for i := range f.after {
		f.after[i].left--
	}
	return now
}

func add(to *[]func(*APNs), act func(*APNs)) bool { *to = append(*to, act); return true }

func (f *faults) slow() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.shake
}

func (f *faults) delay() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.latency
}

// Inject queues a fault. Faults are used up in the order they were queued.
func (s *APNs) Inject(f Fault) {
	if f.Count == 0 {
		f.Count = 1
	}
	f.Count = max(f.Count, -1)
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	if len(s.faults.queue) < maxFaults {
		s.faults.queue = append(s.faults.queue, fault{Fault: f})
	}
}

// After does what an action of the control API's POST /faults does, once, when
// n more pushes have been accepted and answered. It reports whether there is
// such an action.
func (s *APNs) After(n int, action string) bool {
	act, ok := actions[action]
	if !ok {
		return false
	}
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	if len(s.faults.after) < maxFaults {
		s.faults.after = append(s.faults.after, trigger{left: n, act: act})
	}
	return true
}

// ClearFaults forgets all that is to go wrong, the latencies too.
func (s *APNs) ClearFaults() {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	s.faults.queue, s.faults.after = nil, nil
	s.faults.latency, s.faults.shake = 0, 0
}

// SetLatency delays each answer from now on.
func (s *APNs) SetLatency(d time.Duration) {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	s.faults.latency = d
}

// SetHandshakeDelay delays each TLS handshake from now on.
func (s *APNs) SetHandshakeDelay(d time.Duration) {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	s.faults.shake = d
}

// BlackHole makes the connections that are open now fall silent, as when a NAT
// forgot them: they stay open and nothing comes back. Later ones work.
func (s *APNs) BlackHole() {
	for _, c := range s.open() {
		c.frozen.Store(true)
	}
}

// GoAway tells the connections that are open now to end (RFC 9113 §6.8), with
// the reason as Apple gives it.
func (s *APNs) GoAway(reason string) {
	for _, c := range s.open() {
		c.goAway(reason)
	}
}

// Disconnect closes the connections that are open now without a word.
func (s *APNs) Disconnect() {
	for _, c := range s.open() {
		_ = c.tls.NetConn().Close()
	}
}

// ResetStreams ends the streams that wait for an answer with an error.
func (s *APNs) ResetStreams() {
	for _, c := range s.open() {
		c.reset(http2.ErrCodeInternal)
	}
}

func (s *APNs) open() []*conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		out = append(out, c)
	}
	return out
}
