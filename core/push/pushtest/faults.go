package pushtest

import (
	"sync"
	"time"

	"golang.org/x/net/http2"
)

// Fault is what goes wrong with the next pushes. The zero value of each field
// leaves that part alone.
type Fault struct {
	Count  int    `json:"count"`  // for how many pushes; 0 is 1
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
	queue   []Fault       // guarded by mu
	latency time.Duration // guarded by mu
}

// maxFaults bounds the queue; the control API is reachable by others.
const maxFaults = 1000

// take returns the fault for the next push to token.
func (f *faults) take(token string) (Fault, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.queue {
		if q := &f.queue[i]; q.Token == "" || q.Token == token {
			out := *q
			if q.Count--; q.Count <= 0 {
				f.queue = append(f.queue[:i], f.queue[i+1:]...)
			}
			return out, true
		}
	}
	return Fault{}, false
}

func (f *faults) delay() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.latency
}

// Inject queues a fault. Faults are used up in the order they were queued.
func (s *APNs) Inject(f Fault) {
	if f.Count <= 0 {
		f.Count = 1
	}
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	if len(s.faults.queue) < maxFaults {
		s.faults.queue = append(s.faults.queue, f)
	}
}

// ClearFaults forgets the queued faults and the latency.
func (s *APNs) ClearFaults() {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	s.faults.queue, s.faults.latency = nil, 0
}

// SetLatency delays each answer from now on.
func (s *APNs) SetLatency(d time.Duration) {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	s.faults.latency = d
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
