package sipmsg

import "github.com/emiago/sipgo/sip"

// mandatory are the headers every message has (RFC 3261 §8.1.1). A missing
// Max-Forwards is the proxy's to fill in (§16.6 step 3).
var mandatory = []struct {
	name string
	here func(sip.Message) bool
}{
	{"Via", func(m sip.Message) bool { return m.Via() != nil }},
	{"From", func(m sip.Message) bool { return m.From() != nil }},
	{"To", func(m sip.Message) bool { return m.To() != nil }},
	{"Call-ID", func(m sip.Message) bool { return m.CallID() != nil }},
	{"CSeq", func(m sip.Message) bool { return m.CSeq() != nil }},
}

// validate checks what no header shows by itself.
func (b *builder) validate() {
	for _, h := range mandatory {
		if !h.here(b.msg) {
			b.refuse(bad(h.name, "missing"))
		}
	}
	if b.fault != nil || b.request == nil {
		return
	}
	if b.request.CSeq().MethodName != b.request.Method {
		b.refuse(bad("CSeq", "method differs from the request's"))
	}
	if b.request.Method == sip.REGISTER {
		b.validateRegister()
	}
}

// validateRegister wants an address-of-record in To (RFC 4475 §3.3.5).
func (b *builder) validateRegister() {
	switch b.request.To().Address.Scheme {
	case "sip", "sips", "tel":
	default:
		b.refuse(bad("To", "not an address-of-record"))
	}
}
