package sipproxy

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/emiago/sipgo/sip"

	"sallyport/core/location"
	"sallyport/core/registrar"
	"sallyport/core/sipmsg"
)

// defaultExpires is what a client gets that asks for no expiry (RFC 3261 §10.2).
const defaultExpires = 3600 * time.Second

// maxExpires bounds what a client may ask for.
const maxExpires = 30 * 24 * time.Hour

// A registration is one REGISTER of a client, read once.
type registration struct {
	st       *serverTx
	dom      *Domain
	aor      string
	id       location.DeviceID
	regID    int
	contact  sipmsg.Contact   // the one contact of a client; zero for a fetch
	fetch    bool             // no Contact: the client asks what is bound
	star     bool             // all of the AOR's bindings go
	expires  time.Duration    // asked by the client; 0 removes
	outbound bool             // the client uses RFC 5626
	ended    []sipmsg.Contact // of the client, that it takes back beside its own
	push     sipmsg.PushParams
	tokens   []location.Token
	offer    []string  // providers by which we say that we push (RFC 8599 §5.4)
	closer   bool      // another proxy, nearer to the client, pushes to it already
	ends     time.Time // of what the PBX granted; zero where nothing binds us
	token    string    // ours, towards the PBX; not needed for a refresh
	stale    string    // what it was, under a key that is no longer valid; "" for none

	heirOf []location.DeviceID // whose tokens it took over as a new device; set by enact

	gruu   string              // what the PBX named the contact before; "" for nothing
	void   bool                // a newer one has been granted; guarded by grants.mu
	spares []location.DeviceID // that registered after a star; guarded by grants.mu
}

// register takes a REGISTER. The PBX decides, or in a stand-alone domain our
// registrar; nothing is bound, nobody freed and no token kept before a 2xx.
func (p *Proxy) register(st *serverTx) {
	reg, status, reason := p.readRegister(st)
	if status != 0 {
		st.reply(status, reason)
		return
	}
	switch {
	case reg.dom.Registrar == nil && p.refreshes(reg):
		p.m.refreshed.Inc()
		p.settle(reg, nil, func() ([]location.DeviceID, error) {
			p.loc.Refresh(reg.id, reg.regID, time.Now().Add(reg.expires))
			return nil, nil
		})
	default:
		reg.token, reg.stale = p.tokenFor(reg.id, reg.regID)
		if reg.dom.Registrar != nil {
			p.registerHere(reg)
		} else {
			p.registerThere(reg)
		}
	}
}

// readRegister checks what a REGISTER must be to be forwarded at all.
func (p *Proxy) readRegister(st *serverTx) (reg *registration, status int, reason string) {
	to := sipmsg.Find(st.req, "To")
	aor, err := "", errors.New("no To")
	if to != nil {
		aor, err = sipmsg.AOROf(to)
	}
	domain := domainOf(aor)
	if err != nil || !strings.HasPrefix(aor, "sip:") || domain == "" {
		return nil, 400, "To is not an address-of-record"
	}
	reg = &registration{st: st, aor: aor, dom: p.domains[domain]}
	if reg.dom == nil {
		return nil, 404, "Domain Not Served Here"
	}
	// The registrar binds To, but it is the Request-URI that says which
	// registrar is asked (RFC 3261 §10.2): a foreign one has no say here.
	if !strings.EqualFold(st.req.Recipient.Host, domain) {
		return nil, 404, "Request-URI Is Not The Domain Of To"
	}
	if r := p.ownRoutes(st.from, st.req); r.bad || len(r.rest) > 0 || !p.onFlow(st.from, r.ids()) {
		return nil, 403, "Route Not Allowed"
	}
	contacts, fault := sipmsg.Contacts(st.req)
	if fault != nil {
		return nil, fault.Status, fault.Reason
	}
	reg.expires = askedExpires(st.req)
	if status, reason = reg.readContacts(contacts); status == 0 {
		p.identify(reg)
		status, reason = p.offerPush(reg)
	}
	return reg, status, reason
}

// readContacts finds the client's own contact. A client that also takes an old
// one of its own away (Expires 0 beside a live one) is common; two live ones
// are not one client (RFC 5626 §6).
func (reg *registration) readContacts(contacts []sipmsg.Contact) (status int, reason string) {
	if len(contacts) == 0 {
		reg.fetch = true
		return 0, ""
	}
	if contacts[0].Star {
		if len(contacts) > 1 || reg.expires != 0 {
			return 400, "Contact * needs Expires 0 and no other Contact"
		}
		reg.star = true
		return 0, ""
	}
	live := 0
	for _, c := range contacts {
		if c.Star {
			return 400, "Contact * needs Expires 0 and no other Contact"
		}
		if s, ok := c.Expires(); !ok && reg.expires > 0 || s > 0 {
			if live++; live == 1 {
				reg.contact = c
			}
			continue
		}
		reg.ended = append(reg.ended, c)
	}
	switch {
	case live > 1:
		return 400, "One Contact Only"
	case live == 0:
		reg.contact, reg.ended = contacts[0], contacts[1:]
	}
	if s, ok := reg.contact.Expires(); ok {
		reg.expires = time.Duration(s) * time.Second
	}
	reg.expires = min(reg.expires, maxExpires)
	return 0, ""
}

// identify names the device: by +sip.instance, or for a client without one by
// its Call-ID, which it keeps from one boot to the next (RFC 3261 §10.2.4).
func (p *Proxy) identify(reg *registration) {
	instance := reg.contact.Instance()
	if instance == "" {
		sum := sha256.Sum256([]byte(headerValue(reg.st.req, "Call-ID")))
		instance = "call-id:" + hex.EncodeToString(sum[:10])
	}
	reg.id = location.DeviceID{AOR: reg.aor, Instance: instance}
	reg.regID = reg.contact.RegID()
	reg.outbound = reg.regID > 0 && reg.contact.Instance() != "" &&
		(listed(reg.st.req, "Supported", "outbound") || listed(reg.st.req, "Require", "outbound"))
	reg.push = reg.contact.Push()
	now := time.Now()
	for _, t := range reg.push.Tokens {
		reg.tokens = append(reg.tokens, location.Token{
			Provider: reg.push.Provider, Kind: t.Kind, App: t.App, Param: reg.push.Param,
			Value: t.Value, Sandbox: reg.push.Sandbox, Key: reg.push.Key, Auth: reg.push.Auth, Registered: now,
		})
	}
}

// askedExpires is the Expires header, or the default.
func askedExpires(req *sip.Request) time.Duration {
	v := headerValue(req, "Expires")
	if v == "" {
		return defaultExpires
	}
	n, err := strconv.ParseUint(v, 10, 32)
	if err != nil {
		return defaultExpires
	}
	return min(time.Duration(n)*time.Second, maxExpires)
}

// refreshes says whether the PBX need not be asked (decision 4): it accepted
// the same AOR, instance, contact and tokens on this very flow, its grant is not
// half used, and it was reachable ever since. All else goes to the PBX, which may challenge.
func (p *Proxy) refreshes(reg *registration) bool {
	if reg.fetch || reg.star || reg.expires <= 0 {
		return false
	}
	b, ok := p.loc.OnFlow(reg.st.from.flow.ID(), reg.id, reg.regID)
	if !ok {
		return false
	}
	now := time.Now()
	half := b.Granted.Add(b.GrantEnds.Sub(b.Granted) / 2)
	if !sameContact(b.Contact, reg.contact.Raw) || !now.Before(half) || p.outages.void(reg.dom.Name, b.Granted) {
		return false
	}
	// Nobody is promised more than what is left of the PBX's grant.
	reg.expires = min(reg.expires, b.GrantEnds.Sub(now).Truncate(time.Second))
	reg.gruu, reg.ends = b.GRUUs, b.GrantEnds
	return reg.expires > 0
}

// sameContact compares two Contact values but for their expiry.
func sameContact(a, b string) bool {
	if a == b {
		return true
	}
	x, errX := sipmsg.ParseNameAddr(a)
	y, errY := sipmsg.ParseNameAddr(b)
	if errX != nil || errY != nil {
		return false
	}
	return x.URI.String() == y.URI.String() &&
		x.Params.Without("expires").String() == y.Params.Without("expires").String()
}

// registerHere asks the registrar of a stand-alone domain (decision 9).
func (p *Proxy) registerHere(reg *registration) {
	st := reg.st
	user, err := reg.dom.Registrar.Verify(string(st.req.Method), st.req.Recipient.String(), authorizations(st.req))
	switch {
	case err != nil:
		p.m.registers.WithLabelValues("challenged").Inc()
		var extra []sip.Header
		for _, c := range reg.dom.Registrar.Challenge(errors.Is(err, registrar.ErrStale)) {
			extra = append(extra, sip.NewHeader("WWW-Authenticate", c))
		}
		st.reply(401, "", extra...)
	case "sip:"+user+"@"+reg.dom.Name != reg.aor:
		st.reply(403, "")
	default:
		grant := min(reg.expires, reg.dom.UpstreamExpires)
		p.settle(reg, nil, func() ([]location.DeviceID, error) { return p.enact(reg, grant, nil) })
	}
}

func authorizations(req *sip.Request) (values []string) {
	for _, h := range sipmsg.All(req, "Authorization") {
		values = append(values, h.Value())
	}
	return values
}

// registerThere forwards a REGISTER to the PBX with a contact of ours.
func (p *Proxy) registerThere(reg *registration) {
	p.grants.begin(reg)
	p.askPBX(reg)
}

// upstreamRegister is what the PBX sees: our contact, a long expiry, and
// nothing of outbound or push, which end here.
func (p *Proxy) upstreamRegister(reg *registration, to *peer) *sip.Request {
	d := draft{
		from: reg.st.req, uri: reg.st.req.Recipient, vias: true, newCtc: true,
		drop: append([]string{"Expires", "Supported", "Require"}, assertedByClients...),
	}
	for _, provider := range reg.offer { // topmost (RFC 6809 §4.2.1)
		d.first = append(d.first, featureCaps(provider, ""))
	}
	if reg.dom.Path && !reg.fetch {
		d.first = append(d.first, p.pathHeaders(reg, to)...)
	} else {
		d.first = append(d.first, keepOptions(reg.st.req)...)
	}
	expires := reg.dom.UpstreamExpires
	switch {
	case reg.fetch:
	case reg.star:
		d.contact = []sip.Header{sip.NewHeader("Contact", "*")}
		expires = 0
	default:
		if reg.expires == 0 {
			expires = 0
		}
		if reg.dom.Path {
			d.contact = p.pathContacts(reg, expires)
			break
		}
		secs := strconv.Itoa(int(expires / time.Second))
		d.contact = []sip.Header{sip.NewHeader("Contact", "<"+p.contactURI(reg.token, to.via)+">;expires="+secs)}
		if reg.stale != "" {
			d.contact = append(d.contact, sip.NewHeader("Contact", "<"+p.contactURI(reg.stale, to.via)+">;expires=0"))
		}
	}
	if !reg.fetch {
		d.contact = append(d.contact, sip.NewHeader("Expires", strconv.Itoa(int(expires/time.Second))))
	}
	return d.build(p.newVia(to, reg.st.req))
}

// endsHere are option tags that are settled between the client and us.
var endsHere = map[string]bool{"path": true, "outbound": true, "gruu": true}

// keepOptions are Supported and Require without what ends here.
func keepOptions(req *sip.Request) (hs []sip.Header) {
	for _, name := range []string{"Supported", "Require"} {
		var keep []string
		for _, h := range sipmsg.All(req, name) {
			for tag := range strings.SplitSeq(h.Value(), ",") {
				if tag = strings.TrimSpace(tag); tag != "" && !endsHere[strings.ToLower(tag)] {
					keep = append(keep, tag)
				}
			}
		}
		if len(keep) > 0 {
			hs = append(hs, sip.NewHeader(name, strings.Join(keep, ", ")))
		}
	}
	return hs
}
