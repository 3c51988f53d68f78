package stanza

import "strings"

// Namespaces of a stream itself.
const (
	NSClient  = "jabber:client"                       // RFC 6120 §4.8.2
	NSStreams = "http://etherx.jabber.org/streams"    // RFC 6120 §4.8.1
	NSFraming = "urn:ietf:params:xml:ns:xmpp-framing" // RFC 7395 §3.3.1
)

// The ends of a stream, on TCP and on a WebSocket.
const (
	StreamEnd = "</stream:stream>"
	FrameEnd  = "<close xmlns='" + NSFraming + "'/>"
)

// Stream is what the header of a stream says (RFC 6120 §4.7), the same on TCP
// and on a WebSocket. "" stands for an attribute that is not there.
type Stream struct {
	To, From, ID, Version, Lang string // unescaped
}

// StreamOf reads the header of a stream, <stream:stream> or <open/>. Any other
// element, and a content namespace that is not jabber:client and the default,
// is [ErrNamespace].
func StreamOf(e *Element) (Stream, error) {
	switch {
	case e.Is(NSFraming, "open"):
	case e.Is(NSStreams, "stream") && e.of.content() == NSClient:
	default:
		return Stream{}, ErrNamespace
	}
	s := Stream{
		To: Unescape(e.Attr("to")), From: Unescape(e.Attr("from")), ID: Unescape(e.Attr("id")),
		Version: Unescape(e.Attr("version")),
	}
	for i := range e.Attrs {
		if a := &e.Attrs[i]; string(a.Prefix) == "xml" && string(a.Local) == "lang" {
			s.Lang = Unescape(a.Value)
		}
	}
	return s, nil
}

// content is the default namespace of the stream.
func (c *Cutter) content() string {
	for _, d := range c.base {
		if len(d.prefix) == 0 {
			return string(d.uri)
		}
	}
	return ""
}

// AppendHeader appends the header of a stream on TCP, with an XML declaration.
// It declares jabber:client and the prefix stream, and nothing else.
func (s Stream) AppendHeader(dst []byte) []byte {
	dst = append(dst, "<?xml version='1.0'?><stream:stream xmlns='"+NSClient+"' xmlns:stream='"+NSStreams+"'"...)
	return append(s.append(dst), '>')
}

// AppendOpen appends the header of a stream on a WebSocket.
func (s Stream) AppendOpen(dst []byte) []byte {
	dst = append(dst, "<open xmlns='"+NSFraming+"'"...)
	return append(s.append(dst), "/>"...)
}

func (s Stream) append(dst []byte) []byte {
	for _, a := range [...]struct{ name, value string }{
		{"to", s.To}, {"from", s.From}, {"id", s.ID}, {"version", s.Version}, {"xml:lang", s.Lang},
	} {
		if a.value != "" {
			dst = appendAttr(dst, a.name, a.value)
		}
	}
	return dst
}

// Features says how a server's <stream:features/> become those of a client.
type Features struct {
	// ChannelBinding: the client's TLS ends with the server's own certificate, so
	// that tls-server-end-point may pass (RFC 5929 §4), and nothing else of its
	// kind.
	ChannelBinding bool
	// Own are features of ours, put behind the server's.
	Own []byte
}

// dropped are the features that are between the server and us, or that we
// answer ourselves. Non-SASL authentication (XEP-0078) would go round the login
// that is relayed, and registration before it.
var dropped = map[string]string{
	"urn:ietf:params:xml:ns:xmpp-tls starttls":        "the edge ends TLS",
	"http://jabber.org/features/compress compression": "XEP-0138: compressed bytes are nobody's stanzas",
	"http://jabber.org/features/iq-register register": "XEP-0077",
	"urn:xmpp:invite register":                        "XEP-0401",
	"urn:xmpp:ibr-token:0 register":                   "XEP-0445",
	"http://jabber.org/features/iq-auth auth":         "XEP-0078",
	"urn:xmpp:sm:2 sm":                                "XEP-0198: ours",
	"urn:xmpp:sm:3 sm":                                "XEP-0198: ours",
	"urn:xmpp:csi:0 csi":                              "XEP-0352: ours",
	"urn:xmpp:sasl:2 authentication":                  "XEP-0388",
	"http://jabber.org/protocol/compress compression": "XEP-0138",
}

const (
	nsSASL    = "urn:ietf:params:xml:ns:xmpp-sasl"
	nsBinding = "urn:xmpp:sasl-cb:0" // XEP-0440
)

// AppendFeatures appends e, the features of a server's stream, as f makes
// them. Features that it does not know pass. Mechanisms that cannot work
// through a third party are taken out: EXTERNAL, and those with channel binding
// unless f has it. Where there are none of these the list is not touched, as
// its hash may be signed (XEP-0474). More than 64 features are [ErrTooDeep].
func AppendFeatures(dst []byte, e *Element, f Features) ([]byte, error) {
	if e.Unseen > 0 {
		return dst, ErrTooDeep
	}
	var failed error
	features := e.AppendEdited(nil, func(ch *Child) []byte {
		switch {
		case ch.Is(nsSASL, "mechanisms"), ch.Is(nsBinding, "sasl-channel-binding") && f.ChannelBinding:
			in, err := e.Inside(ch)
			if err != nil || in.Unseen > 0 {
				failed = ErrTooDeep
				return nil
			}
			return in.AppendEdited(nil, func(ch *Child) []byte { return f.mechanism(in, ch) })
		case ch.Is(nsBinding, "sasl-channel-binding"):
			return nil
		}
		if _, drop := dropped[string(ch.Space)+" "+string(ch.Local)]; drop {
			return nil
		}
		return ch.Raw
	})
	if failed != nil || len(f.Own) == 0 {
		return append(dst, features...), failed
	}
	return AppendChild(dst, features, f.Own), nil
}

// mechanism keeps what may stay of a list of mechanisms, or of kinds of
// channel binding.
func (f Features) mechanism(list *Element, ch *Child) []byte {
	switch string(ch.Local) {
	case "mechanism":
		name := strings.ToUpper(strings.TrimSpace(Text(ch.Raw, 64)))
		if name == "EXTERNAL" || strings.HasSuffix(name, "-PLUS") && !f.ChannelBinding {
			return nil
		}
	case "channel-binding":
		if kind, err := list.Inside(ch); err != nil || string(kind.Attr("type")) != "tls-server-end-point" {
			return nil
		}
	}
	return ch.Raw
}
