package apns

import (
	"time"

	"sallyport/core/inorder"
)

// queue is who waits at a gate, the earliest deadline first, and among equals
// whoever came first. Its gate locks.
type queue = inorder.Heap[*place]

// place is one push's place in the queue.
type place struct {
	until time.Time
	came  time.Time
	told  chan bool // once: let in, or turned away
	index int       // in the queue; inorder.Nowhere when it has left
}

func newPlace(until time.Time) *place {
	return &place{until: until, came: time.Now(), told: make(chan bool, 1), index: inorder.Nowhere}
}

// Before implements [inorder.Item].
func (p *place) Before(o *place) bool {
	if c := p.until.Compare(o.until); c != 0 {
		return c < 0
	}
	return p.came.Before(o.came)
}

// Slot implements [inorder.Item].
func (p *place) Slot() *int { return &p.index }
