package apns

import (
	"context"
	"errors"
	"sync"
)

const (
	// warmLimit is how many pushes are in flight on a warm connection. Apple
	// allows 100 to 1500; above what it allows net/http opens a connection more.
	warmLimit = 90
	// maxWaiting bounds those that wait at one gate.
	maxWaiting = 4096
)

var (
	errRetired = errors.New("connection retired")
	errCrowded = errors.New("too many pushes wait for the connection")
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
// Waiters are let in in the order they came.
type gate struct {
	mu       sync.Mutex
	warm     bool
	draining bool
	retired  bool
	inflight int
	waiting  []chan bool // told once: let in, or turned away
}

func (g *gate) limit() int {
	if g.warm && !g.draining {
		return warmLimit
	}
	return 1
}

// enter waits for a place. Every nil is followed by one leave.
func (g *gate) enter(ctx context.Context) error {
	g.mu.Lock()
	switch {
	case g.retired:
		g.mu.Unlock()
		return errRetired
	case len(g.waiting) == 0 && g.inflight < g.limit():
		g.inflight++
		g.mu.Unlock()
		return nil
	case len(g.waiting) >= maxWaiting:
		g.mu.Unlock()
		return errCrowded
	}
	turn := make(chan bool, 1)
	g.waiting = append(g.waiting, turn)
	g.mu.Unlock()

	select {
	case in := <-turn:
		return admitted(in)
	case <-ctx.Done():
		if g.forget(turn) {
			return ctx.Err()
		}
		return admitted(<-turn)
	}
}

func admitted(in bool) error {
	if !in {
		return errRetired
	}
	return nil
}

// forget takes turn out of the queue and reports whether it was still there.
func (g *gate) forget(turn chan bool) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, w := range g.waiting {
		if w == turn {
			g.waiting = append(g.waiting[:i], g.waiting[i+1:]...)
			return true
		}
	}
	return false
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
		g.waiting[0] <- true
		g.waiting = g.waiting[1:]
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
	for _, w := range g.waiting {
		w <- false
	}
	g.waiting = nil
	return g.inflight == 0
}
