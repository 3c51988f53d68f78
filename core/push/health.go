package push

import "sync"

// Health is a sender's last error that was not one token's alone, with what to
// do about it, for the status page. The zero value is well. It is safe for
// concurrent use.
type Health struct {
	mu   sync.Mutex
	last string // guarded by mu; "" when well
}

// Get reports whether pushes can be expected to be accepted, and if not the
// last error.
func (h *Health) Get() (ok bool, lastError string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.last == "", h.last
}

// Set notes the last error, "" that all is well, and reports whether that is
// news.
func (h *Health) Set(lastError string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	news := h.last != lastError
	h.last = lastError
	return news
}
