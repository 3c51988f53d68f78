package sipproxy

import (
	"slices"
	"strings"

	"github.com/emiago/sipgo/sip"

	"sallyport/core/liveness"
	"sallyport/core/location"
	"sallyport/core/presence"
)

// A device that subscribed (RFC 6665) is told the state of things by NOTIFY, in
// the dialog of its subscription. While it sleeps we take these for it: a
// notifier that hears 480 ends the subscription, and a phone is not woken
// because a colleague goes to lunch. On its return it gets the newest, in the
// dialog, with the CSeq that it had, which is higher than any that it knows.

// Bounds of what is kept of subscriptions, beside those of all notes.
const (
	maxSubscribed = 128      // NOTIFYs of one device
	maxChain      = 8        // of one subscription, that build on one another
	maxStateSize  = 64 << 10 // of one NOTIFY
)

// noteKind says how a NOTIFY relates to the one before it.
type noteKind int

const (
	noteFull    noteKind = iota // tells all: what was told before does not matter
	notePartial                 // tells what has changed since the one before
	noteBare                    // tells of the subscription alone: it has no body
)

func noteKindOf(req *sip.Request) noteKind {
	switch body := req.Body(); {
	case len(body) == 0:
		return noteBare
	case presence.Partial(headerValue(req, "Content-Type"), body):
		return notePartial
	}
	return noteFull
}

// notifies takes a NOTIFY in a dialog for a device that does not look, and
// answers it. Not those of a transfer, which belong to a call, and not those for
// which the device asked to be woken (RFC 8599 §6).
func (p *Proxy) notifies(st *serverTx, n next) bool {
	if st.req.Method != sip.NOTIFY || strings.EqualFold(eventOf(st.req), "refer") || p.wokenBy(st.req, n.device) {
		return false
	}
	switch p.deliverIfLooking(n.device) {
	case liveness.Foreground, liveness.Gone:
		return false
	case liveness.Silent, liveness.Suspended, liveness.Waking:
	}
	if !p.notes.keepSubscribed(n.device, st, n.routes) {
		return false // it waits as any request does; when told 480, the PBX forgets the subscription, and the device subscribes anew
	}
	st.reply(200, "")
	p.deliverIfLooking(n.device) // it may have come back meanwhile
	return true
}

// deliverIfLooking gives a device that looks what was kept for it, so that
// nothing newer overtakes that, and returns its state.
func (p *Proxy) deliverIfLooking(id location.DeviceID) liveness.State {
	dev, ok := p.loc.Device(id)
	if !ok {
		return liveness.Gone
	}
	pe := p.peerOf(dev)
	state := p.stateOn(dev, pe)
	if state == liveness.Foreground && p.notes.devices.Load() > 0 {
		p.deliverNotes(id, pe)
	}
	return state
}

// subscription names the dialog and the event of a NOTIFY (RFC 6665 §4.4.1).
func subscription(req *sip.Request) string {
	tag := func(params sip.HeaderParams) string { v, _ := params.Get("tag"); return v }
	from, to := "", ""
	if h := req.From(); h != nil {
		from = tag(h.Params)
	}
	if h := req.To(); h != nil {
		to = tag(h.Params)
	}
	return strings.Join([]string{headerValue(req, "Call-ID"), from, to, headerValue(req, "Event")}, "\x00")
}

// keepSubscribed takes a NOTIFY of a subscription, if there is room. One that
// tells all takes the place of what was told before. One that tells a part is
// kept behind it; beyond maxChain only the newest is, and the gap in the numbers
// of its document has the client ask for all (RFC 5263 §4.4, RFC 4662 §5.2). They
// stand in the order of their CSeqs: one may come late, whose flow died under it.
func (n *notes) keepSubscribed(id location.DeviceID, st *serverTx, routes []sip.Header) bool {
	k := keptRequest{sub: subscription(st.req), kind: noteKindOf(st.req), seq: st.req.CSeq().SeqNo, st: st, route: routes, bytes: keptSize(st.req)}
	n.mu.Lock()
	defer n.mu.Unlock()
	list := n.of[id]
	chain, subscribed := 0, 1
	for i := range list {
		if list[i].sub == k.sub {
			chain++
		}
	}
	kept := make([]keptRequest, 0, len(list)+1)
	grows, at := k.bytes, -1
	for i := range list {
		one := &list[i]
		switch newer := one.seq > k.seq; {
		case one.sub != k.sub:
		case newer && (one.kind == noteFull || one.kind == k.kind && k.kind == noteBare || chain >= maxChain):
			return true // it tells nothing any more
		case newer && at < 0:
			at = len(kept)
		case !newer && (k.kind == noteFull || one.kind == k.kind && k.kind == noteBare || chain >= maxChain):
			grows -= one.bytes
			continue
		}
		if kept = append(kept, *one); one.sub != "" {
			subscribed++
		}
	}
	if k.bytes > maxStateSize || subscribed > maxSubscribed || n.size+grows > maxNotesSize {
		return false
	}
	if at < 0 {
		at = len(kept)
	}
	n.put(id, slices.Insert(kept, at, k), grows)
	return true
}
