package sipproxy

import (
	"sync"
	"time"

	"sallyport/core/location"
	"sallyport/core/wake"
)

// maxTold bounds the pushes on the Message channel that calls cause at a device
// in a minute, as B28 does for VoIP pushes: whoever calls and hangs up two
// hundred times leaves ten missed calls.
const maxTold = 10

// tell leaves word of a call on a device's Message channel.
func (p *Proxy) tell(dev location.Device, n wake.Note, obs wake.Observer) {
	if !p.told.take(dev.ID, time.Now()) {
		p.log.Info("note not sent: too many to this device", "device", dev.ID, "call_id", n.CallID)
		return
	}
	p.waker.Note(wakeDevice(dev), n, obs)
}

// A tally counts by device, minute by minute; it forgets all at each new one.
type tally struct {
	mu    sync.Mutex
	since time.Time                 // guarded by mu
	count map[location.DeviceID]int // guarded by mu
}

// take counts one more, if there is room in this minute.
func (t *tally) take(id location.DeviceID, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.count == nil || now.Sub(t.since) >= time.Minute {
		t.since, t.count = now, make(map[location.DeviceID]int)
	}
	t.count[id]++
	return t.count[id] <= maxTold
}
