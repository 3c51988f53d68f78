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

// Get is the value of the first header called name, empty when there is none.
// Names are compared without regard to case; write them canonically.
func Get(m sip.Message, name string) string {
	for _, h := range m.GetHeaders(name) {
		return h.Value()
	}
	return ""
}

// Values are the values of all headers called name, in order.
func Values(m sip.Message, name string) []string {
	hs := m.GetHeaders(name)
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
	for _, h := range m.GetHeaders(name) {
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

// Bytes is m as it goes on the wire.
func Bytes(m sip.Message) []byte {
	var w buffer
	w.b = make([]byte, 0, 1024+len(m.Body()))
	m.StringWrite(&w)
	return w.b
}

// buffer is the string writer sipgo wants.
type buffer struct{ b []byte }

func (w *buffer) WriteString(s string) (int, error) {
	w.b = append(w.b, s...)
	return len(s), nil
}
