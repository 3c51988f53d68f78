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

	// RetryAfter is the header of that name, in seconds; 0 sends none. FCM and
	// WebPush.
	RetryAfter int `json:"retry_after"`
	// Delivered gives the push to the device, whatever the answer says. FCM and
	// WebPush.
	Delivered bool `json:"delivered"`
	// Location redirects there, with Status, 0 being 307. WebPush.
	Location string `json:"location"`
	// OAuth is about requests for an access token, not about pushes. FCM.
	OAuth bool `json:"oauth"`
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
	act  func()
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
func (f *faults) due() (now []func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	wait := f.after[:0]
	for _, t := range f.after {
		if t.left--; t.left <= 0 {
			now = append(now, t.act)
			continue
		}
		wait = append(wait, t)
	}
	f.after = wait
	return now
}

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

// add queues a fault, where there is room.
func (f *faults) add(one Fault) {
	if one.Count == 0 {
		one.Count = 1
	}
	one.Count = max(one.Count, -1)
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.queue) < maxFaults {
		f.queue = append(f.queue, fault{Fault: one})
	}
}

// later keeps an action until n more pushes have been accepted.
func (f *faults) later(n int, act func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.after) < maxFaults {
		f.after = append(f.after, trigger{left: n, act: act})
	}
}

func (f *faults) clear() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.queue, f.after, f.latency, f.shake = nil, nil, 0, 0
}

func (f *faults) setDelay(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.latency = d
}

func (f *faults) setShake(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.shake = d
}

// Inject queues a fault. Faults are used up in the order they were queued.
func (s *APNs) Inject(f Fault) { s.faults.add(f) }

// After does what an action of the control API's POST /faults does, once, when
// n more pushes have been accepted and answered. It reports whether there is
// such an action.
func (s *APNs) After(n int, action string) bool {
	act, ok := s.actions()[action]
	if ok {
		s.faults.later(n, act)
	}
	return ok
}

// ClearFaults forgets all that is to go wrong, the latencies too.
func (s *APNs) ClearFaults() { s.faults.clear() }

// SetLatency delays each answer from now on.
func (s *APNs) SetLatency(d time.Duration) { s.faults.setDelay(d) }

// SetHandshakeDelay delays each TLS handshake from now on.
func (s *APNs) SetHandshakeDelay(d time.Duration) { s.faults.setShake(d) }

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
