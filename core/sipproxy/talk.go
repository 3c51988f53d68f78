package sipproxy

import (
	"sync"
	"time"

	"sallyport/core/location"
)

// Bounds of what is remembered of calls.
const (
	maxTalks = 100_000
	// talkTime is how long a call is believed to go on without a word of it.
	talkTime = 12 * time.Hour
)

// talks knows which devices are in a call, so that no flow is ended under one:
// a proxy keeps no dialogs, and this is the one thing it has to know of them. A
// call begins with the 2xx to its INVITE and ends with a BYE. What is forgotten,
// by a restart for one, costs its client a new connection, and not the call.
type talks struct {
	mu      sync.Mutex
	byCall  map[string]*conversation  // by Call-ID; guarded by mu
	devices map[location.DeviceID]int // calls of each; guarded by mu
}

type conversation struct {
	devices []location.DeviceID
	heard   time.Time
}

// begin notes that a device is in a call; the zero DeviceID is nobody.
func (t *talks) begin(callID string, id location.DeviceID) {
	if id == (location.DeviceID{}) {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.byCall == nil {
		t.byCall, t.devices = make(map[string]*conversation), make(map[location.DeviceID]int)
	}
	one := t.byCall[callID]
	if one == nil {
		if len(t.byCall) >= maxTalks {
			t.forgetOld()
		}
		if len(t.byCall) >= maxTalks {
			return
		}
		one = &conversation{}
		t.byCall[callID] = one
	}
	one.heard = time.Now()
	for _, known := range one.devices {
		if known == id {
			return
		}
	}
	one.devices = append(one.devices, id)
	t.devices[id]++
}

// end notes that a call is over.
func (t *talks) end(callID string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.drop(callID)
}

// drop is end under mu.
func (t *talks) drop(callID string) {
	one := t.byCall[callID]
	if one == nil {
		return
	}
	delete(t.byCall, callID)
	for _, id := range one.devices {
		if t.devices[id]--; t.devices[id] == 0 {
			delete(t.devices, id)
		}
	}
}

// heard notes that there is a word of a call.
func (t *talks) heard(callID string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if one := t.byCall[callID]; one != nil {
		one.heard = time.Now()
	}
}

// busy says whether a device is in a call.
func (t *talks) busy(id location.DeviceID) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.devices[id] == 0 {
		return false
	}
	t.forgetOld()
	return t.devices[id] > 0
}

// forgetOld drops the calls that nothing was heard of for too long. Under mu.
func (t *talks) forgetOld() {
	limit := time.Now().Add(-talkTime)
	for callID, one := range t.byCall {
		if one.heard.Before(limit) {
			t.drop(callID)
		}
	}
}
