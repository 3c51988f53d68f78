package sipproxy

import (
	"github.com/emiago/sipgo/sip"

	"sallyport/core/location"
)

// next is where a request inside a dialog goes.
type next struct {
	status int // a refusal, 0 for none
	why    string
	device location.DeviceID // the instance it is for; zero: the PBX
	domain string            // whose PBX
	aor    string            // whose request it is
	hop    hopAddr           // the server of that PBX that the dialog stays with
	routes []sip.Header
}

// resolve reads the Route set of a request inside a dialog. A PBX is believed:
// the last instance that it names is meant.
func (p *Proxy) resolve(from *peer, req *sip.Request) next {
	r := p.ownRoutes(from, req)
	if from.client() {
		return p.resolveClient(from, req, r)
	}
	if n := len(r.own); n > 0 {
		return next{device: r.own[n-1].id, routes: r.rest}
	}
	if id, ok := p.loc.Owner(req.Recipient.User); ok {
		return next{device: id, routes: r.rest}
	}
	if id, ok := p.purred(req); ok {
		return next{device: id, routes: r.rest}
	}
	return next{status: 480, why: "no instance is named"}
}

// resolveClient believes the seal of the top value, if that names an instance
// of the flow the request comes on. From is not compared, since a callee's From
// is whatever the PBX dialled (decision 4).
func (p *Proxy) resolveClient(from *peer, req *sip.Request, r route) next {
	if r.bad || len(r.own) == 0 || !p.onFlow(from, r.ids()[:1]) {
		return next{status: 403, why: "the Route does not name this flow's instance"}
	}
	top := r.own[0]
	n := next{domain: domainOf(top.id.AOR), aor: top.id.AOR, hop: top.hop, routes: r.rest}
	peer := ""
	for _, v := range r.own[1:] {
		if v.id == top.id {
			continue
		}
		if n.routes = v.here; top.way == wayClient {
			n.device, n.routes, peer = v.id, r.rest, v.token
		}
		break
	}
	if top.way == wayClient && peer == "" || !p.holds(top.sealed, headerValue(req, "Call-ID"), peer) {
		return next{status: 403, why: "the Route was not given for this dialog"}
	}
	return n
}

// dialogRequest forwards a request inside a dialog.
func (p *Proxy) dialogRequest(st *serverTx) {
	n := p.resolve(st.from, st.req)
	switch callID := headerValue(st.req, "Call-ID"); {
	case n.status != 0:
	case st.req.Method == sip.BYE:
		p.talks.end(callID)
	default:
		p.talks.heard(callID)
	}
	switch {
	case n.status == 403:
		p.forbid(st, n.why)
	case n.status != 0:
		st.reply(n.status, "")
	case n.device != (location.DeviceID{}):
		p.dialogToDevice(st, n)
	default:
		dom := p.domains[n.domain]
		if dom == nil || dom.Registrar != nil {
			st.reply(404, "")
			return
		}
		p.toPBX(st, p.journey(dom.Name, n.aor, n.hop), func(pe *peer) *sip.Request { return p.along(st.req, pe, n) })
	}
}

// along makes what goes on to the PBX inside a dialog.
func (p *Proxy) along(req *sip.Request, to *peer, n next) *sip.Request {
	d := draft{from: req, uri: req.Recipient, vias: true, routes: n.routes, drop: assertedByClients}
	d.contact, d.newCtc = withoutPush(req)
	return d.build(p.newVia(to, req))
}

// inDialog is resolve for an ACK: where it goes, and what goes there. A nil
// peer means nowhere.
func (p *Proxy) inDialog(from *peer, req *sip.Request) (*peer, *sip.Request) {
	n := p.resolve(from, req)
	switch {
	case n.status != 0:
		return nil, nil
	case n.device == (location.DeviceID{}):
		pe := p.journey(n.domain, n.aor, n.hop).live()
		if pe == nil {
			return nil, nil
		}
		return pe, p.along(req, pe, n)
	}
	dev, ok := p.loc.Device(n.device)
	if !ok {
		return nil, nil
	}
	pe := p.peerOf(dev)
	if pe == nil {
		return nil, nil
	}
	l := p.newLeg(n.device, req, true)
	l.routes, l.client = n.routes, from.client()
	out, ok := p.toClient(l, pe)
	if !ok {
		return nil, nil
	}
	return pe, out
}
