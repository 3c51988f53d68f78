package fcm

import (
	"sync"
	"time"
)

// pacer allows one thing at a time, and each not before a while after the last.
type pacer struct {
	mu   sync.Mutex
	next time.Time // guarded by mu
}

// allow reports whether the thing may be done now, and if so not again before
// every.
func (p *pacer) allow(now time.Time, every time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now.Before(p.next) {
		return false
	}
	p.next = now.Add(every)
	return true
}
