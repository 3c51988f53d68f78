package sipproxy

import (
	"net/netip"
	"strings"
	"time"

	"github.com/emiago/sipgo/sip"

	"sallyport/core/liveness"
	"sallyport/core/location"
	"sallyport/core/sipmsg"
	"sallyport/core/trace"
)

// fromPBX takes a request of a PBX to the device it is for.
func (p *Proxy) fromPBX(st *serverTx) {
	if hasToTag(st.req) {
		p.dialogRequest(st)
		return
	}
	if st.req.Method == sip.REGISTER {
		st.reply(403, "")
		return
	}
	if dev, status, is := p.pathed(st.from, st.req); is {
		switch status {
		case 0:
			p.toDevices(st, []location.Device{dev}, nil)
		case 430:
			st.reply(430, "Flow Failed")
		default:
			p.m.forbidden.Inc()
			st.reply(status, "")
		}
		return
	}
	devices, status := p.called(st.from, st.req)
	if status != 0 {
		if st.req.Method == sip.OPTIONS && st.req.Recipient.User == "" {
			p.able(st) // the PBX asks whether we live
			return
		}
		st.reply(status, "")
		return
	}
	p.toDevices(st, devices, nil)
}

// called finds the devices behind a Request-URI: the instance our contact
// names, or all of an AOR: of a domain of ours that the PBX speaks for, named
// or, as "alice" at our own address, not (decision 11).
func (p *Proxy) called(from *peer, req *sip.Request) (devices []location.Device, status int) {
	user := req.Recipient.User
	if dev, _, ok := p.loc.ByToken(user); ok {
		return []location.Device{dev}, 0
	}
	if dev, ok := p.replaced(from, req); ok {
		return []location.Device{dev}, 0
	}
	u, err := sipmsg.ParseURI(req.Recipient.String())
	switch host := strings.ToLower(u.Host); {
	case err != nil:
		return nil, 416
	case user == "":
		return nil, 404
	case p.standsAlone(host):
		return nil, 404 // its users call one another, no PBX calls them
	case p.domains[host] != nil:
		if !p.speaksFor(from, host) && p.speaksForAny(from) {
			return nil, 404 // another domain's PBX
		}
		return p.devicesOf(u)
	case !p.meansUs(from, &req.Recipient):
		return nil, 404
	case len(user) == tokenLen:
		return nil, 480 // a contact of a device that is not kept any more
	}
	status = 404
	for name, dom := range p.domains {
		if dom.Registrar != nil || !p.speaksFor(from, name) {
			continue
		}
		u.Host = name
		found, _ := p.devicesOf(u)
		devices, status = append(devices, found...), 480
	}
	if len(devices) > 0 {
		return devices, 0
	}
	return nil, status
}

// meansUs says whether a PBX's URI has an address of ours as its host: what we
// advertise, or where the request came in.
func (p *Proxy) meansUs(from *peer, u *sip.Uri) bool {
	if p.isOurs(from, u) || strings.EqualFold(u.Host, p.advertiseHost) || strings.EqualFold(u.Host, p.tlsHost) {
		return true
	}
	host, err := netip.ParseAddr(strings.Trim(u.Host, "[]"))
	local := from.up.Local().Addr()
	return err == nil && (!local.IsValid() || local.IsUnspecified() || local == host.Unmap())
}

func (p *Proxy) standsAlone(domain string) bool {
	dom := p.domains[strings.ToLower(domain)]
	return dom != nil && dom.Registrar != nil
}

// devicesOf looks up the AOR of a domain of ours. A PBX knows its users better
// than we do: one of whom nothing is registered is not there, not unknown.
func (p *Proxy) devicesOf(u sipmsg.URI) (devices []location.Device, status int) {
	aor := u.AOR()
	if devices = p.loc.Lookup(aor); len(devices) > 0 {
		return devices, 0
	}
	if dom := p.domains[domainOf(aor)]; dom.Registrar != nil && !dom.Registrar.Known(u.User) {
		return nil, 404
	}
	return nil, 480
}

// speaksFor says whether a hop is a server of a domain's PBX. With one domain
// that has a PBX, whoever may send requests here speaks for it.
func (p *Proxy) speaksFor(from *peer, domain string) bool {
	served := 0
	for _, dom := range p.domains {
		if dom.Registrar == nil {
			served++
		}
	}
	return served == 1 || p.up.Serves(from.remote().Addr(), domain)
}

// speaksForAny says whether a hop is a server of any domain's PBX, and not
// merely trusted.
func (p *Proxy) speaksForAny(from *peer) bool {
	for name, dom := range p.domains {
		if dom.Registrar == nil && p.speaksFor(from, name) {
			return true
		}
	}
	return false
}

// toDevices forks a request outside a dialog to devices. caller is set when it
// comes from a client of a stand-alone domain.
func (p *Proxy) toDevices(st *serverTx, devices []location.Device, caller *location.Binding) {
	if len(devices) == 0 {
		st.reply(480, "")
		return
	}
	if st.req.IsInvite() {
		p.ring(st, devices, caller)
		return
	}
	if st.req.Method == sip.MESSAGE && p.im != nil {
		p.message(st, p.mailed(devices), caller)
		return
	}
	dev := devices[0] // newest registration; a request without INVITE is not forked (RFC 3261 §16.6 note)
	for _, d := range devices[1:] {
		if p.State(d) > p.State(dev) {
			dev = d
		}
	}
	pe := p.peerOf(dev)
	if state := p.stateOn(dev, pe); state != liveness.Foreground {
		p.answerFor(st, dev, state, caller)
		return
	}
	l := p.newLeg(dev.ID, st.req, false)
	l.caller(st, caller)
	if out, ok := p.toClient(l, pe); ok {
		p.relay(st, pe, out)
		return
	}
	st.reply(480, "")
}

// mailed are those of a user's devices that get a copy of a message: all, those
// that can be reached first.
func (p *Proxy) mailed(devices []location.Device) (ids []location.DeviceID) {
	var gone []location.DeviceID
	for _, d := range devices {
		if p.State(d) == liveness.Gone {
			gone = append(gone, d.ID)
			continue
		}
		ids = append(ids, d.ID)
	}
	return append(ids, gone...)
}

// answerFor answers for a device that is not looking, without waking it (B27).
func (p *Proxy) answerFor(st *serverTx, dev location.Device, state liveness.State, caller *location.Binding) {
	switch {
	case state == liveness.Gone:
		st.reply(480, "")
	case st.req.Method == sip.OPTIONS:
		p.able(st)
	case st.req.Method == sip.NOTIFY:
		p.notes.keep(dev.ID, st, caller)
		st.reply(200, "")
	default:
		st.reply(480, "")
	}
}

// ring forks an INVITE to devices, each in whatever state it is.
func (p *Proxy) ring(st *serverTx, devices []location.Device, caller *location.Binding) {
	st.reply(100, "")
	targets := make([]target, 0, len(devices))
	for _, dev := range devices {
		l := p.newLeg(dev.ID, st.req, false)
		l.caller(st, caller)
		l.place = p.lineup.enter(dev.ID)
		l.call = p.callOf(st.req, dev.ID.AOR)
		replaces := sipmsg.Find(st.req, "Replaces") != nil
		l.quiet = replaces || p.echoes(l.call, dev)
		l.wakes = replaces && p.wokenBy(st.req, dev.ID) // RFC 8599 §7
		if p.traces != nil {
			l.trace = p.traces.Begin(l.call.CallID, dev.ID.AOR, l.call.FromURI)
			l.step(trace.StepInvite, "")
		}
		targets = append(targets, l)
	}
	p.start(st, assertedByClients, targets...)
}

// echoes says whether a call to a device is one that this very device is making:
// to itself, as the PBX sends it back.
func (p *Proxy) echoes(c callInfo, dev location.Device) bool {
	pe := p.peerOf(dev)
	if pe == nil {
		return false
	}
	for _, st := range pe.txs.callsUp() {
		if st.caller == dev.ID && (c.FromURI == dev.ID.AOR || c.CallID == headerValue(st.req, "Call-ID")) {
			return true
		}
	}
	return false
}

// callOf is what a VoIP push says of a call. The PBX's word on who calls
// (P-Asserted-Identity) is better than From.
func (p *Proxy) callOf(req *sip.Request, aor string) (c callInfo) {
	now := time.Now()
	c = callInfo{
		CallID: headerValue(req, "Call-ID"), To: aor, Video: hasVideo(req.Body()),
		Sent: now, RingUntil: now.Add(ringTime(req)),
	}
	for _, name := range []string{"P-Asserted-Identity", "From"} {
		na, err := sipmsg.ParseNameAddr(headerValue(req, name))
		if err != nil {
			continue
		}
		c.FromURI, c.FromName, c.Number = na.URI.AOR(), na.Display, na.URI.User
		break
	}
	return c
}

// ringTime is how long a caller will let it ring: its Expires, or a minute.
func ringTime(req *sip.Request) time.Duration {
	if d, err := time.ParseDuration(headerValue(req, "Expires") + "s"); err == nil && d > 0 && d <= 3*time.Minute {
		return d
	}
	return time.Minute
}

// hasVideo says whether an SDP offer has a video line that is not refused.
func hasVideo(body []byte) bool {
	for line := range strings.SplitSeq(string(body), "\n") {
		if port, ok := strings.CutPrefix(line, "m=video "); ok {
			return !strings.HasPrefix(port, "0 ")
		}
	}
	return false
}

// toClient makes what goes down a flow for a leg. It has one Via, ours, since
// JsSIP drops what has more in the answer, and the client's own contact as
// Request-URI.
func (p *Proxy) toClient(l *leg, to *peer) (*sip.Request, bool) {
	d := draft{from: l.req, uri: l.req.Recipient, routes: l.routes}
	d.contact, d.newCtc = withoutPush(l.req)
	if l.client {
		d.drop = assertedToClients
	}
	if !l.dialog || p.isOwnURI(&l.req.Recipient) {
		b, ok := p.boundFor(l, to)
		var contact sip.Uri // a fresh one: the parser sets only what it finds
		if !ok || sip.ParseUri(b.URI, &contact) != nil {
			return nil, false
		}
		d.uri = contact
		if makesDialog(l.req) {
			d.first = p.legRoutes(l, to, b.Token)
		}
	} else {
		d.uri.UriParams = withoutPurr(d.uri.UriParams)
	}
	return d.build(p.newVia(to, l.req)), true
}

// legRoutes are the Record-Route values of a request that opens a dialog with a
// device: the device's side, and the PBX's or the calling client's.
func (p *Proxy) legRoutes(l *leg, to *peer, token string) []sip.Header {
	callID := headerValue(l.req, "Call-ID")
	if l.from == nil {
		return p.recordRoutes(towardsClient(p.seal(token, callID, l.hop, ""), to), p.towardsPBX(token, l.pbxVia))
	}
	return p.recordRoutes(towardsClient(p.seal(token, callID, hopAddr{}, l.fromToken), to),
		towardsClient(p.seal(l.fromToken, callID, hopAddr{}, token), l.from))
}

// isOwnURI says whether a Request-URI is a contact of ours.
func (p *Proxy) isOwnURI(u *sip.Uri) bool {
	_, ok := p.loc.Owner(u.User)
	return ok
}

// bindingOn returns the device's binding that lives on a flow.
func (p *Proxy) bindingOn(id location.DeviceID, to *peer) (location.Binding, bool) {
	return p.loc.BindingOn(id, to.flow.ID())
}
