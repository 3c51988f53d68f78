package sipproxy

import (
	"crypto/hmac"
	"crypto/sha256"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/emiago/sipgo/sip"

	"sallyport/core/liveness"
	"sallyport/core/location"
	"sallyport/core/sipmsg"
)

// In a domain with path = true the PBX is given the client's own contact, and a
// Path of ours (RFC 3327) whose user part names the flow on which the client
// registered (RFC 5626 §5.1): the instance's token, a mark of the flow, and a
// MAC. The PBX's requests come back with it as their Route.

const (
	wayFlow  = 'f'
	flowMark = 13 // characters, 65 bits
)

// pathUser names a flow of an instance.
func (p *Proxy) pathUser(token, flow string) string {
	body := token + string(wayFlow) + p.markOf(0, flow)
	return body + p.pathMAC(0, body)
}

func (p *Proxy) markOf(key int, flow string) string { return p.macOf(key, flowMark, "flow", flow) }

func (p *Proxy) pathMAC(key int, body string) string { return p.macOf(key, sealMAC, "path", body) }

func (p *Proxy) macOf(key, n int, words ...string) string {
	mac := hmac.New(sha256.New, p.cfg.TokenKeys[key])
	for _, s := range words {
		mac.Write([]byte(s))
		mac.Write([]byte{0})
	}
	return tokenText.EncodeToString(mac.Sum(nil))[:n]
}

// pathHolds says whether we made a Path's user part, with the newest key or the
// one before.
func (p *Proxy) pathHolds(s sealed) bool {
	for key := range p.cfg.TokenKeys {
		if hmac.Equal([]byte(s.mac), []byte(p.pathMAC(key, s.body))) {
			return true
		}
	}
	return false
}

// marks says whether a Path names a flow.
func (p *Proxy) marks(s sealed, flow string) bool {
	for key := range p.cfg.TokenKeys {
		if flow != "" && s.body[tokenLen+1:] == p.markOf(key, flow) {
			return true
		}
	}
	return false
}

// pathed finds the device to which the Path that a PBX's request has as its
// first Route leads. is reports whether there is such a Route.
func (p *Proxy) pathed(from *peer, req *sip.Request) (dev location.Device, status int, is bool) {
	h := sipmsg.Find(req, "Route")
	if h == nil {
		return dev, 0, false
	}
	uri, ok := routeURI(h)
	if !ok || uri.User == "" || !p.isOurs(from, &uri) {
		return dev, 0, false
	}
	s, ok := unseal(uri.User)
	if ok && s.way == 0 {
		if _, _, known := p.loc.ByToken(s.token); known {
			return dev, 0, false // an instance's token: the Request-URI says more
		}
	}
	if !ok || s.way != wayFlow || !p.pathHolds(s) {
		return dev, 403, true
	}
	dev, status = p.onPath(s)
	return dev, status, true
}

// onPath finds the device for the flow that a Path names. A flow that is gone
// is 430 (RFC 5626 §5.3.1), so that the PBX tries another of the device's; but
// a device that sleeps is reached by its push, whichever flow it had.
func (p *Proxy) onPath(s sealed) (location.Device, int) {
	dev, bound, known := p.loc.ByToken(s.token)
	if !known {
		return dev, 430
	}
	for _, b := range dev.Bindings {
		if p.marks(s, b.Flow) {
			return dev, 0
		}
	}
	switch {
	case bound.Flow != "": // it has registered anew meanwhile
		return dev, 0
	case dev.Flow() != "": // by another reg-id, which has a Path of its own
		return dev, 430
	case p.State(dev) == liveness.Gone:
		return dev, 430
	}
	return dev, 0
}

// pathContacts are the contacts of a REGISTER to a PBX with Path: the client's
// own, without its push tokens, and those of it that are over. They hold for
// as long as the PBX is asked for, not the client.
func (p *Proxy) pathContacts(reg *registration, expires time.Duration) (hs []sip.Header) {
	own := bare(reg.contact)
	hs = append(hs, sip.NewHeader("Contact", own.String()+";expires="+strconv.Itoa(int(expires/time.Second))))
	over := func(uri string) { hs = append(hs, sip.NewHeader("Contact", "<"+uri+">;expires=0")) }
	for _, c := range reg.ended {
		over(c.URI.WithoutPush().String())
	}
	// A client that comes with a new address would be called twice by a PBX
	// that tells contacts by their URI alone.
	dev, _ := p.loc.Device(reg.id)
	for _, b := range dev.Bindings {
		if b.RegID == reg.regID && b.URI != "" && bareURI(b.URI) != own.URI.String() {
			over(bareURI(b.URI))
		}
	}
	return hs
}

// bare is a contact as the PBX sees it: without push tokens (RFC 8599 §13) and
// expiry.
func bare(c sipmsg.Contact) sipmsg.NameAddr {
	na := c.NameAddr()
	na.URI, na.Params = na.URI.WithoutPush(), na.Params.Without("expires")
	return na
}

// bareURI is a binding's URI as the PBX knows it.
func bareURI(s string) string {
	u, err := sipmsg.ParseURI(s)
	if err != nil {
		return s
	}
	return u.WithoutPush().String()
}

// pathHeaders are the Path of a REGISTER and what says that we know Path. ob
// tells the PBX that the client keeps its flow (RFC 5626 §5.1); behind another
// proxy that is not ours to say.
func (p *Proxy) pathHeaders(reg *registration, to *peer) []sip.Header {
	value := "<sip:" + p.pathUser(reg.token, reg.st.from.flow.ID()) + "@" + p.addressFor(to.via) +
		";transport=" + strings.ToLower(to.via) + ";lr"
	if reg.outbound && len(reg.st.req.GetHeaders("Via")) == 1 {
		value += ";ob"
	}
	hs := []sip.Header{sip.NewHeader("Path", value+">")}
	tags := []string{"path"}
	for _, h := range sipmsg.All(reg.st.req, "Supported") {
		for tag := range strings.SplitSeq(h.Value(), ",") {
			if tag = strings.TrimSpace(tag); tag != "" && !slices.Contains(tags, strings.ToLower(tag)) {
				tags = append(tags, tag)
			}
		}
	}
	hs = append(hs, sip.NewHeader("Supported", strings.Join(tags, ", ")))
	return append(hs, sipmsg.All(reg.st.req, "Require")...)
}

// boundAs finds the client's own contact among those of a PBX's answer.
func (reg *registration) boundAs(c sipmsg.Contact) bool {
	if !reg.dom.Path {
		return c.URI.User == reg.token
	}
	if reg.fetch || reg.star || c.Star {
		return false
	}
	if in := reg.contact.Instance(); in != "" && c.Instance() == in && c.RegID() == reg.regID {
		return true
	}
	return c.URI.Equal(reg.contact.URI.WithoutPush())
}

// gruus are the pub-gruu and temp-gruu that a PBX gave the client's contact
// (RFC 5627 §3.1), which pass as they are.
func (reg *registration) gruus(res *sip.Response) (params string) {
	if !reg.dom.Path || res == nil {
		return reg.gruu
	}
	contacts, _ := sipmsg.Contacts(res)
	for _, c := range contacts {
		if !reg.boundAs(c) {
			continue
		}
		for _, name := range []string{"pub-gruu", "temp-gruu"} {
			if v, ok := c.Params.Get(name); ok {
				params += ";" + name + `="` + v + `"`
			}
		}
		break
	}
	return params
}

// ours says whether a contact of a PBX's answer is one that we list ourselves.
func (p *Proxy) ours(reg *registration, c sipmsg.Contact, devices []location.Device) bool {
	if _, _, known := p.loc.ByToken(c.URI.User); known || reg.boundAs(c) {
		return true
	}
	if !reg.dom.Path {
		return false
	}
	for _, d := range devices {
		for _, b := range d.Bindings {
			if bareURI(b.URI) == c.URI.String() || c.Instance() != "" && c.Instance() == b.Instance && c.RegID() == b.RegID {
				return true
			}
		}
	}
	return false
}

// confirmed looks whether the PBX knows Path: one that does repeats it (RFC
// 3327 §5.3). From one that does not, calls would go to addresses behind NATs.
func (p *Proxy) confirmed(reg *registration, res *sip.Response) {
	if !reg.dom.Path || reg.fetch || reg.star || reg.expires == 0 {
		return
	}
	if p.short.noPath(reg.dom.Name, sipmsg.Find(res, "Path") == nil) {
		p.log.Warn("the PBX does not confirm Path, so its calls may miss the phones: let it support Path "+
			"(Kamailio registrar use_path 1 and path_mode 1 or 2, Asterisk support_path=yes), or set path = false", "domain", reg.dom.Name)
	}
}

// noPath notes whether a domain's PBX left out the Path, and says whether that
// is news.
func (s *shortGrants) noPath(domain string, lacks bool) (news bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	news = lacks && !s.pathless[domain]
	if s.pathless == nil {
		s.pathless = make(map[string]bool)
	}
	s.pathless[domain] = lacks
	return news
}

// Pathless lists the domains with path = true whose PBX did not confirm the
// last Path it was given.
func (p *Proxy) Pathless() (domains []string) {
	p.short.mu.Lock()
	defer p.short.mu.Unlock()
	for d, lacks := range p.short.pathless {
		if lacks {
			domains = append(domains, d)
		}
	}
	return domains
}
