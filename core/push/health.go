package push

import "sync"

// Health holds the trouble of a sender that is not one token's alone, for as
// long as it lasts. The zero value is well. It is safe for concurrent use.
type Health struct {
	mu   sync.Mutex
	last *Trouble // guarded by mu; nil when well; what it points to does not change
}

// Get returns the trouble, nil when all is well. It is not changed by anybody.
func (h *Health) Get() *Trouble {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.last
}

// Set notes what is wrong, nil that all is well, and reports whether that is
// news.
func (h *Health) Set(t *Trouble) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	news := (h.last == nil) != (t == nil) || t != nil && *h.last != *t
	h.last = t
	return news
}

// Health is t for the status page: whether pushes can be expected to be
// accepted, and if not why, with the remedy. A nil Trouble is well.
func (t *Trouble) Health() (ok bool, lastError string) {
	switch {
	case t == nil:
		return true, ""
	case t.Remedy == "":
		return false, t.Text
	default:
		return false, t.Text + ": " + t.Remedy
	}
}
