package sipproxy

import (
	"slices"
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"

	"sallyport/core/downstream"
	"sallyport/core/location"
)

// grants keeps registrations in the order in which they arrived, whatever the
// order in which the PBX's answers do: a phone that changes networks has one
// under way on its old flow and one on its new. Once the newer is granted, the
// older has no say any more.
type grants struct {
	mu    sync.Mutex
	under map[string][]*registration          // not yet answered by a PBX, by AOR, oldest first; guarded by mu
	last  map[location.DeviceID]chan struct{} // closed when the device's newest grant is answered; guarded by mu
}

// begin notes that a registration is under way.
func (g *grants) begin(reg *registration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.under == nil {
		g.under = make(map[string][]*registration)
	}
	g.under[reg.aor] = append(g.under[reg.aor], reg)
}

// end says that no answer to it will come any more.
func (g *grants) end(reg *registration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	rest := slices.DeleteFunc(g.under[reg.aor], func(o *registration) bool { return o == reg })
	if len(rest) == 0 {
		delete(g.under, reg.aor)
		return
	}
	g.under[reg.aor] = rest
}

// take makes a grant true by calling enact, unless a newer one was before it;
// then the client hears what that one left. The place it returns is in line
// for the answer.
func (g *grants) take(reg *registration, enact func()) *turn {
	g.mu.Lock()
	defer g.mu.Unlock()
	if reg.void {
		reg.fetch = true
	}
	if reg.fetch {
		return &turn{}
	}
	for _, older := range g.under[reg.aor] {
		if older == reg {
			break
		}
		older.yield(reg)
	}
	enact()
	if reg.star {
		return &turn{}
	}
	if g.last == nil {
		g.last = make(map[location.DeviceID]chan struct{})
	}
	t := &turn{grants: g, id: reg.id, ahead: g.last[reg.id], gone: make(chan struct{})}
	g.last[reg.id] = t.gone
	return t
}

// yield takes from an older registration what a newer one has settled. Under
// grants.mu.
func (reg *registration) yield(newer *registration) {
	switch {
	case newer.star, reg.id == newer.id && reg.regID == newer.regID && !reg.star:
		reg.void = true
	case reg.star:
		reg.spares = append(reg.spares, newer.id)
	}
}

// A turn is a grant's place among those of its device: they are answered in
// the order in which they were made true. The zero turn waits for nobody.
type turn struct {
	grants *grants
	id     location.DeviceID
	ahead  chan struct{} // closed when the one before has been answered
	gone   chan struct{}
}

// first says whether nobody is ahead.
func (t *turn) first() bool {
	if t.ahead == nil {
		return true
	}
	select {
	case <-t.ahead:
		return true
	default:
		return false
	}
}

func (t *turn) wait() {
	if t.ahead != nil {
		<-t.ahead
	}
}

func (t *turn) leave() {
	if t.grants == nil {
		return
	}
	t.grants.mu.Lock()
	defer t.grants.mu.Unlock()
	close(t.gone)
	if t.grants.last[t.id] == t.gone {
		delete(t.grants.last, t.id)
	}
}

// askPBX sends a REGISTER to the PBX and hears its answer.
func (p *Proxy) askPBX(reg *registration) {
	st := reg.st
	hear := func(res *sip.Response) {
		switch {
		case res.StatusCode >= 200:
			p.registerAnswered(reg, res)
		case res.StatusCode > 100:
			st.respond(st.back(res))
		}
	}
	end := func(err error) {
		p.grants.end(reg)
		p.unanswered(st, reg.dom.Name, err)
	}
	j := p.journey(reg.dom.Name, reg.aor, hopAddr{})
	e := &errand{journey: j, st: st, build: func(to *peer) *sip.Request { return p.upstreamRegister(reg, to) }, hear: hear, end: end}
	j.begin(e.send, func(err error) {
		p.grants.end(reg)
		p.unreachable(st, reg.dom.Name, err)
	})
}

// settle makes true what a registrar granted, by calling enact, and answers
// once the store has what that touched: a 2xx holds even if this process is
// killed right after. res is the PBX's answer, nil if we gave it ourselves.
// The store is waited for elsewhere: other requests are not held up.
func (p *Proxy) settle(reg *registration, res *sip.Response, enact func() ([]location.DeviceID, error)) {
	var touched []location.DeviceID
	var failed error
	t := p.grants.take(reg, func() { touched, failed = enact() })
	answer := func() {
		defer t.leave()
		if err := p.loc.Save(touched...); err != nil { // it holds all the same, and is tried again
			p.log.Error("binding not stored", "aor", location.AOR(reg.aor), "err", err)
		}
		t.wait()
		if failed != nil {
			p.log.Error("binding not kept", "aor", location.AOR(reg.aor), "err", failed)
			reg.st.reply(500, "Registration Not Kept")
			return
		}
		p.accepted(reg, res)
	}
	if waits := len(touched) > 0 || !t.first(); !waits || !p.calls.Go(answer) {
		answer()
	}
}

// enact makes the binding, its device and tokens, or their removal, and
// returns the devices that the store must hear of. Under grants.mu.
func (p *Proxy) enact(reg *registration, grant time.Duration, res *sip.Response) (touched []location.DeviceID, err error) {
	switch {
	case reg.star:
		p.m.registers.WithLabelValues("removed").Inc()
		for _, dev := range p.loc.Lookup(reg.aor) {
			if !slices.Contains(reg.spares, dev.ID) {
				p.loc.Remove(dev.ID)
				p.forgotten(dev.ID)
				touched = append(touched, dev.ID)
			}
		}
		return touched, nil
	case reg.expires == 0 || grant == 0:
		reg.expires = 0
		p.m.registers.WithLabelValues("removed").Inc()
		p.loc.Unbind(reg.id, reg.regID)
		if _, left := p.loc.Device(reg.id); !left {
			p.forgotten(reg.id)
		}
		return []location.DeviceID{reg.id}, nil
	}
	reg.expires = min(reg.expires, grant)
	b := reg.binding(grant, res)
	b.Core = p.cfg.Core
	if reg.st.from.isGone() {
		if p.onAnother(reg) { // a flow that has ended replaces none that lives
			reg.fetch = true
			return nil, nil
		}
		b.FlowLost = b.Registered
	}
	defer p.renew(reg.id)
	_, known := p.loc.Device(reg.id)
	if touched, err = p.loc.Place(b, reg.tokens, reg.push.Class); err == nil && reg.st.from.isGone() {
		p.loc.Unflow(b.Flow, b.Registered) // the client has gone meanwhile: it is suspended
	}
	if !known {
		reg.heirOf = p.heirOf(reg, touched)
	}
	return touched, err
}

// forgotten ends what was done for a device that is not kept any more.
func (p *Proxy) forgotten(id location.DeviceID) {
	p.notes.drop(id)
	p.nudges.end(id)
	p.lookPublished(id)
	p.waker.Gone(id.String())
}

// onAnother says whether the binding that a registration would replace has a
// live flow.
func (p *Proxy) onAnother(reg *registration) bool {
	dev, _ := p.loc.Device(reg.id)
	return slices.ContainsFunc(dev.Bindings, func(b location.Binding) bool {
		return b.RegID == reg.regID && (b.Flow != "" || b.Answering) && b.Flow != reg.st.from.flow.ID()
	})
}

// target is the Request-URI of requests to the client. Its push tokens are known
// here, and no use to it, unless it is a proxy nearer to it that pushes
// (RFC 8599 §5.6.2).
func (reg *registration) target() string {
	if reg.closer {
		return reg.contact.URI.String()
	}
	return reg.contact.URI.WithoutPush().String()
}

// binding is what a grant makes true. Its flow is the client's alone until the
// 2xx has left.
func (reg *registration) binding(grant time.Duration, res *sip.Response) location.Binding {
	now := time.Now()
	flow := reg.st.from.flow
	cseq := uint32(0)
	if c := reg.st.req.CSeq(); c != nil {
		cseq = c.SeqNo
	}
	return location.Binding{
		AOR: reg.aor, Instance: reg.id.Instance, RegID: reg.regID,
		Contact: reg.contact.Raw, URI: reg.target(),
		CallID: headerValue(reg.st.req, "Call-ID"), CSeq: cseq, Token: reg.token,
		Identities: associated(res), GRUUs: reg.gruus(res), Flow: flow.ID(), Edge: downstream.Edge(flow.ID()), Answering: true,
		Registered: now, Expires: now.Add(reg.expires), Granted: now, GrantEnds: now.Add(grant),
		Transport: flow.Info().Transport, Public: flow.Info().Public,
		UserAgent: headerValue(reg.st.req, "User-Agent"),
	}
}
