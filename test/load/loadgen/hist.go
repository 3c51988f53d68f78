package loadgen

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// A Hist counts durations in buckets of at most 1.6 % width. It needs no lock
// and no constructor.
type Hist struct {
	buckets [64 * 64]atomic.Uint32
	n       atomic.Int64
}

// bucket is the place of v nanoseconds: 64 of them to each power of two.
func bucket(v int64) int {
	if v < 64 {
		return int(max(v, 0))
	}
	e := 63 - bits.LeadingZeros64(uint64(v)) // 6 and up
	return min((e-5)*64+int(uint64(v)>>(uint(e)-6))&63, 64*64-1)
}

// middle is the duration that a bucket stands for.
func middle(i int) time.Duration {
	if i < 64 {
		return time.Duration(i)
	}
	e := uint(i/64 + 5)
	return time.Duration((uint64(i%64)|64)<<(e-6) + uint64(1)<<(e-6)/2)
}

// Add counts d.
func (h *Hist) Add(d time.Duration) {
	h.buckets[bucket(int64(d))].Add(1)
	h.n.Add(1)
}

// Len is how many durations were counted.
func (h *Hist) Len() int { return int(h.n.Load()) }

// Quantile is the duration below which q (0 to 1) of all lie; 0 without any.
func (h *Hist) Quantile(q float64) time.Duration {
	n := h.n.Load()
	rank := min(int64(q*float64(n)), n-1)
	for i := range h.buckets {
		if rank -= int64(h.buckets[i].Load()); rank < 0 && n > 0 {
			return middle(i)
		}
	}
	return 0
}

// Reset forgets everything.
func (h *Hist) Reset() {
	for i := range h.buckets {
		h.buckets[i].Store(0)
	}
	h.n.Store(0)
}
