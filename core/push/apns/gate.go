package apns

import (
	"context"
	"errors"
	"sync"
	"time"
)

const (
	// warmLimit is how many pushes are in flight on a warm connection. Apple
	// allows 100 to 1500; above what it allows net/http opens a connection more.
	warmLimit = 90
	// maxWaiting bounds those that wait at one gate. It is what a connection
	// takes, at 50 ms a push, in the time for which a call of 13 s may wait:
	// whoever stood behind more would come too late, and is told so now.
	maxWaiting = 16384
)

var (
	errRetired = errors.New("connection retired")
	errCrowded = errors.New("too many pushes wait for the connection")
	// errLate: the turn of a push did not come while it was worth sending.
	errLate = errors.New("too many pushes were ahead for it to leave in time")
	// errStuck: nobody moved who was ahead.
	errStuck = errors.New("no answer from APNs to the pushes ahead")
	// errForbidden: APNs refused our credentials to one of those ahead.
	errForbidden = errors.New("not sent after the answer to an earlier push")
)

// gate follows Apple's rule for streams: one at a time until the connection
// has seen a valid token accepted, many after that, and one again after an
// error of ours. Without it net/http assumes a hundred, is refused, and opens
// connection after connection. The transport's own strict mode is no help: it
// waits for ever when the allowed number changes (golang/go#70809).
//
// When APNs takes no more for now, be it that it goes away or that it lowered
// the number, the gate drains: all that is under way ends first, and then one
// goes to see.
//
// Waiters are let in in the order of their deadlines, which is that of their
// arrival but for those who have been at another gate already.
type gate struct {
	mu       sync.Mutex
	warm     bool
	draining bool
	retired  bool
	inflight int
	waiting  queue
}

func (g *gate) limit() int {
	if g.warm && !g.draining {
		return warmLimit
	}
	return 1
}

// try enters if that needs no waiting, and otherwise says why not; nil and
// false is to wait. Every true is followed by one leave.
func (g *gate) try() (in bool, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.retired:
		return false, errRetired
	case len(g.waiting) == 0 && g.inflight < g.limit():
		g.inflight++
		return true, nil
	}
	return false, nil
}

// enter waits for a place, as somebody who is of no use after until, and no
// longer than ctx lives. Every nil is followed by one leave.
func (g *gate) enter(ctx context.Context, until time.Time) error {
	if in, err := g.try(); in || err != nil {
		return err
	}
	g.mu.Lock()
	if g.retired {
		g.mu.Unlock()
		return errRetired
	}
	if len(g.waiting) >= maxWaiting && !until.Before(g.waiting[0].until) {
		g.mu.Unlock()
		return errCrowded
	}
	p := newPlace(until)
	g.waiting.Put(p)
	g.admit() // somebody may have left since
	g.mu.Unlock()

	select {
	case in := <-p.told:
		return admitted(in)
	case <-ctx.Done():
		g.mu.Lock()
		waited := g.waiting.Remove(p)
		g.mu.Unlock()
		if waited {
			return context.Cause(ctx)
		}
		return admitted(<-p.told)
	}
}

func admitted(in bool) error {
	if !in {
		return errRetired
	}
	return nil
}

// drain lets nobody in until all are out. It reports whether the caller, who
// is inside, is alone there.
func (g *gate) drain() (alone bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.warm, g.draining = false, true
	return g.inflight == 1
}

// leave gives the place back with the status of the answer, 0 if there was
// none. It reports whether a retired gate is empty now.
func (g *gate) leave(status int) (empty bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inflight--
	switch {
	case status == 200:
		g.warm = !g.draining
	case status/100 == 4 && status != 410:
		g.warm = false
	}
	if g.inflight == 0 {
		g.draining = false
	}
	g.admit()
	return g.retired && g.inflight == 0
}

// admit lets in as many as may. Guarded by mu.
func (g *gate) admit() {
	for len(g.waiting) > 0 && g.inflight < g.limit() {
		g.waiting.Take().told <- true
		g.inflight++
	}
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
		g.waiting.Take().told <- false
	}
	return g.inflight == 0
}
