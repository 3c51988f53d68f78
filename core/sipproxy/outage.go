package sipproxy

import (
	"context"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"sallyport/core/location"
	"sallyport/core/wake"
	"sallyport/tunnel"
)

// A PBX that could not be reached may have forgotten who is registered: it may
// have been restarted. So, from the moment no server of a domain can be reached,
// what it granted before is void, and the next REGISTER of each client goes
// there again. Once one is back, those who would not register soon by
// themselves are asked to: clients that are connected and idle, by ending their
// flow with "reconnect"; devices that sleep, by a push in the background.

// How fast they are asked, and what is soon.
const (
	flowsPerSecond = 50
	wakesPerSecond = 20
	// soon is when a client is left to refresh its registration by itself.
	soon = 90 * time.Second
	// roundEvery is how often it is looked who is still missing: who was busy,
	// and who did not come back by itself.
	roundEvery = 30 * time.Second
	// settling is how long a PBX that is back is left in peace.
	settling = time.Second
	// askAgain is how long a device that was pushed to, and has not come, is let
	// alone by later outages: its push waits at the provider.
	askAgain = time.Hour
)

// outages knows since when each domain's PBX may have forgotten what it was
// told.
type outages struct {
	mu sync.Mutex
	of map[string]*outage // by domain; guarded by mu
	// asked is when a device was pushed to; guarded by mu.
	asked map[location.DeviceID]time.Time
}

type outage struct {
	since time.Time          // when no server could be reached any more
	stop  context.CancelFunc // ends the asking that goes on; nil for none
}

// void says whether a grant of a domain's PBX is from before its last outage.
func (o *outages) void(domain string, granted time.Time) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	out := o.of[domain]
	return out != nil && !granted.After(out.since)
}

// under says whether no server of a domain can be reached now.
func (o *outages) under(domain string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	out := o.of[domain]
	return out != nil && out.stop == nil
}

// ask notes that a device is pushed to.
func (o *outages) ask(id location.DeviceID, now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.asked == nil {
		o.asked = make(map[location.DeviceID]time.Time)
	}
	o.asked[id] = now
}

// owes says whether a device was pushed to lately, and has not come since.
func (o *outages) owes(d location.Device, now time.Time) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	at, ok := o.asked[d.ID]
	return ok && now.Sub(at) < askAgain &&
		!slices.ContainsFunc(d.Bindings, func(b location.Binding) bool { return b.Granted.After(at) })
}

// forget drops what is noted of pushes long ago.
func (o *outages) forget(now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	maps.DeleteFunc(o.asked, func(_ location.DeviceID, at time.Time) bool { return now.Sub(at) >= askAgain })
}

// Reachable implements upstream.Handler.
func (s pbxSide) Reachable(domain string, up bool) {
	p := s.p
	p.outages.mu.Lock()
	defer p.outages.mu.Unlock()
	out := p.outages.of[domain]
	switch {
	case !up:
		if out != nil && out.stop != nil {
			out.stop()
		}
		if p.outages.of == nil {
			p.outages.of = make(map[string]*outage)
		}
		p.outages.of[domain] = &outage{since: time.Now()}
		p.log.Warn("no server of the PBX can be reached: clients hear 503 until one is back", "domain", domain)
	case out != nil && out.stop == nil:
		p.log.Info("the PBX is back and may have forgotten: clients are asked to register again", "domain", domain,
			"away", time.Since(out.since).Round(time.Second))
		ctx, stop := context.WithCancel(p.ctx)
		out.stop = stop
		if !p.calls.Go(func() { defer stop(); p.gather(ctx, domain) }) {
			stop()
		}
	}
}

// gather asks, round by round, until nobody is missing or ctx ends.
func (p *Proxy) gather(ctx context.Context, domain string) {
	if !pausing(ctx, settling) {
		return
	}
	p.outages.forget(time.Now())
	pushed := make(map[location.DeviceID]bool) // once each
	for {
		flows, asleep, missing := p.missing(domain, pushed)
		var both sync.WaitGroup
		both.Go(func() { pace(ctx, flows, flowsPerSecond, func(id location.DeviceID) { p.reconnect(id, domain) }) })
		both.Go(func() { pace(ctx, asleep, wakesPerSecond, func(id location.DeviceID) { p.recall(id, domain) }) })
		both.Wait()
		for _, id := range asleep {
			pushed[id] = true
		}
		if !missing || !pausing(ctx, roundEvery/2+rand.N(roundEvery)) {
			return
		}
	}
}

func pausing(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// pace calls f for each of a list, in no order, and no more than rate times a
// second.
func pace(ctx context.Context, ids []location.DeviceID, rate int, f func(location.DeviceID)) {
	rand.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
	step := time.Second / time.Duration(rate)
	for _, id := range ids {
		if !pausing(ctx, step+rand.N(step/2)) {
			return
		}
		f(id)
	}
}

// missing lists whose registration the PBX may have forgotten: those with a
// flow, and those that sleep and can be asked by a push. more says that there
// are such, or that somebody may yet become one.
func (p *Proxy) missing(domain string, pushed map[location.DeviceID]bool) (flows, asleep []location.DeviceID, more bool) {
	now := time.Now()
	p.loc.All(func(d location.Device) bool {
		if domainOf(d.ID.AOR) != domain || !p.forgottenBy(domain, d, now) {
			return true
		}
		switch {
		case d.Flow() != "":
			flows, more = append(flows, d.ID), true
		case pushed[d.ID] || !p.cfg.PushEnabled || !hasMessageToken(d) || p.outages.owes(d, now):
		case now.Sub(d.FlowLost()) < roundEvery: // it is likely to be on its way
			more = true
		default:
			asleep, more = append(asleep, d.ID), true
		}
		return true
	})
	return flows, asleep, more
}

// forgottenBy says whether the PBX promised the device's binding before its last
// outage, and would hold it still.
func (p *Proxy) forgottenBy(domain string, d location.Device, now time.Time) bool {
	void := false
	for _, b := range d.Bindings {
		if !p.outages.void(domain, b.Granted) {
			return false
		}
		void = void || b.GrantEnds.After(now)
	}
	return void
}

// hasMessageToken says whether a device can be pushed to on the Message channel:
// Apple has a token for each channel, others have one for both.
func hasMessageToken(d location.Device) bool {
	for _, t := range d.Tokens {
		if !t.Dead && (t.Provider != "apns" || t.Kind != "voip") {
			return true
		}
	}
	return false
}

// reconnect ends the flow of a device that is idle and would not register soon.
func (p *Proxy) reconnect(id location.DeviceID, domain string) {
	d, ok := p.loc.Device(id)
	now := time.Now()
	if !ok || !p.forgottenBy(domain, d, now) {
		return
	}
	for _, b := range d.Bindings {
		pe := p.peerByID(b.Flow)
		if pe == nil || b.Expires.Sub(now) <= soon || pe.txs.busy() || p.talksOn(pe) {
			continue
		}
		p.m.reconnects.Inc()
		pe.flow.Close(tunnel.CloseReconnect, "the PBX may have forgotten you, please register again")
	}
}

// talksOn says whether a device on the flow is in a call.
func (p *Proxy) talksOn(pe *peer) bool {
	for _, b := range p.loc.ByFlow(pe.flow.ID()) {
		if p.talks.busy(b.ID()) {
			return true
		}
	}
	return false
}

// recall asks a device that sleeps to register, without ringing or a word on
// its screen.
func (p *Proxy) recall(id location.DeviceID, domain string) {
	d, ok := p.loc.Device(id)
	if !ok || d.Flow() != "" || !p.forgottenBy(domain, d, time.Now()) || !hasMessageToken(d) {
		return
	}
	p.m.recalls.Inc()
	p.outages.ask(id, time.Now())
	p.waker.Note(wakeDevice(d), wake.Note{Event: wake.EventRegister, To: id.AOR, Sent: time.Now()}, nil)
}

// busy says whether a transaction of the hop has not ended.
func (t *txTable) busy() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.server) > 0 || len(t.client) > 0
}
