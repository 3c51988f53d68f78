package pushtest

import (
	"net/http"
	"sync"
	"time"
)

// meter notices messages that are sent again sooner than a provider asks for.
type meter struct {
	least     time.Duration // after 500 and 503
	throttled time.Duration // after 429 without Retry-After

	mu     sync.Mutex
	failed map[string]failure // guarded by mu; by message
}

// failure is the last answer to a message that was no success.
type failure struct {
	at     time.Time
	status int
	wait   time.Duration
	asked  bool // the wait is that of Retry-After
}

// maxFailures bounds the table, and a failure is forgotten after failureLife.
const (
	maxFailures = 100_000
	failureLife = time.Hour
)

// seen tells the meter that a message arrived. early is by how much it came
// too soon after its last failure, 0 when it did not.
func (m *meter) seen(message string, now time.Time) (last failure, early time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	last, ok := m.failed[message]
	if !ok {
		return failure{}, 0
	}
	return last, max(0, last.wait-now.Sub(last.at))
}

// answered tells the meter what a message was answered with.
func (m *meter) answered(message string, now time.Time, status int, retryAfter time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f := failure{at: now, status: status}
	switch {
	case retryAfter > 0:
		f.wait, f.asked = retryAfter, true
	case status == http.StatusTooManyRequests:
		f.wait = m.throttled
	case status >= http.StatusInternalServerError:
		f.wait = m.least
	default: // a success, or a refusal that waiting does not change
		delete(m.failed, message)
		return
	}
	if m.failed == nil {
		m.failed = make(map[string]failure)
	}
	if len(m.failed) >= maxFailures {
		for k, old := range m.failed {
			if now.Sub(old.at) > failureLife {
				delete(m.failed, k)
			}
		}
	}
	if len(m.failed) < maxFailures {
		m.failed[message] = f
	}
}
