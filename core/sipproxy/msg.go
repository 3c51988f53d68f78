package sipproxy

import (
	"crypto/sha256"
	mrand "math/rand/v2"
	"net"
	"strconv"
	"strings"

	"github.com/emiago/sipgo/sip"

	"sallyport/core/sipmsg"
)

// headerClientState is ours: a client says with it, on any request, whether
// its user is looking ("active" or "inactive"; XEP-0352 is its model).
const headerClientState = "Client-State"

// assertedByClients are headers that only the inside may assert (decision 4).
var assertedByClients = []string{
	"P-Asserted-Identity", "Remote-Party-ID", "Path", "P-Charging-Vector",
	"P-Charging-Function-Addresses", "P-Associated-URI", "Service-Route", headerClientState,
}

// assertedToClients are those that no other client hears from a client: what
// it may assert to the inside about itself besides (RFC 3325 §9.2), and what it
// shows to a registrar.
var assertedToClients = append([]string{"P-Preferred-Identity", "Authorization", "Proxy-Authorization"}, assertedByClients...)

// challenges says whether a client asks another client for credentials: with
// the answer it could guess the password at leisure. What a client asks of a
// caller behind the PBX is theirs to settle.
func challenges(caller, from *peer, res *sip.Response) bool {
	return caller.client() && from.client() && (res.StatusCode == 401 || res.StatusCode == 407)
}

// A draft is a request on its way through: the one that came, and what is to
// be different when it leaves. The original is shared and never changed.
type draft struct {
	from    *sip.Request
	uri     sip.Uri
	vias    bool         // keep the Via headers that came
	routes  []sip.Header // Route headers that stay
	drop    []string     // headers that go
	first   []sip.Header // headers that come before all others, after Via
	contact []sip.Header // takes the place of Contact, if newCtc
	newCtc  bool
}

// build writes the draft out. Header values that are not touched are the very
// ones that came.
func (d *draft) build(via *sip.ViaHeader) *sip.Request {
	out := sip.NewRequest(d.from.Method, d.uri)
	out.SipVersion = d.from.SipVersion
	out.AppendHeader(via)
	if d.vias {
		appendAll(out, sipmsg.All(d.from, "Via"))
	}
	appendAll(out, d.routes)
	appendAll(out, d.first)
	hops := 70
	for _, h := range d.from.Headers() {
		name := h.Name()
		switch {
		case name == "Via", name == "Route", dropped(d.drop, name):
			continue
		case name == "Contact" && d.newCtc:
			continue
		case name == "Max-Forwards":
			if n, err := strconv.Atoi(strings.TrimSpace(h.Value())); err == nil {
				hops = n - 1
			}
			continue
		case name == "Content-Length":
			continue
		}
		out.AppendHeader(h)
	}
	appendAll(out, d.contact)
	mf := sip.MaxForwardsHeader(max(hops, 0))
	out.AppendHeader(&mf)
	out.SetBody(d.from.Body())
	out.SetTransport(via.Transport)
	return out
}

func appendAll(m sip.Message, hs []sip.Header) {
	for _, h := range hs {
		m.AppendHeader(h)
	}
}

func dropped(names []string, name string) bool {
	for _, n := range names {
		if strings.EqualFold(n, name) {
			return true
		}
	}
	return false
}

// via makes our own Via. Its branch ends in a hash of what RFC 3261 §16.6 8
// names, so that the request is known again when it comes back unchanged.
func (p *Proxy) newVia(to *peer, req *sip.Request) *sip.ViaHeader {
	host, port := p.advertiseHost, p.advertisePort
	switch {
	case to.client():
		host, port = splitHostPort(to.flow.Info().Public, 0)
	case to.via == "TLS":
		host, port = p.tlsHost, p.tlsPort
	}
	v := &sip.ViaHeader{
		ProtocolName: "SIP", ProtocolVersion: "2.0", Transport: to.via,
		Host: host, Port: port, Params: sip.NewParams(),
	}
	v.Params.Add("branch", "z9hG4bK"+random(16)+"."+loopHash(req))
	if !to.client() && to.via == "TLS" {
		v.Params.Add("alias", "") // RFC 5923: requests for this address may come on this connection
	}
	return v
}

// loopHash folds what makes a request the same request.
func loopHash(req *sip.Request) string {
	var room [1024]byte
	b := sipmsg.AppendURI(room[:0], &req.Recipient)
	for _, name := range [...]string{"From", "To", "Call-ID", "Route", "Proxy-Require", "Proxy-Authorization"} {
		b = sipmsg.AppendValues(append(b, '\n'), req, name)
	}
	if c := req.CSeq(); c != nil {
		b = strconv.AppendUint(b, uint64(c.SeqNo), 10)
	}
	return shortHash(sha256.Sum256(b))
}

// looped says whether the request has been here before, as it is now
// (RFC 3261 §16.3 4).
func (p *Proxy) looped(req *sip.Request) bool {
	hash := ""
	for _, h := range sipmsg.All(req, "Via") {
		host, port, branch := viaParts(h)
		plain := strings.EqualFold(host, p.advertiseHost) && (port == p.advertisePort || port == 0)
		if !plain && (!strings.EqualFold(host, p.tlsHost) || port != p.tlsPort) {
			continue
		}
		if hash == "" {
			hash = loopHash(req)
		}
		if strings.HasSuffix(branch, "."+hash) {
			return true
		}
	}
	return false
}

// viaParts reads sent-by and branch of a Via header. All but the topmost are
// kept as text, and what is not ours need not be understood.
func viaParts(h sip.Header) (host string, port int, branch string) {
	if top, ok := h.(*sip.ViaHeader); ok {
		branch, _ = top.Params.Get("branch")
		return top.Host, top.Port, branch
	}
	sentBy, params, _ := strings.Cut(h.Value(), ";")
	if i := strings.LastIndexAny(sentBy, " \t"); i >= 0 {
		host, port = splitHostPort(sentBy[i+1:], 0)
	}
	for param := range strings.SplitSeq(params, ";") {
		if k, v, _ := strings.Cut(strings.TrimSpace(param), "="); strings.EqualFold(k, "branch") {
			branch = v
		}
	}
	return host, port, branch
}

// reply makes a response of our own and hands it to the transaction.
func (st *serverTx) reply(status int, reason string, extra ...sip.Header) {
	res := sipmsg.Response(st.req, status, reason)
	if status == 503 && len(extra) == 0 { // it is us who cannot, for a while
		extra = []sip.Header{retryAfter(retrySoon + mrand.N(retryLate-retrySoon))}
	}
	appendAll(res, extra)
	res.SetTransport(st.from.via)
	st.respond(res)
}

// back makes the response that goes to the requester from one that came for a
// branch: the requester's own Via headers, and without push tokens and what
// drop names.
func (st *serverTx) back(res *sip.Response, drop ...string) *sip.Response {
	out := sip.NewResponse(res.StatusCode, res.Reason)
	out.SipVersion = res.SipVersion
	appendAll(out, sipmsg.All(st.req, "Via"))
	contacts, changed := withoutPush(res)
	for _, h := range res.Headers() {
		name := h.Name()
		if name == "Via" || name == "Content-Length" || changed && name == "Contact" || dropped(drop, name) {
			continue
		}
		out.AppendHeader(h)
	}
	if changed && !dropped(drop, "Contact") {
		appendAll(out, contacts)
	}
	out.SetBody(res.Body())
	out.SetTransport(st.from.via)
	return out
}

// withoutPush returns the Contact headers of m without pn-* in their URIs: a
// push token is nobody else's business (RFC 8599 §13). What a dialog is known
// by stays, if it is of a sane length: the far end has to send it back.
func withoutPush(m sip.Message) (contacts []sip.Header, changed bool) {
	for _, h := range sipmsg.All(m, "Contact") {
		v := h.Value()
		if !mentionsPush(v) {
			contacts = append(contacts, h)
			continue
		}
		na, err := sipmsg.ParseNameAddr(v)
		if err != nil {
			contacts = append(contacts, h)
			continue
		}
		na.URI = na.URI.WithoutTokens()
		if v, ok := na.URI.Params.Get("pn-purr"); ok && len(v) > maxPurr {
			na.URI = na.URI.WithoutPush()
		}
		contacts, changed = append(contacts, sip.NewHeader("Contact", na.String())), true
	}
	return contacts, changed
}

// mentionsPush says whether a Contact may hold a parameter of RFC 8599.
func mentionsPush(v string) bool {
	for {
		i := strings.IndexByte(v, '-')
		if i < 0 {
			return false
		}
		if i >= 2 && v[i-2]|0x20 == 'p' && v[i-1]|0x20 == 'n' {
			return true
		}
		v = v[i+1:]
	}
}

// hasToTag says whether the request is inside a dialog.
func hasToTag(req *sip.Request) bool {
	to := req.To()
	return to != nil && to.Params.Has("tag")
}

// headerValue returns the value of the first header of that name, trimmed.
func headerValue(m sip.Message, name string) string {
	return strings.TrimSpace(sipmsg.Get(m, name))
}

// listed says whether a comma-separated header holds the token, in any case.
func listed(m sip.Message, name, token string) bool {
	for _, h := range sipmsg.All(m, name) {
		for part := range strings.SplitSeq(h.Value(), ",") {
			if strings.EqualFold(strings.TrimSpace(part), token) {
				return true
			}
		}
	}
	return false
}

// splitHostPort cuts "host:port"; a missing port is def.
func splitHostPort(s string, def int) (host string, port int) {
	h, ps, err := net.SplitHostPort(s)
	if err != nil {
		return strings.Trim(s, "[]"), def
	}
	n, err := strconv.Atoi(ps)
	if err != nil {
		return h, def
	}
	return h, n
}
