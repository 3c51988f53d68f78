package fcm

import (
	"context"
	"sync"
	"time"
)

// A stamp is when something was last answered.
type stamp struct {
	mu sync.Mutex
	at time.Time // guarded by mu
}

func (s *stamp) note() { s.mu.Lock(); s.at = time.Now(); s.mu.Unlock() }

func (s *stamp) get() time.Time { s.mu.Lock(); defer s.mu.Unlock(); return s.at }

// whileMoving returns a context that ends for cause once there was no answer
// for the time limit, counted from start, and after the time most in any case;
// 0 is no such bound.
func whileMoving(ctx context.Context, start time.Time, limit, most time.Duration, cause error, answered *stamp) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	var mu sync.Mutex // the timer may fire before it is known here
	var t *time.Timer
	mu.Lock()
	defer mu.Unlock()
	t = time.AfterFunc(limit-time.Since(start), func() {
		mu.Lock()
		defer mu.Unlock()
		since := answered.get()
		if since.Before(start) {
			since = start
		}
		left := limit - time.Since(since)
		if most > 0 {
			left = min(left, most-time.Since(start))
		}
		if left > 0 {
			t.Reset(left)
			return
		}
		cancel(cause)
	})
	return ctx, func() { t.Stop(); cancel(nil) }
}

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
