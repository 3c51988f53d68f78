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

// OnFlow returns the binding of a device's reg-id, if it is on that live flow.
func (l *Location) OnFlow(flow string, id DeviceID, regID int) (Binding, bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	for _, b := range l.flows[flow] {
		if b.live && b.RegID == regID && b.dev.id == id {
			return b.snapshot(), true
		}
	}
	return Binding{}, false
}

// Alone says whether the AOR of a device has no binding but that of the reg-id.
func (l *Location) Alone(id DeviceID, regID int) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	for _, d := range l.aors[id.AOR] {
		for _, b := range d.bindings {
			if d.id != id || b.RegID != regID {
				return false
			}
		}
	}
	return true
}
