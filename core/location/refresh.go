package location

import "time"

// Refresh moves the end of a registration that its client repeated on the
// same flow and that needed no new word of the PBX. It does nothing for a
// binding that is not there.
func (l *Location) Refresh(id DeviceID, regID int, until time.Time) {
	now := time.Now()
	l.mu.Lock()
	d := l.devices[id]
	if d == nil {
		l.mu.Unlock()
		return
	}
	for _, b := range d.bindings {
		if b.RegID == regID {
			b.Expires = until
		}
	}
	l.settle(d, now)
	l.mu.Unlock()
	l.persistLogged(id)
}
