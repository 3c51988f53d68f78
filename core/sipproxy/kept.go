package sipproxy

import (
	"time"

	"github.com/emiago/sipgo/sip"
)

// keepWait is how long a request other than INVITE may wait for its device's
// next flow: its sender hears the answer before it gives up after 32 s (Timer F,
// RFC 8599 §5.6.2). A BYE waits that long (B27), others the wake window at most.
const keepWait = 30 * time.Second

// dialogToDevice takes a request inside a dialog to the instance's current
// flow, or keeps it for the next one. Nothing is pushed for it (B27), unless the
// device asked for that in this dialog (RFC 8599 §6).
func (p *Proxy) dialogToDevice(st *serverTx, n next) {
	if p.notifies(st, n) {
		return
	}
	l := p.newLeg(n.device, st.req, true)
	l.routes, l.client = n.routes, st.from.client()
	l.wakes = p.wokenBy(st.req, n.device)
	l.place = p.lineup.enter(l.id)
	if st.req.IsInvite() {
		st.reply(100, "")
		p.start(st, assertedByClients, l)
		return
	}
	k := &kept{l: l, st: st, until: time.Now().Add(min(p.cfg.Window, keepWait))}
	if st.req.Method == sip.BYE {
		k.until = time.Now().Add(keepWait)
	}
	if dev, ok := p.loc.Device(n.device); ok && p.lineup.first(l.place) {
		if pe := p.peerOf(dev); pe != nil {
			k.send(pe)
			return
		}
	}
	k.wait(nil)
}

// kept is a request inside a dialog, other than INVITE, until it is answered.
type kept struct {
	l     *leg
	st    *serverTx
	until time.Time // when the caller is told that the device is not there
}

// wait keeps the request for the device's next flow after old.
func (k *kept) wait(old *peer) {
	unwatch := k.l.p.watch(k.l.id, k.l)
	k.l.summon()
	waits := k.l.p.calls.Go(func() {
		pe, o := k.l.await(k.l.p.ctx, time.Until(k.until), old)
		unwatch()
		if pe == nil {
			k.l.drop()
			k.st.reply(o.status, "")
			return
		}
		k.l.p.lineup.wait(k.l.p.ctx, k.l.place)
		k.send(pe)
	})
	if !waits {
		unwatch()
		k.l.drop()
		k.st.reply(503, "")
	}
}

// send sends the request down a flow. If the flow dies under it, the request
// is kept for the next.
func (k *kept) send(pe *peer) {
	p := k.l.p
	out, ok := p.toClient(k.l, pe)
	if !ok {
		k.l.drop()
		k.st.reply(480, "")
		return
	}
	final := func(res *sip.Response) { k.st.respond(k.st.back(res, assertedByClients...)) }
	p.relayHeard(k.st, pe, out, final, func() {
		if !p.notifies(k.st, next{device: k.l.id, routes: k.l.routes}) {
			k.wait(pe)
		}
	})
	k.l.drop()
}
