package apns

import (
	"sync"
	"time"
)

const (
	minOpen = 5 * time.Second
	maxOpen = 5 * time.Minute
)

// breaker stops pushes whose answer is known: Apple refused our credentials.
// It lets one push through after 5 s, and after twice as long each time that
// one is refused too, up to 5 min. An accepted push or another key shuts it.
type breaker struct {
	mu     sync.Mutex
	open   bool          // guarded by mu
	probe  bool          // guarded by mu; one push was let through
	until  time.Time     // guarded by mu; when the next one is let through
	step   time.Duration // guarded by mu
	reason string        // guarded by mu
}

// refuse returns the reason for which nothing is sent now, or "".
func (b *breaker) refuse(now time.Time) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.open {
		return ""
	}
	if now.Before(b.until) {
		return b.reason
	}
	b.probe = true
	b.until = now.Add(b.step) // the others wait for what the probe finds
	return ""
}

// trip opens the breaker for reason.
func (b *breaker) trip(reason string, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case !b.open:
		b.step = minOpen
	case b.probe:
		b.step = min(2*b.step, maxOpen)
	default:
		return // one of the pushes that were under way when it opened
	}
	b.open, b.probe = true, false
	b.until, b.reason = now.Add(b.step), reason
}

// reset shuts the breaker.
func (b *breaker) reset() {
	b.mu.Lock()
	b.open, b.probe, b.until, b.step, b.reason = false, false, time.Time{}, 0, ""
	b.mu.Unlock()
}
