package push

import (
	"fmt"
	"sync"
	"time"
)

// How long a [Breaker] stays open before it lets a push try.
const (
	minOpen = 5 * time.Second
	maxOpen = 5 * time.Minute
)

// Breaker stops pushes whose answer is known: the provider refused our
// credentials, or does not know our project. It lets one push through after 5 s,
// and after twice as long each time that one is refused too, up to 5 min. An
// accepted push or other credentials shut it. The zero value is shut. It is safe
// for concurrent use.
type Breaker struct {
	mu     sync.Mutex
	open   bool          // guarded by mu
	probe  bool          // guarded by mu; one push was let through
	until  time.Time     // guarded by mu; when the next one is let through
	step   time.Duration // guarded by mu
	reason string        // guarded by mu
}

// Refuse returns the reason for which nothing is sent now, or "". Where it
// returns "" from an open breaker, the push is the one that tries.
func (b *Breaker) Refuse(now time.Time) string {
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

// Open returns the reason for which the breaker is open, or "" where it is shut
// or a push tries. Unlike [Breaker.Refuse] it lets no push try: it is for those
// who were let through and have waited since.
func (b *Breaker) Open() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.open || b.probe {
		return ""
	}
	return b.reason
}

// State returns why nothing is sent and how long it is until the next push
// tries; "" and 0 where the breaker is shut.
func (b *Breaker) State(now time.Time) (reason string, left time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.open {
		return "", 0
	}
	return b.reason, max(0, b.until.Sub(now))
}

// String tells the state to people.
func (b *Breaker) String() string {
	reason, left := b.State(time.Now())
	if reason == "" {
		return "shut"
	}
	return fmt.Sprintf("open: %s, next try in %v", reason, left.Round(time.Second))
}

// Trip opens the breaker for reason.
func (b *Breaker) Trip(reason string, now time.Time) {
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

// Reset shuts the breaker.
func (b *Breaker) Reset() {
	b.mu.Lock()
	b.open, b.probe, b.until, b.step, b.reason = false, false, time.Time{}, 0, ""
	b.mu.Unlock()
}
