package sipmsg

import (
	"math"
	"strings"

	"github.com/emiago/sipgo/sip"
)

// via keeps the top Via typed, for it gets parameters, and the others as they
// came, for responses carry them back.
func (b *builder) via(value string) {
	h, err := parseVia(value)
	if err != nil {
		b.count++
		b.refuse(bad("Via", err.Error()))
		return
	}
	if h.ProtocolVersion != "2.0" || !strings.EqualFold(h.ProtocolName, "SIP") {
		b.refuse(bad("Via", "protocol is not SIP/2.0"))
	}
	if branch, ok := h.Params.Get("branch"); ok && branch == sip.RFC3261BranchMagicCookie {
		b.refuse(bad("Via", "branch has no identifier"))
	}
	if b.vias++; b.vias == 1 {
		b.add(h)
		return
	}
	b.add(sip.NewHeader("Via", value))
}

func (b *builder) route(value string) {
	b.routes++
	n, uri, ok := b.address("Route", value)
	if !ok {
		return
	}
	// The top Route is this proxy's or refused, so it may lose parameters
	// that sipgo's type has no room for.
	h := &sip.RouteHeader{Address: uri}
	if b.routes == 1 || writes(h, n.Raw) {
		b.add(h)
		return
	}
	b.add(sip.NewHeader("Route", value))
}

func (b *builder) recordRoute(value string) {
	if b.request == nil {
		b.add(sip.NewHeader("Record-Route", value))
		return
	}
	n, uri, ok := b.address("Record-Route", value)
	if !ok {
		return
	}
	if h := (&sip.RecordRouteHeader{Address: uri}); writes(h, n.Raw) {
		b.add(h)
		return
	}
	b.add(sip.NewHeader("Record-Route", value))
}

func (b *builder) from(value string) {
	n, uri, ok := b.address("From", value)
	if !ok {
		return
	}
	h := &sip.FromHeader{DisplayName: rawDisplay(value), Address: uri, Params: sipParams(n.Params, false)}
	if writes(h, value) {
		b.add(h)
		return
	}
	b.add(sip.NewHeader("From", readable(n)))
}

func (b *builder) to(value string) {
	n, uri, ok := b.address("To", value)
	if !ok {
		return
	}
	h := &sip.ToHeader{DisplayName: rawDisplay(value), Address: uri, Params: sipParams(n.Params, false)}
	if writes(h, value) {
		b.add(h)
		return
	}
	b.add(sip.NewHeader("To", readable(n)))
}

// contact checks a request's Contact and keeps its text. A response's is
// nobody's to refuse.
func (b *builder) contact(value string) {
	if b.request != nil {
		if _, err := parseContact(value); err != nil {
			b.count++
			b.refuse(bad("Contact", err.Error()))
			return
		}
	}
	b.add(sip.NewHeader("Contact", value))
}

func (b *builder) callID(value string) {
	if value == "" || strings.ContainsAny(value, " \t") {
		b.count++
		b.refuse(bad("Call-ID", "empty or with white space"))
		return
	}
	h := sip.CallIDHeader(value)
	b.add(&h)
}

func (b *builder) cseq(value string) {
	digits, method := value, ""
	if i := strings.IndexAny(value, " \t"); i >= 0 {
		digits, method = value[:i], trim(value[i:])
	}
	n, ok := parseUint(digits, math.MaxInt32) // RFC 3261 §8.1.1.5
	if !ok || !isToken(method) {
		b.count++
		b.refuse(bad("CSeq", "not a number below 2^31 and a method"))
		return
	}
	b.add(&sip.CSeqHeader{SeqNo: uint32(n), MethodName: sip.RequestMethod(method)})
}

func (b *builder) maxForwards(value string) {
	n, ok := parseUint(value, 255) // RFC 3261 §20.22
	if !ok {
		b.count++
		if b.request != nil {
			b.refuse(bad("Max-Forwards", "not a number from 0 to 255"))
		}
		return
	}
	h := sip.MaxForwardsHeader(n)
	b.add(&h)
}

func (b *builder) contentLength(value string) {
	n, ok := parseUint(value, math.MaxInt32)
	if !ok {
		b.count++
		b.refuse(fatal("Content-Length", "not a number"))
		return
	}
	b.length = int(n)
	h := sip.ContentLengthHeader(n)
	b.add(&h)
}

func (b *builder) expires(value string) {
	if _, ok := parseUint(value, math.MaxUint32); !ok && b.request != nil {
		b.count++
		b.refuse(bad("Expires", "not a number below 2^32"))
		return
	}
	b.add(sip.NewHeader("Expires", value))
}

// address reads a name-addr header and its URI in sipgo's form.
func (b *builder) address(name, value string) (NameAddr, sip.Uri, bool) {
	n, text, err := parseNameAddr(value)
	if err == nil {
		u, f := sipURI(text)
		if f == nil {
			return n, u, true
		}
		err = errURI
	}
	b.count++
	b.refuse(bad(name, err.Error()))
	return NameAddr{}, sip.Uri{}, false
}

// rawDisplay is the display name as sipgo holds it: the quotes taken off, the
// escapes left. Names without quotes give text that sipgo would quote, so the
// comparison with the original fails and the original is kept.
func rawDisplay(value string) string {
	if value[0] != '"' {
		open := strings.IndexByte(value, '<')
		return trim(value[:max(open, 0)])
	}
	end, err := scan(value, "<", false)
	if err != nil {
		return ""
	}
	quoted := trim(value[:end])
	return quoted[1 : len(quoted)-1]
}

// readable is n's text as it came when sipgo's accessors read the same tag
// from it as we do, else n written anew.
func readable(n NameAddr) string {
	var u sip.Uri
	var p sip.HeaderParams
	if _, err := sip.ParseAddressValue(n.Raw, &u, &p); err == nil {
		if got, _ := p.Get("tag"); got == n.Tag() && u.Host != "" == (n.URI.Host != "") {
			return n.Raw
		}
	}
	for i := range n.Params {
		n.Params[i].Name = lower(n.Params[i].Name)
	}
	return n.String()
}

// writes reports whether h is written with exactly that value.
func writes(h sip.Header, value string) bool {
	var room [512]byte
	return string(appendValue(room[:0], h)) == value
}
