package sipproxy

import (
	"slices"
	"strings"

	"github.com/emiago/sipgo/sip"

	"sallyport/core/location"
	"sallyport/core/sipmsg"
)

// fromClient takes a request of a client to where it belongs.
func (p *Proxy) fromClient(st *serverTx) {
	if id, ok := p.loc.Owner(st.req.Recipient.User); ok && !p.onFlow(st.from, []location.DeviceID{id}) {
		p.forbid(st, "the Request-URI names another instance")
		return
	}
	switch {
	case st.req.Method == sip.REGISTER:
		p.register(st)
	case hasToTag(st.req):
		p.dialogRequest(st)
	case st.req.Method == sip.OPTIONS && !p.forwardsOptions(st):
		p.able(st)
	default:
		p.newRequest(st)
	}
}

// identity returns the binding whose AOR, or associated URI, the request
// claims to come from. Only what the PBX accepted on this very flow counts
// (decision 4): From, or P-Preferred-Identity when From is anonymous.
func (p *Proxy) identity(st *serverTx) (location.Binding, bool) {
	here := p.loc.ByFlow(st.from.flow.ID())
	found, ok := location.Binding{}, false
	for i, claim := range claims(st.req) {
		b, accepted := accepts(here, claim)
		if !accepted {
			return location.Binding{}, false
		}
		if i == 0 {
			found, ok = b, true
		}
	}
	return found, ok
}

// claims are the identities that a request asks to be taken for, the one that
// names its domain first. An anonymous From claims nothing; every
// P-Preferred-Identity does, since the PBX will take one of them.
func claims(req *sip.Request) (aors []string) {
	values := sipmsg.All(req, "From")
	if from := req.From(); from != nil && strings.EqualFold(from.Address.Host, "anonymous.invalid") {
		values = nil
	}
	for _, h := range append(values, sipmsg.All(req, "P-Preferred-Identity")...) {
		aor, err := sipmsg.AOROf(h)
		if err != nil {
			return []string{""} // nobody's
		}
		aors = append(aors, aor)
	}
	return aors
}

// accepts finds the binding with which an identity was accepted.
func accepts(here []location.Binding, claim string) (location.Binding, bool) {
	for _, b := range here {
		if claim == b.AOR || slices.Contains(b.Identities, claim) {
			return b, true
		}
	}
	return location.Binding{}, false
}

// forwardsOptions says whether an OPTIONS is for somebody else. One that asks
// the server, or comes from a flow that is nobody yet, is answered here.
func (p *Proxy) forwardsOptions(st *serverTx) bool {
	if st.req.Recipient.User == "" {
		return false
	}
	_, ok := p.identity(st)
	return ok
}

// newRequest takes a request outside a dialog to the PBX of its sender's
// domain, or to the devices of a stand-alone domain.
func (p *Proxy) newRequest(st *serverTx) {
	r := p.ownRoutes(st.from, st.req)
	if r.bad || len(r.rest) > 0 || !p.onFlow(st.from, r.ids()) {
		p.forbid(st, "a Route that is not ours")
		return
	}
	b, ok := p.identity(st)
	if !ok {
		p.forbid(st, "From is not registered on this flow")
		return
	}
	st.caller = b.ID()
	p.used(b.ID(), st.req)
	dom := p.domains[domainOf(b.AOR)]
	switch {
	case dom == nil:
		p.forbid(st, "the domain is not served here")
	case dom.Registrar != nil:
		p.standAlone(st, b)
	case p.publishes(st, b):
		p.publish(st, b, dom.Name)
	default:
		p.toPBX(st, p.journey(dom.Name, b.AOR, hopAddr{}), func(pe *peer) *sip.Request { return p.outward(st, pe, b) })
	}
}

// forbid answers 403 and counts it; what was tried is for the log.
func (p *Proxy) forbid(st *serverTx, why string) {
	p.m.forbidden.Inc()
	p.log.Info("request forbidden", "flow", st.from.name(), "method", string(st.req.Method), "why", why)
	st.reply(403, "")
}

// onFlow says whether every instance is one that is registered on the flow.
func (p *Proxy) onFlow(from *peer, ids []location.DeviceID) bool {
	if len(ids) == 0 {
		return true
	}
	here := p.loc.ByFlow(from.flow.ID())
	for _, id := range ids {
		found := false
		for i := range here {
			found = found || here[i].ID() == id
		}
		if !found {
			return false
		}
	}
	return true
}

// outward makes what goes to the PBX of a request outside a dialog.
func (p *Proxy) outward(st *serverTx, to *peer, b location.Binding) *sip.Request {
	d := draft{from: st.req, uri: st.req.Recipient, vias: true, drop: assertedByClients}
	d.contact, d.newCtc = withoutPush(st.req)
	if makesDialog(st.req) {
		d.first = p.recordRoutes(p.towardsPBX(b.Token, to.via), towardsClient(p.seal(b.Token, headerValue(st.req, "Call-ID"), p.stays(to, domainOf(b.AOR)), ""), st.from))
	}
	return d.build(p.newVia(to, st.req))
}

// makesDialog says whether a request outside a dialog can open one.
func makesDialog(req *sip.Request) bool {
	if hasToTag(req) {
		return false
	}
	switch req.Method {
	case sip.INVITE, sip.SUBSCRIBE, sip.REFER, sip.NOTIFY:
		return true
	}
	return false
}

// standAlone routes within the domains whose registrar we are ourselves.
func (p *Proxy) standAlone(st *serverTx, caller location.Binding) {
	u, err := sipmsg.ParseURI(st.req.Recipient.String())
	if err != nil {
		st.reply(416, "")
		return
	}
	if dom := p.domains[strings.ToLower(u.Host)]; dom == nil || dom.Registrar == nil {
		st.reply(404, "")
		return
	}
	devices, status := p.devicesOf(u)
	if status == 480 && st.req.Method == sip.MESSAGE && p.im != nil {
		p.message(st, []location.DeviceID{{AOR: u.AOR()}}, &caller) // held for whichever device registers
		return
	}
	if status != 0 {
		st.reply(status, "")
		return
	}
	devices = slices.DeleteFunc(devices, func(d location.Device) bool { return d.ID == caller.ID() })
	p.toDevices(st, devices, &caller) // the others, when one calls oneself
}

// domainOf returns the host part of an AOR.
func domainOf(aor string) string {
	_, host, _ := strings.Cut(aor, "@")
	if host == "" {
		host = strings.TrimPrefix(aor, "sip:")
	}
	return strings.ToLower(host)
}
