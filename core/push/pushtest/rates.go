package pushtest

import (
	"sync"
	"time"
)

// maxRated bounds the addresses and tokens that are counted at a time.
const maxRated = 100_000

// rates counts what may come only so often.
type rates struct {
	mu     sync.Mutex
	conns  map[string]stretch // guarded by mu; by address, a minute
	pushes map[string]stretch // guarded by mu; by device token, a second
}

// stretch is a stretch of time with what came in it.
type stretch struct {
	from time.Time
	n    int
}

// count adds one to the stretch of key and returns how many there are now.
func count(m *map[string]stretch, key string, length time.Duration, now time.Time) int {
	if *m == nil || len(*m) >= maxRated {
		*m = make(map[string]stretch)
	}
	w := (*m)[key]
	if w.n == 0 || now.Sub(w.from) >= length {
		w = stretch{from: now}
	}
	w.n++
	(*m)[key] = w
	return w.n
}

// connection reports that host has just opened one more than most in a minute.
// It does so once a minute.
func (r *rates) connection(host string, most int, now time.Time) bool {
	if most <= 0 {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return count(&r.conns, host, time.Minute, now) == most+1
}

// push reports whether the device token may take another push in this second;
// most 0 is no bound.
func (r *rates) push(token string, most int, now time.Time) bool {
	if most <= 0 {
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return count(&r.pushes, token, time.Second, now) <= most
}
