package sipproxy

import (
	"context"
	"hash/maphash"
	"strconv"
	"sync"
	"time"

	"sallyport/core/location"
	"sallyport/core/sipmsg"
	"sallyport/core/wake"
)

// A PBX forgets a phone at the end of what it granted, and only the phone has
// the credentials to register again. So a device that sleeps is asked to, by a
// push in the background, in good time before that (RFC 8599 §5.5). It is seldom
// needed, since the PBX is asked for upstream_expires, a day by default.
//
// Whose bindings end together are asked one after the other: each has a moment
// of its own within half the margin ahead, and no more than so many are asked in
// a second.

const (
	refreshPerSecond = 50
	// refreshSlot is the resolution of the calendar.
	refreshSlot = 30 * time.Second
	// refreshAsks is how often a device is asked before a binding ends: a push in
	// the background may be held back by the phone's system.
	refreshAsks = 2
	// refreshAgain is when a device is looked at again that is awake, or has just
	// gone.
	refreshAgain = 30 * time.Second
)

// renewals are a calendar of devices by the time at which it matters whether
// they have registered again. A device stands in it once, and is looked at when
// its time has come: that a grant was renewed meanwhile is seen then, and no
// sooner.
type renewals struct {
	mu    sync.Mutex
	turn  int64                          // the slot that was looked at last; guarded by mu
	slots map[int64][]location.DeviceID  // guarded by mu
	of    map[location.DeviceID]*renewal // guarded by mu
}

// noSlot is that of a device that was taken.
const noSlot = 1<<63 - 1

type renewal struct {
	slot int64
	ends time.Time // of the grant for which it was asked
	asks int
}

// enter has a device looked at no later than at the time at.
func (r *renewals) enter(id location.DeviceID, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	slot := max(at.Unix()/int64(refreshSlot/time.Second), r.turn+1)
	if one := r.of[id]; one != nil {
		if one.slot <= slot {
			return
		}
		one.slot = slot // its entry in the later slot is passed over
	} else {
		if r.of == nil {
			r.of, r.slots = make(map[location.DeviceID]*renewal), make(map[int64][]location.DeviceID)
		}
		r.of[id] = &renewal{slot: slot}
	}
	r.slots[slot] = append(r.slots[slot], id)
}

// take returns who is to be looked at by the time now. Each of them has to be
// kept or dropped.
func (r *renewals) take(now time.Time) (ids []location.DeviceID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	until := now.Unix() / int64(refreshSlot/time.Second)
	if len(r.slots) < int(until-r.turn) { // after a start, or a clock that was set
		for slot, list := range r.slots {
			if slot <= until {
				ids = r.due(ids, slot, list)
			}
		}
	} else {
		for slot := r.turn + 1; slot <= until; slot++ {
			ids = r.due(ids, slot, r.slots[slot])
		}
	}
	r.turn = until // also back, with a clock that was set: the next grants go by the new one
	return ids
}

func (r *renewals) due(ids []location.DeviceID, slot int64, list []location.DeviceID) []location.DeviceID {
	for _, id := range list {
		if one := r.of[id]; one != nil && one.slot == slot {
			one.slot = noSlot // it may stand in the list twice
			ids = append(ids, id)
		}
	}
	delete(r.slots, slot)
	return ids
}

// keep has a device that was taken looked at again.
func (r *renewals) keep(id location.DeviceID, at time.Time) {
	r.mu.Lock()
	if one := r.of[id]; one != nil {
		one.slot = noSlot
	}
	r.mu.Unlock()
	r.enter(id, at)
}

func (r *renewals) drop(id location.DeviceID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.of, id)
}

// asked notes that a device is asked once more for the sake of a grant, and says
// how often it was before.
func (r *renewals) asked(id location.DeviceID, ends time.Time) (before int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	one := r.of[id]
	if one == nil {
		return 0
	}
	if !one.ends.Equal(ends) {
		one.ends, one.asks = ends, 0
	}
	one.asks++
	return one.asks - 1
}

var spreadSeed = maphash.MakeSeed()

// renewBy is when a device is to be asked to register, and when the last of its
// bindings at the PBX ends. ok is false for one whose bindings need no push, or
// cannot be kept by one. One that wakes by itself has until the last moment.
func (p *Proxy) renewBy(d location.Device, now time.Time) (at, ends time.Time, ok bool) {
	dom := p.domains[domainOf(d.ID.AOR)]
	if dom == nil || dom.Registrar != nil || len(d.Tokens) == 0 {
		return at, ends, false
	}
	var last location.Binding
	for _, b := range d.Bindings {
		if b.GrantEnds.After(last.GrantEnds) {
			last = b
		}
	}
	whole := last.GrantEnds.Sub(last.Granted)
	if !last.GrantEnds.After(now) || whole <= pushLead {
		return at, ends, false
	}
	ends = last.GrantEnds
	if na, err := sipmsg.ParseNameAddr(last.Contact); err == nil && (sipmsg.Contact{Params: na.Params}).WakesItself() {
		return ends.Add(-pushLead), ends, true
	}
	margin := max(min(p.cfg.RefreshMargin, whole/2), pushLead)
	early := time.Duration(maphash.Comparable(spreadSeed, d.ID) % uint64(margin/2))
	return ends.Add(-margin - early - refreshSlot), ends, true
}

// renew enters a device, whose binding was granted, into the calendar.
func (p *Proxy) renew(id location.DeviceID) {
	if !p.renews() {
		return
	}
	if d, known := p.loc.Device(id); known {
		if at, _, ok := p.renewBy(d, time.Now()); ok {
			p.renewals.enter(id, at)
		}
	}
}

func (p *Proxy) renews() bool { return p.cfg.PushEnabled && p.cfg.RefreshMargin > 0 }

// renewing asks who sleeps, in time, until ctx ends.
func (p *Proxy) renewing(ctx context.Context) {
	p.loc.All(func(d location.Device) bool {
		if at, _, ok := p.renewBy(d, time.Now()); ok {
			p.renewals.enter(d.ID, at)
		}
		return true
	})
	for pausing(ctx, refreshSlot) {
		for _, id := range p.renewals.take(time.Now()) {
			if p.lookAfter(id, time.Now()) && !pausing(ctx, time.Second/refreshPerSecond) {
				return
			}
		}
	}
}

// lookAfter looks at a device whose time has come, and says whether it was
// pushed to.
func (p *Proxy) lookAfter(id location.DeviceID, now time.Time) (pushed bool) {
	d, known := p.loc.Device(id)
	at, ends, ok := p.renewBy(d, now)
	switch {
	case !known || !ok:
		p.renewals.drop(id)
		return false
	case at.After(now.Add(refreshSlot)): // it has registered since
		p.renewals.keep(id, at)
		return false
	case p.hears(d), now.Sub(d.FlowLost()) < refreshAgain, p.outages.under(domainOf(id.AOR)):
		p.renewals.keep(id, now.Add(refreshAgain))
		return false
	case !p.askable(d):
		p.renewals.keep(id, ends.Add(refreshSlot))
		return false
	}
	again := ends.Add(refreshSlot) // to see whether it came
	if asked := p.renewals.asked(id, ends); asked >= refreshAsks {
		p.renewals.keep(id, again)
		return false
	} else if left := ends.Add(-pushLead).Sub(now); asked+1 < refreshAsks && left > 2*refreshAgain {
		again = now.Add(left / 2)
	}
	p.renewals.keep(id, again)
	p.m.refreshes.Inc()
	p.outages.ask(id, now)
	p.waker.Note(wakeDevice(d), wake.Note{
		Event: wake.EventRegister, ID: "refresh " + strconv.FormatInt(now.UnixNano(), 36), To: id.AOR, Sent: now, Expires: ends,
	}, nil)
	return true
}

// askable says whether a device can be asked to register: in the background, and
// so never by the VoIP channel, where something must ring.
func (p *Proxy) askable(d location.Device) bool {
	return hasMessageToken(d) && p.waker.CanNote(wakeDevice(d))
}

// hears says whether a device has a flow on which somebody listens, and so
// registers by itself.
func (p *Proxy) hears(d location.Device) bool {
	pe := p.peerOf(d)
	if pe == nil {
		return false
	}
	a := pe.flow.Attention()
	return !a.Silent && !a.Unanswered
}
