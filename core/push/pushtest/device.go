package pushtest

import (
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Delivery is a push that reached its device.
type Delivery struct {
	At     time.Time
	Push   Push
	Stored bool // APNs kept it while the device was offline
}

// Bounds of the model; clients name the devices and calls.
const (
	maxPhones   = 100_000
	maxCalls    = 64 // newest, of a device token
	maxFinished = 10_000
	maxArrived  = 10_000
)

// devices is the model of the phones: what becomes of a push that APNs has
// accepted. Apple keeps one push for each app of a phone that is offline, the
// newest; none that says it is for now alone.
type devices struct {
	mu        sync.Mutex
	stored    map[place]Push          // guarded by mu
	calls     map[string][]*announced // guarded by mu; by device token, oldest first
	finished  map[string]struct{}     // guarded by mu; by UUID of the call
	pending   map[*announced]struct{} // guarded by mu; calls that were not reported
	delivered []Delivery              // guarded by mu
	twice     int                     // guarded by mu
}

// place is where APNs keeps a push.
type place struct{ phone, bundle string }

// announced is a call that a device token was told of.
type announced struct {
	push Push
	at   time.Time
}

// news is what follows from something that happened to the phones.
type news struct {
	delivered  []Delivery
	violations []violation
}

type violation struct {
	push Push
	text string
}

// settle tells the world.
func (s *APNs) settle(n news) {
	for _, v := range n.violations {
		s.violate(v.push.Conn, "%s, call %s to %s", v.text, v.push.Call, tail(v.push.Token))
	}
	if s.OnDeliver == nil {
		return
	}
	for _, d := range n.delivered {
		s.OnDeliver(d.Push)
	}
}

// accept delivers a push, keeps it, or lets it go.
func (d *devices) accept(p Push, dev Device, now time.Time) (n news) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !dev.Offline {
		d.deliver(&n, p, false)
		return n
	}
	if p.Expiration == "0" {
		return n
	}
	if d.stored == nil || len(d.stored) >= maxPhones {
		d.stored = make(map[place]Push)
	}
	d.stored[placeOf(p, dev)] = p
	return n
}

func placeOf(p Push, dev Device) place {
	phone := dev.Phone
	if phone == "" {
		phone = p.Token
	}
	return place{phone, strings.TrimSuffix(p.Topic, pushTypes[p.PushType])}
}

// deliver is the arrival of a push on its device. Guarded by mu.
func (d *devices) deliver(n *news, p Push, stored bool) {
	out := Delivery{At: time.Now(), Push: p, Stored: stored}
	if len(d.delivered) >= maxArrived {
		d.delivered = slices.Delete(d.delivered, 0, maxArrived/10)
	}
	d.delivered = append(d.delivered, out)
	n.delivered = append(n.delivered, out)
	if p.Call == "" {
		return
	}
	if _, over := d.finished[p.Call]; over {
		n.violations = append(n.violations, violation{p, "voip push for a call that is over"})
	}
	calls := d.calls[p.Token]
	if i := slices.IndexFunc(calls, func(a *announced) bool { return a.push.Call == p.Call }); i >= 0 {
		d.twice++
		if calls[i].push.ID != p.ID {
			n.violations = append(n.violations, violation{p, "second voip push for one call"})
		}
		return
	}
	d.announce(p, out.At)
}

// announce remembers that the device was told of a call. Guarded by mu.
func (d *devices) announce(p Push, at time.Time) {
	if d.calls == nil || len(d.calls) >= maxPhones {
		d.calls, d.pending = make(map[string][]*announced), make(map[*announced]struct{})
	}
	a := &announced{push: p, at: at}
	a.push.Payload = nil
	calls := append(d.calls[p.Token], a)
	if len(calls) > maxCalls {
		delete(d.pending, calls[0])
		calls = slices.Delete(calls, 0, 1)
	}
	d.calls[p.Token] = calls
	d.pending[a] = struct{}{}
}

// unreported returns the calls that were not reported in time, each once.
func (d *devices) unreported(within time.Duration, now time.Time) (late []Push) {
	if within <= 0 {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for a := range d.pending {
		if now.Sub(a.at) > within {
			late = append(late, a.push)
			delete(d.pending, a)
		}
	}
	slices.SortFunc(late, func(a, b Push) int { return a.At.Compare(b.At) })
	return late
}

func (d *devices) doubles() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.twice
}

// SetOnline connects a device token's phone with APNs or takes it off. What was
// stored for it comes when it is back, newest first: APNs keeps no order.
func (s *APNs) SetOnline(token string, online bool) {
	dev, _ := s.tokens.get(token)
	dev.Offline = !online
	s.Register(token, dev)
}

// back delivers what waited for the phone of a device token.
func (d *devices) back(token string, dev Device, now time.Time) (n news) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if dev.Phone == "" {
		dev.Phone = token
	}
	var kept []Push
	for at, p := range d.stored {
		if at.phone != dev.Phone {
			continue
		}
		delete(d.stored, at)
		until, err := strconv.ParseInt(p.Expiration, 10, 64)
		if err != nil || now.Before(time.Unix(until, 0)) { // without a time it is kept for weeks
			kept = append(kept, p)
		}
	}
	slices.SortFunc(kept, func(a, b Push) int { return b.At.Compare(a.At) })
	for _, p := range kept {
		d.deliver(&n, p, true)
	}
	return n
}

// Deliveries returns what reached the devices, oldest first. The last ten
// thousand are kept.
func (s *APNs) Deliveries() []Delivery {
	s.devices.mu.Lock()
	defer s.devices.mu.Unlock()
	return slices.Clone(s.devices.delivered)
}

// Report says that the app on a device has reported a call to iOS
// (reportNewIncomingCall), as it must for each VoIP push. It reports whether
// the device was told of that call.
func (s *APNs) Report(token, call string) bool {
	d := &s.devices
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, a := range d.calls[token] {
		if a.push.Call == call {
			delete(d.pending, a)
			return true
		}
	}
	return false
}

// FinishCall says that a call is over. From now on a VoIP push that reaches a
// device for it is a violation.
func (s *APNs) FinishCall(call string) {
	d := &s.devices
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.finished == nil || len(d.finished) >= maxFinished {
		d.finished = make(map[string]struct{})
	}
	d.finished[call] = struct{}{}
}
