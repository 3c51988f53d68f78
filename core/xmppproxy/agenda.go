package xmppproxy

import (
	"container/heap"
	"context"
	"sync"
	"time"
)

// due is what has something to do at a time. It is called without locks, and
// returns when to be called again, zero for not at all.
type due interface {
	tick(now time.Time) time.Time
}

// agenda calls each that has something to do when it is time, all from one
// goroutine with one timer. A time that moves back is let be: the call comes
// early then, and says when to come again.
type agenda struct {
	wake chan struct{}

	mu   sync.Mutex
	when map[due]*entry // guarded by mu
	heap entries        // guarded by mu
}

type entry struct {
	who due
	at  time.Time
	pos int
}

func newAgenda() *agenda {
	return &agenda{wake: make(chan struct{}, 1), when: make(map[due]*entry)}
}

// at has d called at t, or earlier.
func (a *agenda) at(d due, t time.Time) {
	if t.IsZero() {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	e := a.when[d]
	switch {
	case e == nil:
		e = &entry{who: d, at: t}
		a.when[d] = e
		heap.Push(&a.heap, e)
	case t.Before(e.at):
		e.at = t
		heap.Fix(&a.heap, e.pos)
	default:
		return
	}
	if e.pos == 0 {
		select {
		case a.wake <- struct{}{}:
		default:
		}
	}
}

// forget takes d off.
func (a *agenda) forget(d due) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if e := a.when[d]; e != nil {
		heap.Remove(&a.heap, e.pos)
		delete(a.when, d)
	}
}

// next takes the first off whose time has come; else it says how long that is
// away.
func (a *agenda) next(now time.Time) (due, time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.heap) == 0 {
		return nil, time.Hour
	}
	e := a.heap[0]
	if wait := e.at.Sub(now); wait > 0 {
		return nil, wait
	}
	heap.Pop(&a.heap)
	delete(a.when, e.who)
	return e.who, 0
}

func (a *agenda) run(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for ctx.Err() == nil {
		d, wait := a.next(time.Now())
		if d != nil {
			a.at(d, d.tick(time.Now()))
			continue
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-a.wake:
		}
	}
}

// entries is a heap, the earliest first.
type entries []*entry

func (h entries) Len() int           { return len(h) }
func (h entries) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h entries) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].pos, h[j].pos = i, j
}

func (h *entries) Push(x any) {
	e := x.(*entry)
	e.pos = len(*h)
	*h = append(*h, e)
}

func (h *entries) Pop() any {
	old := *h
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return e
}
