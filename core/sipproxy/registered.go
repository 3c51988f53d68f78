package sipproxy

import (
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"

	"sallyport/core/location"
	"sallyport/core/sipmsg"
)

// registerAnswered takes the PBX's final word on a REGISTER.
func (p *Proxy) registerAnswered(reg *registration, res *sip.Response) {
	switch {
	case res.IsSuccess():
		p.m.registers.WithLabelValues("accepted").Inc()
		p.granted(reg, res)
	case res.StatusCode == 401 || res.StatusCode == 407: // the client will try again (PN-12)
		p.m.registers.WithLabelValues("challenged").Inc()
		reg.st.respond(reg.st.back(res))
	default:
		p.m.registers.WithLabelValues("refused").Inc()
		reg.st.respond(reg.st.back(res))
		if p.refusedForGood(reg, res.StatusCode) {
			p.waker.Refused(reg.id.String())
		}
	}
}

// refusedForGood says whether a refusal is the PBX's last word on the device
// itself, so that nobody need wait for it any longer (R6). Anybody may send a
// REGISTER that is refused, and a PBX in trouble refuses everybody: it counts
// only if it forbids the user, or does not know it, and answers credentials
// that came with the very tokens by which the device is woken.
func (p *Proxy) refusedForGood(reg *registration, status int) bool {
	if status != 403 && status != 404 || len(authorizations(reg.st.req)) == 0 {
		return false
	}
	dev, _ := p.loc.Device(reg.id)
	if len(dev.Tokens) == 0 || len(dev.Tokens) != len(reg.tokens) {
		return false
	}
	for i := range dev.Tokens {
		if !slices.ContainsFunc(reg.tokens, func(t location.Token) bool { return sameToken(&t, &dev.Tokens[i]) }) {
			return false
		}
	}
	return true
}

func sameToken(a, b *location.Token) bool {
	return a.Provider == b.Provider && a.Kind == b.Kind && a.App == b.App && a.Value == b.Value
}

// granted learns from a 2xx what the PBX now holds.
func (p *Proxy) granted(reg *registration, res *sip.Response) {
	grant := time.Duration(0)
	if !reg.fetch && !reg.star && reg.expires > 0 {
		grant = p.grantOf(reg, res)
		reg.ends = time.Now().Add(grant)
		p.confirmed(reg, res)
		if asked := reg.dom.UpstreamExpires; grant < asked {
			p.shortGrant(reg.dom.Name, asked, grant)
		}
	}
	p.settle(reg, res, func() ([]location.DeviceID, error) { return p.enact(reg, grant, res) })
}

// grantOf is the expiry the PBX gave our contact.
func (p *Proxy) grantOf(reg *registration, res *sip.Response) time.Duration {
	contacts, _ := sipmsg.Contacts(res)
	for _, c := range contacts {
		if !reg.boundAs(c) {
			continue
		}
		if s, ok := c.Expires(); ok {
			return time.Duration(s) * time.Second
		}
	}
	if n, err := strconv.Atoi(headerValue(res, "Expires")); err == nil && n > 0 {
		return time.Duration(n) * time.Second
	}
	return min(reg.expires, defaultExpires)
}

// associated are the identities the PBX accepted beside the AOR
// (RFC 7315 §4.1).
func associated(res *sip.Response) (ids []string) {
	if res == nil {
		return nil
	}
	for _, h := range sipmsg.All(res, "P-Associated-URI") {
		for part := range strings.SplitSeq(h.Value(), ",") {
			if na, err := sipmsg.ParseNameAddr(strings.TrimSpace(part)); err == nil && len(ids) < 16 {
				ids = append(ids, na.URI.AOR())
			}
		}
	}
	return ids
}

// accepted answers the client with 2xx and then, in this order, frees who
// waits for it: the INVITE that was held follows the 2xx on the same flow. A
// route of the PBX's for the client's requests stays here, as its Path does:
// the only way of a client is through us (decision 10).
func (p *Proxy) accepted(reg *registration, res *sip.Response) {
	st := reg.st
	out := sipmsg.Response(st.req, 200, "OK")
	if res != nil {
		out = st.back(res, "Contact", "Expires", "Feature-Caps", "Path", "Service-Route", "Flow-Timer", "Require")
	}
	appendAll(out, p.boundContacts(reg, res))
	appendAll(out, p.offered(reg))
	if reg.outbound && reg.expires > 0 {
		out.AppendHeader(sip.NewHeader("Require", "outbound"))
		out.AppendHeader(sip.NewHeader("Flow-Timer", strconv.Itoa(int(p.flowTimer(st.from)/time.Second))))
	}
	out.SetBody(nil)
	out.SetTransport(st.from.via)
	st.respond(out)
	if reg.fetch || reg.star || reg.expires == 0 {
		return
	}
	p.loc.Answered(reg.id, reg.regID, st.from.flow.ID())
	if st.from.isGone() {
		return
	}
	p.deviceUp(reg.id, st.from)
	for _, old := range reg.heirOf {
		p.heirUp(old, st.from)
	}
	p.attentive(st.from)
}

// flowTimer is how long the client may keep quiet, as its edge has it.
func (p *Proxy) flowTimer(from *peer) time.Duration {
	if t := from.flow.Info().FlowTimer; t > 0 {
		return t
	}
	return p.cfg.FlowTimer
}

// boundContacts are the Contact values of a 2xx: the client's own first,
// exactly as it sent it, then the others of its AOR without anybody's tokens.
func (p *Proxy) boundContacts(reg *registration, res *sip.Response) (hs []sip.Header) {
	if !reg.fetch && !reg.star && reg.expires > 0 {
		na := reg.contact.NameAddr()
		own := na.Raw
		if na.Params.Has("expires") {
			na.Params = na.Params.Without("expires")
			own = na.String()
		}
		hs = append(hs, sip.NewHeader("Contact", own+reg.gruus(res)+";expires="+strconv.Itoa(int(reg.expires/time.Second))))
	}
	if !reg.fetch && !reg.star && p.loc.Alone(reg.id, reg.regID) && res == nil {
		return hs
	}
	now := time.Now()
	devices := p.loc.Lookup(reg.aor)
	for _, dev := range devices {
		for _, b := range dev.Bindings {
			if b.ID() == reg.id && b.RegID == reg.regID || b.Expired(now) {
				continue
			}
			hs = append(hs, otherContact(b, now))
		}
	}
	if res == nil {
		return hs
	}
	for _, h := range sipmsg.All(res, "Contact") { // of clients that did not come through us
		na, err := sipmsg.ParseNameAddr(h.Value())
		if err != nil || p.ours(reg, sipmsg.Contact{Raw: na.Raw, URI: na.URI, Params: na.Params}, devices) {
			continue
		}
		hs = append(hs, h)
	}
	return hs
}

func otherContact(b location.Binding, now time.Time) sip.Header {
	v := "<" + bareURI(b.URI) + ">;expires=" + strconv.Itoa(int(b.Expires.Sub(now)/time.Second))
	if strings.HasPrefix(b.Instance, "urn:") {
		v += `;+sip.instance="<` + b.Instance + `>"`
	}
	if b.RegID > 0 {
		v += ";reg-id=" + strconv.Itoa(b.RegID)
	}
	return sip.NewHeader("Contact", v)
}

// shortGrants remembers for which domains a short grant was said.
type shortGrants struct {
	mu       sync.Mutex
	grant    map[string]time.Duration
	pathless map[string]bool // whose PBX left out the Path
}

// shortGrant says, once a domain, that its PBX forgets phones too early.
func (p *Proxy) shortGrant(domain string, asked, grant time.Duration) {
	p.short.mu.Lock()
	_, said := p.short.grant[domain]
	if p.short.grant == nil {
		p.short.grant = make(map[string]time.Duration)
	}
	p.short.grant[domain] = grant
	p.short.mu.Unlock()
	if !said {
		p.log.Warn("the PBX grants less than upstream_expires: a phone that sleeps longer cannot be called; "+
			"raise the PBX's maximum registration expiry (Kamailio registrar max_expires, Asterisk maximum_expiration)",
			"domain", domain, "asked", asked, "granted", grant)
	}
}

// ShortGrants returns the last expiry granted by each PBX that gives less than
// it was asked for, by domain.
func (p *Proxy) ShortGrants() map[string]time.Duration {
	p.short.mu.Lock()
	defer p.short.mu.Unlock()
	out := make(map[string]time.Duration, len(p.short.grant))
	for k, v := range p.short.grant {
		out[k] = v
	}
	return out
}
