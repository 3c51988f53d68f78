package sipproxy

import (
	"sync"
	"time"

	"sallyport/core/location"
)

// nudges says how often a device that came and did not take its messages is told
// of them again: at once, and then half as often each time. The zero value is
// ready.
type nudges struct {
	mu sync.Mutex
	of map[location.DeviceID]nudge // guarded by mu
}

type nudge struct {
	next time.Time // not before
	gap  time.Duration
}

const (
	firstNudge = time.Minute
	lastNudge  = 4 * time.Hour
)

func (n *nudges) may(id location.DeviceID, now time.Time) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	one := n.of[id]
	switch late := now.Sub(one.next); {
	case late < 0:
		return false
	case late > lastNudge: // of other messages
		one.gap = 0
	}
	if n.of == nil {
		n.of = make(map[location.DeviceID]nudge)
	}
	one.gap = min(max(2*one.gap, firstNudge), lastNudge)
	one.next = now.Add(one.gap)
	n.of[id] = one
	return true
}

// end says that the device took a message, or is not there any more.
func (n *nudges) end(id location.DeviceID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.of, id)
}
