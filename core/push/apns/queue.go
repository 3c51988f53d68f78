package apns

import (
	"container/heap"
	"time"
)

// queue is who waits at a gate, the earliest deadline first, and among equals
// whoever came first. Its gate locks.
type queue []*place

// place is one push's place in the queue.
type place struct {
	until time.Time
	came  time.Time
	told  chan bool // once: let in, or turned away
	index int       // in the queue; nowhere when it has left
}

const nowhere = -1

func (q *queue) add(until time.Time) *place {
	p := &place{until: until, came: time.Now(), told: make(chan bool, 1)}
	heap.Push(q, p)
	return p
}

// first takes out whose turn it is. The queue must not be empty.
func (q *queue) first() *place { return heap.Pop(q).(*place) }

// remove takes p out and reports whether it was still there.
func (q *queue) remove(p *place) bool {
	if p.index == nowhere {
		return false
	}
	heap.Remove(q, p.index)
	return true
}

func (q queue) Len() int { return len(q) }

func (q queue) Less(i, j int) bool {
	if c := q[i].until.Compare(q[j].until); c != 0 {
		return c < 0
	}
	return q[i].came.Before(q[j].came)
}

func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}

// Push implements heap.Interface.
func (q *queue) Push(x any) {
	p := x.(*place)
	p.index = len(*q)
	*q = append(*q, p)
}

// Pop implements heap.Interface.
func (q *queue) Pop() any {
	old := *q
	p := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	p.index = nowhere
	return p
}
