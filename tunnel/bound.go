package tunnel

import "time"

// A bucket lets a burst pass and then rate events a second. It is not safe
// for concurrent use.
type bucket struct {
	rate, burst, tokens float64
	at                  time.Time
}

// newBucket returns a full bucket. Its burst is as large as all flows of an
// edge, which all come at once when a core has restarted.
func newBucket(rate, burst int) bucket {
	return bucket{rate: float64(rate), burst: float64(burst), tokens: float64(burst), at: time.Now()}
}

func (b *bucket) take(now time.Time) bool {
	b.tokens = min(b.burst, b.tokens+b.rate*now.Sub(b.at).Seconds())
	b.at = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// names keeps one copy of each string that many flows repeat: hosts, paths,
// origins. It is not safe for concurrent use.
type names map[string]string

const (
	maxNames   = 1024
	maxNameLen = 256
)

// share returns b as a string. What a hostile client makes up pushes the
// others out and costs them nothing but a copy.
func (n names) share(b []byte) string {
	if s, ok := n[string(b)]; ok {
		return s
	}
	return n.same(string(b))
}

// same returns the copy of s that was met first.
func (n names) same(s string) string {
	if len(s) > maxNameLen || s == "" {
		return s
	}
	if first, ok := n[s]; ok {
		return first
	}
	if len(n) >= maxNames {
		clear(n)
	}
	n[s] = s
	return s
}
