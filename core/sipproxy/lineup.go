package sipproxy

import (
	"context"
	"sync"
	"time"

	"sallyport/core/location"
)

// aheadPatience bounds how long a request that could leave lets one that came
// before it leave first. Both are freed by the same registration, so the wait
// is a matter of scheduling; more than that means that the other waits for
// something else.
const aheadPatience = 50 * time.Millisecond

// A lineup keeps the requests that wait for a device in the order in which
// they came: all are freed at once when it registers, each on a goroutine of
// its own.
type lineup struct {
	mu   sync.Mutex
	last map[location.DeviceID]*place // newest in line; guarded by mu
}

// A place is one request in line.
type place struct {
	gone  chan struct{} // closed when the request was sent, or will not be
	ahead *place        // guarded by lineup.mu; nil once it has gone
}

// enter takes the place behind all who are in line.
func (q *lineup) enter(id location.DeviceID) *place {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.last == nil {
		q.last = make(map[location.DeviceID]*place)
	}
	pl := &place{gone: make(chan struct{}), ahead: q.last[id]}
	q.last[id] = pl
	return pl
}

// first says whether nobody is ahead.
func (q *lineup) first(pl *place) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return pl.front() == nil
}

// wait lets those ahead go first, within aheadPatience.
func (q *lineup) wait(ctx context.Context, pl *place) {
	if pl == nil {
		return
	}
	var limit <-chan time.Time
	for {
		q.mu.Lock()
		ahead := pl.front()
		q.mu.Unlock()
		if ahead == nil {
			return
		}
		if limit == nil {
			t := time.NewTimer(aheadPatience)
			defer t.Stop()
			limit = t.C
		}
		select {
		case <-ahead.gone:
		case <-limit:
			return
		case <-ctx.Done():
			return
		}
	}
}

// front is the nearest place ahead that has not gone. Under lineup.mu.
func (pl *place) front() *place {
	for pl.ahead != nil && pl.ahead.left() {
		pl.ahead = pl.ahead.ahead
	}
	return pl.ahead
}

func (pl *place) left() bool {
	select {
	case <-pl.gone:
		return true
	default:
		return false
	}
}

// leave gives the place up. A nil place, or one given up before, is no error.
func (q *lineup) leave(id location.DeviceID, pl *place) {
	if pl == nil {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if pl.left() {
		return
	}
	close(pl.gone)
	if q.last[id] != pl {
		return
	}
	if ahead := pl.front(); ahead != nil {
		q.last[id] = ahead
	} else {
		delete(q.last, id)
	}
}
