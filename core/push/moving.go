package push

import (
	"context"
	"sync"
	"time"
)

// A Stamp is when something was last answered; the zero time when nothing was. It
// is safe for concurrent use.
type Stamp struct {
	mu sync.Mutex
	at time.Time // guarded by mu
}

// Note is called with each answer.
func (s *Stamp) Note() { s.mu.Lock(); s.at = time.Now(); s.mu.Unlock() }

// Get returns the time of the last answer.
func (s *Stamp) Get() time.Time { s.mu.Lock(); defer s.mu.Unlock(); return s.at }

// WhileMoving returns a context that ends for cause once there was no answer
// for the time limit, counted from start, and after the time most in any case;
// 0 is no such bound. The function that comes with it must be called.
func WhileMoving(ctx context.Context, start time.Time, limit, most time.Duration, cause error, answered *Stamp) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	var mu sync.Mutex // the timer may fire before it is known here
	var t *time.Timer
	mu.Lock()
	defer mu.Unlock()
	t = time.AfterFunc(limit-time.Since(start), func() {
		mu.Lock()
		defer mu.Unlock()
		since := answered.Get()
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
