package fcm

import (
	"context"
	"errors"
	"sync"
	"time"

	"sallyport/core/inorder"
)

const (
	// mostStreams is how many pushes are in flight on a connection. Google allows
	// a hundred.
	mostStreams = 100
	// maxWaiting bounds those that wait at one gate: at a hundred in flight and 50
	// ms a push it is what a connection takes in the time for which a call may
	// wait. Whoever stood behind more would come too late.
	maxWaiting = 16384
)

var (
	errRetired = errors.New("connection retired")
	errCrowded = errors.New("too many pushes wait for the connection")
	// errLate: the turn of a push did not come while it was worth sending.
	errLate = errors.New("too many pushes were ahead for it to leave in time")
	// errStuck: nobody moved who was ahead.
	errStuck = errors.New("no answer from FCM to the pushes ahead")
)

// gate lets pushes on a connection: one until the connection has answered, since
// net/http would open one for each of a crowd, and then as many as FCM takes. It
// starts at a hundred. Where FCM takes fewer, or goes away, the transport asks
// for another connection and is refused; then all that is under way ends first,
// and one goes to see. The bound found so rises again slowly.
//
// Waiters are let in in the order of their deadlines, and among equals in that
// of their arrival.
type gate struct {
	mu       sync.Mutex
	answered bool   // guarded by mu
	draining bool   // guarded by mu
	retired  bool   // guarded by mu
	limit    int    // guarded by mu; 0 is mostStreams
	grown    int    // guarded by mu; answers since limit changed
	inflight int    // guarded by mu
	waiting  queue  // guarded by mu
	came     uint64 // guarded by mu; counts arrivals
}

// most is how many may be inside. Guarded by mu.
func (g *gate) most() int {
	if !g.answered || g.draining {
		return 1
	}
	if g.limit == 0 {
		return mostStreams
	}
	return g.limit
}

// enter waits for a place, as somebody who is of no use after until, and no
// longer than ctx lives. Every nil is followed by one leave.
func (g *gate) enter(ctx context.Context, until time.Time) error {
	g.mu.Lock()
	switch {
	case g.retired:
		g.mu.Unlock()
		return errRetired
	case len(g.waiting) == 0 && g.inflight < g.most():
		g.inflight++
		g.mu.Unlock()
		return nil
	case len(g.waiting) >= maxWaiting && !until.Before(g.waiting[0].until):
		g.mu.Unlock()
		return errCrowded
	}
	g.came++
	p := &place{until: until, came: g.came, told: make(chan error, 1), index: inorder.Nowhere}
	g.waiting.Put(p)
	g.mu.Unlock()

	select {
	case err := <-p.told:
		return err
	case <-ctx.Done():
		g.mu.Lock()
		waited := g.waiting.Remove(p)
		g.mu.Unlock()
		if waited {
			return context.Cause(ctx)
		}
		return <-p.told
	}
}

// full notes that the connection took no more, and reports whether the caller,
// who is inside, is alone there: then it takes nothing any more.
func (g *gate) full() (alone bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.limit, g.grown, g.draining = max(1, g.inflight-1), 0, true
	return g.inflight == 1
}

// leave gives the place back; answered says whether FCM spoke. It reports
// whether a retired gate is empty now.
func (g *gate) leave(answered bool) (empty bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inflight--
	if answered {
		g.answered = true
		if g.grown++; g.limit > 0 && g.limit < mostStreams && g.grown >= 16*g.limit {
			g.limit, g.grown = g.limit+1, 0
		}
	}
	if g.inflight == 0 {
		g.draining = false
	}
	for len(g.waiting) > 0 && g.inflight < g.most() {
		g.waiting.Take().told <- nil
		g.inflight++
	}
	return g.retired && g.inflight == 0
}

// retire turns away all that wait and come. It reports whether nobody is
// inside.
func (g *gate) retire() (empty bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.retired {
		return false
	}
	g.retired = true
	for len(g.waiting) > 0 {
		g.waiting.Take().told <- errRetired
	}
	return g.inflight == 0
}

// queue is who waits at a gate, a heap by deadline. Its gate locks.
type queue = inorder.Heap[*place]

// place is one push's place in the queue.
type place struct {
	until time.Time
	came  uint64
	told  chan error // once: nil is let in
	index int        // in the queue; below 0 when it has left
}

// Before implements [inorder.Item].
func (p *place) Before(o *place) bool {
	if c := p.until.Compare(o.until); c != 0 {
		return c < 0
	}
	return p.came < o.came
}

// Slot implements [inorder.Item].
func (p *place) Slot() *int { return &p.index }
