package sipmsg

import (
	"net"
	"strconv"
	"strings"

	"github.com/emiago/sipgo/sip"
)

// Bytes is m as it goes on the wire.
func Bytes(m sip.Message) []byte {
	return Append(make([]byte, 0, 1024+len(m.Body())), m)
}

// Append adds m to b as it goes on the wire: what sipgo writes itself, without
// the memory that this takes for every host, URI and number.
func Append(b []byte, m sip.Message) []byte {
	switch m := m.(type) {
	case *sip.Request:
		b = append(b, m.Method...)
		b = append(b, ' ')
		b = AppendURI(b, &m.Recipient)
		b = append(b, ' ')
		b = append(b, m.SipVersion...)
	case *sip.Response:
		b = append(b, m.SipVersion...)
		b = append(b, ' ')
		b = strconv.AppendInt(b, int64(m.StatusCode), 10)
		b = append(b, ' ')
		b = append(b, m.Reason...)
	}
	b = append(b, "\r\n"...)
	for _, h := range headersOf(m) {
		b = append(b, h.Name()...)
		b = append(b, ": "...)
		b = appendValue(b, h)
		b = append(b, "\r\n"...)
	}
	b = append(b, "\r\n"...)
	return append(b, m.Body()...)
}

// AppendValues adds the values of all headers called name, one right after the
// other.
func AppendValues(b []byte, m sip.Message, name string) []byte {
	for _, h := range headersOf(m) {
		if called(h, name) {
			b = appendValue(b, h)
		}
	}
	return b
}

// appendValue adds the value of a header.
func appendValue(b []byte, h sip.Header) []byte {
	switch h := h.(type) {
	case *sip.ViaHeader:
		b = append(b, h.ProtocolName...)
		b = append(b, '/')
		b = append(b, h.ProtocolVersion...)
		b = append(b, '/')
		b = append(b, h.Transport...)
		b = append(b, ' ')
		b = appendHostPort(b, h.Host, h.Port)
		return appendParams(b, h.Params, ';', ';')
	case *sip.FromHeader:
		return appendAddress(b, h.DisplayName, &h.Address, h.Params)
	case *sip.ToHeader:
		return appendAddress(b, h.DisplayName, &h.Address, h.Params)
	case *sip.RouteHeader:
		return appendAddress(b, "", &h.Address, nil)
	case *sip.RecordRouteHeader:
		return appendAddress(b, "", &h.Address, nil)
	case *sip.CSeqHeader:
		b = strconv.AppendUint(b, uint64(h.SeqNo), 10)
		b = append(b, ' ')
		return append(b, h.MethodName...)
	case *sip.MaxForwardsHeader:
		return strconv.AppendUint(b, uint64(*h), 10)
	case *sip.ContentLengthHeader:
		return strconv.AppendUint(b, uint64(*h), 10)
	}
	return append(b, h.Value()...) // kept as text, or rare
}

func appendAddress(b []byte, display string, uri *sip.Uri, params sip.HeaderParams) []byte {
	if display != "" {
		b = append(b, '"')
		b = append(b, display...)
		b = append(b, `" `...)
	}
	b = append(b, '<')
	b = AppendURI(b, uri)
	b = append(b, '>')
	return appendParams(b, params, ';', ';')
}

// AppendURI adds a URI as it goes on the wire.
func AppendURI(b []byte, u *sip.Uri) []byte {
	if u.Scheme == "" {
		b = append(b, "sip"...)
	}
	b = append(b, u.Scheme...)
	b = append(b, ':')
	if raw := u.Raw(); raw != "" {
		return append(b, raw...)
	}
	if u.HierarhicalSlashes {
		b = append(b, "//"...)
	}
	if u.User != "" {
		b = append(b, u.User...)
		if u.Password != "" {
			b = append(b, ':')
			b = append(b, u.Password...)
		}
		b = append(b, '@')
	}
	b = appendHostPort(b, u.Host, u.Port)
	b = appendParams(b, u.UriParams, ';', ';')
	return appendParams(b, u.Headers, '?', '&')
}

// appendHostPort puts an IPv6 address into the brackets that sipgo keeps it
// without.
func appendHostPort(b []byte, host string, port int) []byte {
	if strings.IndexByte(host, ':') >= 0 && net.ParseIP(host) != nil {
		b = append(b, '[')
		b = append(b, host...)
		b = append(b, ']')
	} else {
		b = append(b, host...)
	}
	if port > 0 {
		b = append(b, ':')
		b = strconv.AppendInt(b, int64(port), 10)
	}
	return b
}

// appendParams adds parameters, the first after one separator, the others
// after another. Values with white space lost their quotes when they were read.
func appendParams(b []byte, params sip.HeaderParams, first, next byte) []byte {
	sep := first
	for _, p := range params {
		b = append(b, sep)
		sep = next
		b = append(b, p.K...)
		switch {
		case p.V == "":
		case strings.ContainsAny(p.V, " \t"):
			b = append(b, `="`...)
			b = append(b, p.V...)
			b = append(b, '"')
		default:
			b = append(b, '=')
			b = append(b, p.V...)
		}
	}
	return b
}
