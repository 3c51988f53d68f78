package location

import "time"

// Refresh moves the end of a registration that its client repeated on the
// same flow and that needed no new word of the PBX. It does nothing for a
// binding that is not there. The store hears of it from Run within a second: a
// refresh that is lost with the process costs its client one more REGISTER.
func (l *Location) Refresh(id DeviceID, regID int, until time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	d := l.devices[id]
	if d == nil {
		return
	}
	for _, b := range d.bindings {
		if b.RegID == regID {
			b.Expires = until
		}
	}
	l.settle(d, time.Now())
	l.markDirty(id)
}
