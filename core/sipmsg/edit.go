package sipmsg

import (
	"slices"
	"strconv"
	"strings"

	"github.com/emiago/sipgo/sip"
)

// Editor is what the edits need of a *sip.Request or *sip.Response.
type Editor interface {
	sip.Message
	Headers() []sip.Header
	RemoveHeader(name string) bool
	GetHeader(name string) sip.Header
	ReplaceHeader(h sip.Header)
}

// headersOf are all headers of m, in order.
func headersOf(m sip.Message) []sip.Header {
	switch m := m.(type) {
	case *sip.Request:
		return m.Headers()
	case *sip.Response:
		return m.Headers()
	}
	return nil
}

// called says whether a header has that name. Parse made names canonical, so
// that the first comparison nearly always decides; sipgo's own look-ups put
// every name they pass into lower case, in new memory.
func called(h sip.Header, name string) bool {
	n := h.Name()
	return n == name || len(n) == len(name) && strings.EqualFold(n, name)
}

// Find is the first header called name, nil when there is none. Names are
// compared without regard to case; write them canonically.
func Find(m sip.Message, name string) sip.Header {
	for _, h := range headersOf(m) {
		if called(h, name) {
			return h
		}
	}
	return nil
}

// All are the headers called name, in order. They belong to m.
func All(m sip.Message, name string) (all []sip.Header) {
	for _, h := range headersOf(m) {
		if called(h, name) {
			all = append(all, h)
		}
	}
	return all
}

// Get is the value of the first header called name, empty when there is none.
func Get(m sip.Message, name string) string {
	if h := Find(m, name); h != nil {
		return h.Value()
	}
	return ""
}

// Values are the values of all headers called name, in order.
func Values(m sip.Message, name string) []string {
	hs := All(m, name)
	out := make([]string, len(hs))
	for i, h := range hs {
		out[i] = h.Value()
	}
	return out
}

// Tokens are the comma-separated elements of all headers called name, as for
// Supported, Require and Allow. Malformed values give none.
func Tokens(m sip.Message, name string) []string {
	var out []string
	for _, v := range Values(m, name) {
		if splitList(v, func(t string) { out = append(out, t) }) != nil {
			continue
		}
	}
	return out
}

// HasToken reports whether a header called name lists token, in any case.
func HasToken(m sip.Message, name, token string) bool {
	return slices.ContainsFunc(Tokens(m, name), func(t string) bool { return strings.EqualFold(t, token) })
}

// Remove takes out every header called by any of names, in any case, and
// returns how many there were.
func Remove(m Editor, names ...string) int {
	removed := 0
	for _, name := range names {
		for {
			h := m.GetHeader(name)
			if h == nil {
				break
			}
			// sipgo remembers what it read from a text header, and
			// forgets it only when a typed one is removed.
			if blank, ok := blanks[h.Name()]; ok {
				m.ReplaceHeader(blank())
			}
			if !m.RemoveHeader(h.Name()) {
				break
			}
			removed++
		}
	}
	return removed
}

// blanks make an empty header of those types that sipgo remembers.
var blanks = map[string]func() sip.Header{
	"Via":          func() sip.Header { return &sip.ViaHeader{} },
	"From":         func() sip.Header { return &sip.FromHeader{} },
	"To":           func() sip.Header { return &sip.ToHeader{} },
	"Contact":      func() sip.Header { return &sip.ContactHeader{} },
	"Route":        func() sip.Header { return &sip.RouteHeader{} },
	"Record-Route": func() sip.Header { return &sip.RecordRouteHeader{} },
}

// Set replaces all headers called name by one of that value, kept as text.
func Set(m Editor, name, value string) {
	Remove(m, name)
	m.AppendHeader(sip.NewHeader(name, value))
}

// SetMaxForwards sets the hop limit of req without touching the copies that
// share the old one.
func SetMaxForwards(req *sip.Request, n uint8) {
	h := sip.MaxForwardsHeader(n)
	if req.GetHeader("max-forwards") == nil {
		req.AppendHeader(&h)
		return
	}
	req.ReplaceHeader(&h)
}

// SetExpires sets the Expires header, in seconds.
func SetExpires(m Editor, seconds int) {
	Set(m, "Expires", strconv.Itoa(seconds))
}

// Routes reads all addresses of the headers called name, one or several to a
// header ("Route", "Record-Route", "Path", "P-Associated-URI"…), in their
// order, with the parameters that sipgo's own types lose.
func Routes(m sip.Message, name string) ([]NameAddr, *Fault) {
	var out []NameAddr
	for _, h := range All(m, name) {
		var fault *Fault
		err := splitList(h.Value(), func(v string) {
			n, err := ParseNameAddr(v)
			if err != nil && fault == nil {
				fault = bad(name, err.Error())
			}
			out = append(out, n)
		})
		if err != nil {
			return nil, bad(name, err.Error())
		}
		if fault != nil {
			return nil, fault
		}
	}
	return out, nil
}
