package sipproxy

import (
	"slices"

	"sallyport/core/liveness"
	"sallyport/core/location"
)

// An app that was installed anew, a page that gives no instance and a client
// that was killed before it had written its own come back with the tokens they
// had and another +sip.instance. The push that woke them was for the old one,
// and so is the call: it goes to the heir (RFC 8599 §5.6.2 matches by pn-*).

// heirOf are the devices of the same AOR whose tokens a registration has taken
// over, all of them. Only a device that is new inherits: one that was there
// when the call came is asked for itself. A device that still hears keeps its
// calls; it is another tab that took its tokens.
func (p *Proxy) heirOf(reg *registration, touched []location.DeviceID) (olds []location.DeviceID) {
	for _, id := range touched {
		if id == reg.id || id.AOR != reg.aor {
			continue
		}
		dev, kept := p.loc.Device(id)
		if kept && len(dev.Tokens) == 0 && p.stateOn(dev, p.peerOf(dev)) != liveness.Foreground {
			olds = append(olds, id)
		}
	}
	return olds
}

// heirUp frees the calls that wait for a device: its heir is on pe. What is
// within a dialog stays, since the heir knows of none.
func (p *Proxy) heirUp(old location.DeviceID, pe *peer) {
	p.waker.Registered(old.String(), pe.flow.ID())
	var legs []*leg
	p.waitMu.Lock()
	for w := range p.waiting[old] {
		if l, ok := w.(*leg); ok && !l.dialog {
			legs = append(legs, l)
		}
	}
	p.waitMu.Unlock()
	for _, l := range legs {
		l.flowUp(pe)
	}
}

// boundFor returns the binding that a leg reaches on a flow: its device's, or
// that device's heir's.
func (p *Proxy) boundFor(l *leg, to *peer) (location.Binding, bool) {
	if b, ok := p.bindingOn(l.id, to); ok || l.dialog {
		return b, ok
	}
	bs := p.loc.ByFlow(to.flow.ID())
	i := slices.IndexFunc(bs, func(b location.Binding) bool { return b.AOR == l.id.AOR })
	if i < 0 {
		return location.Binding{}, false
	}
	return bs[i], true
}

// talker is the device that answered a leg on a flow.
func (p *Proxy) talker(l *leg, on *peer) location.DeviceID {
	if b, ok := p.boundFor(l, on); ok {
		return b.ID()
	}
	return l.id
}
