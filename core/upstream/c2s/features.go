package c2s

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"sallyport/core/stanza"
)

const (
	nsTLS     = "urn:ietf:params:xml:ns:xmpp-tls"
	nsSASL    = "urn:ietf:params:xml:ns:xmpp-sasl"
	nsSASL2   = "urn:xmpp:sasl:2"
	nsBinding = "urn:xmpp:sasl-cb:0" // XEP-0440
	nsSM      = "urn:xmpp:sm:3"
	nsErrors  = "urn:ietf:params:xml:ns:xmpp-streams"
)

// StreamError is a <stream:error/> of the server.
type StreamError struct {
	Condition string // RFC 6120 §4.9.3
	Text      string
}

// Error names the condition, and the server's text.
func (e *StreamError) Error() string {
	if e.Text == "" {
		return "stream error " + e.Condition
	}
	return fmt.Sprintf("stream error %s (%q)", e.Condition, e.Text)
}

// maxText bounds what is shown of a server's words.
const maxText = 200

// unexpected is the error of an element that came instead of another.
func unexpected(e *stanza.Element) error {
	if !e.Is(stanza.NSStreams, "error") {
		return fmt.Errorf("%.*q came instead of what was due", maxText, e.Local)
	}
	se := &StreamError{Condition: "undefined-condition"}
	for i := range e.Children {
		ch := &e.Children[i]
		switch {
		case string(ch.Space) != nsErrors:
		case string(ch.Local) == "text":
			se.Text = stanza.Text(ch.Raw, maxText)
		default:
			se.Condition = fmt.Sprintf("%.*s", maxText, ch.Local)
		}
	}
	return se
}

// offer is what features say of a login.
type offer struct {
	mechanisms []string
	bindings   []string // kinds of channel binding, where the server names them
	starttls   bool
	sm         bool
}

// maxListed bounds the mechanisms that are looked at.
const maxListed = 64

func readOffer(features *stanza.Element) (o offer) {
	for i := range features.Children {
		ch := &features.Children[i]
		switch {
		case ch.Is(nsTLS, "starttls"):
			o.starttls = true
		case ch.Is(nsSM, "sm"):
			o.sm = true
		case ch.Is(nsSASL, "mechanisms"), ch.Is(nsSASL2, "authentication"), ch.Is(nsBinding, "sasl-channel-binding"):
			o.list(features, ch)
		}
	}
	return o
}

func (o *offer) list(features *stanza.Element, of *stanza.Child) {
	in, err := features.Inside(of)
	if err != nil {
		return
	}
	for i := range in.Children {
		ch := &in.Children[i]
		switch string(ch.Local) {
		case "mechanism":
			name := strings.ToUpper(strings.TrimSpace(stanza.Text(ch.Raw, 64)))
			if len(o.mechanisms) < maxListed && !slices.Contains(o.mechanisms, name) {
				o.mechanisms = append(o.mechanisms, name)
			}
		case "channel-binding":
			if kind, err := in.Inside(ch); err == nil && len(o.bindings) < maxListed {
				o.bindings = append(o.bindings, stanza.Unescape(kind.Attr("type")))
			}
		}
	}
}

// endPoint is the one kind of channel binding that holds across two TLS
// connections with one certificate (RFC 5929 §4).
const endPoint = "tls-server-end-point"

// ErrChannelBinding: the server offers mechanisms that bind a login to its own
// TLS, which ends here and not at the client.
var ErrChannelBinding = errors.New("the server offers channel binding")

// errNoLogin: there is nothing to log in with.
var errNoLogin = errors.New("the server offers no SASL mechanism")

// check says whether clients can log in with what is offered, and if not, what
// to do about it.
func (o *offer) check(shared bool) (remedy string, err error) {
	if len(o.mechanisms) == 0 {
		return "does it wait for TLS, or is the upstream not a client's port (c2s)?", errNoLogin
	}
	var plus []string
	for _, m := range o.mechanisms {
		if strings.HasSuffix(m, "-PLUS") {
			plus = append(plus, m)
		}
	}
	switch {
	case len(plus) == 0:
		return "", nil
	case !shared:
		return "clients' TLS ends at the edge, so their logins would be refused: give the core a listener without channel binding " +
				"(plain on loopback with xmpp+plain:// or ws://), or let the edge show the server's own certificate and set shared_cert = true",
			fmt.Errorf("%w: %s", ErrChannelBinding, strings.Join(plus, ", "))
	case !slices.Contains(o.bindings, endPoint):
		return "with shared_cert the server must name " + endPoint + " among its kinds (XEP-0440); " +
				"a server that cannot needs a listener without channel binding",
			fmt.Errorf("%w: %s, but not by %s", ErrChannelBinding, strings.Join(plus, ", "), endPoint)
	}
	return "", nil
}
