package xmppproxy

import (
	"context"
	"sync"
	"time"

	"sallyport/core/inorder"
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
	when map[due]*entry       // guarded by mu
	heap inorder.Heap[*entry] // guarded by mu
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
		e = &entry{who: d, at: t, pos: inorder.Nowhere}
		a.when[d] = e
		a.heap.Put(e)
	case t.Before(e.at):
		e.at = t
		a.heap.Put(e)
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
		a.heap.Remove(e)
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
	a.heap.Take()
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

// Before implements [inorder.Item].
func (e *entry) Before(o *entry) bool { return e.at.Before(o.at) }

// Slot implements [inorder.Item].
func (e *entry) Slot() *int { return &e.pos }
