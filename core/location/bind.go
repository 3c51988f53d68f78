package location

import (
	"fmt"
	"slices"
	"time"
)

// Bind is Place, and waits until the store has the binding, so that a 2xx sent
// afterwards is true even if this process is killed. On [ErrNotStored] the
// binding holds all the same; on any other error nothing changed.
func (l *Location) Bind(b Binding, tokens []Token, class string) error {
	touched, err := l.Place(b, tokens, class)
	if err != nil {
		return err
	}
	return l.Save(touched...)
}

// Place makes a registration true, after the PBX's 2xx and never before. It
// replaces the binding of the same AOR, instance and reg-id. The tokens replace
// the device's: nil says that the client named none, and the device has none
// any more. A token that another device of the same app holds moves here.
//
// A binding with FlowLost set has lost its flow meanwhile: it is flow-less.
//
// Place does not wait for the store, which hears of it from Run within a
// second, or at once from [Location.Save] of the devices that Place returns.
func (l *Location) Place(b Binding, tokens []Token, class string) (touched []DeviceID, err error) {
	if err := check(b, tokens); err != nil {
		return nil, err
	}
	now := time.Now()
	if b.Registered.IsZero() {
		b.Registered = now
	}
	if b.Core == "" {
		b.Core = l.cfg.Core
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	touched, err = l.bind(b, tokens, class, now)
	l.markDirty(touched...)
	return touched, err
}

// Answered ends what [Binding.Answering] began: the client of a binding on the
// flow has its 2xx, so the flow may be used.
func (l *Location) Answered(id DeviceID, regID int, flow string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	d := l.devices[id]
	if d == nil {
		return
	}
	for _, b := range d.bindings {
		if b.RegID != regID || b.Flow != flow || !b.Answering {
			continue
		}
		b.Answering = false
		if b.live {
			b.FlowLost = time.Time{}
		}
	}
}

// bind does Place's work and returns the devices to store.
func (l *Location) bind(b Binding, tokens []Token, class string, now time.Time) ([]DeviceID, error) {
	touched := []DeviceID{b.ID()}
	d, evicted, err := l.room(b.ID())
	if err != nil {
		return nil, err
	}
	if evicted != nil {
		touched = append(touched, evicted.id)
		l.drop(evicted)
	}
	if d == nil {
		d = l.add(b.ID())
	}
	d.class = l.words.intern(class)
	touched = append(touched, l.setTokens(d, tokens, b.Registered, now)...)
	l.setBinding(d, b)
	d.keep = b.Registered.Add(l.cfg.DeviceKeep)
	l.settle(d, now)
	return touched, nil
}

// room finds the device, or the one that must make room for it.
func (l *Location) room(id DeviceID) (d, evict *device, err error) {
	if d = l.devices[id]; d != nil {
		return d, nil, nil
	}
	others := l.aors[id.AOR]
	if len(others) < l.cfg.MaxDevices {
		return nil, nil, nil
	}
	for _, o := range others {
		if o.live() {
			continue
		}
		if evict == nil || o.keep.Before(evict.keep) {
			evict = o
		}
	}
	if evict == nil {
		return nil, nil, fmt.Errorf("bind %s: %w (%d)", redactAOR(id.AOR), ErrTooMany, len(others))
	}
	return nil, evict, nil
}

func (d *device) live() bool {
	return slices.ContainsFunc(d.bindings, func(b *binding) bool { return b.live })
}

// setBinding replaces the binding of b's reg-id.
func (l *Location) setBinding(d *device, b Binding) {
	for _, o := range d.bindings {
		if o.RegID == b.RegID && o.live && !o.Answering && o.Flow == b.Flow {
			b.Answering = false // the flow is in use already
		}
	}
	l.dropBindings(d, func(o *binding) bool { return o.RegID == b.RegID })
	for len(d.bindings) >= l.cfg.MaxBindings {
		oldest := d.bindings[len(d.bindings)-1]
		l.dropBindings(d, func(o *binding) bool { return o == oldest })
	}
	n := &binding{Binding: l.words.compact(b, d.id), dev: d}
	l.setLive(n, n.Flow != "" && n.FlowLost.IsZero())
	if n.Answering = n.Answering && n.live; n.Answering {
		n.FlowLost = n.Registered // until it has a flow to lose
	}
	d.bindings = append(d.bindings, n)
	sortBindings(d.bindings)
	l.index(n)
}
