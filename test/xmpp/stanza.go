package xmpp

import (
	"bytes"
	"strings"

	"sallyport/core/stanza"
)

// Namespaces that tests name.
const (
	NSClient   = "jabber:client"
	NSStream   = "http://etherx.jabber.org/streams"
	NSSM       = "urn:xmpp:sm:3"
	NSCSI      = "urn:xmpp:csi:0"
	NSSASL     = "urn:ietf:params:xml:ns:xmpp-sasl"
	NSTLS      = "urn:ietf:params:xml:ns:xmpp-tls"
	NSBind     = "urn:ietf:params:xml:ns:xmpp-bind"
	NSFraming  = "urn:ietf:params:xml:ns:xmpp-framing"
	NSDelay    = "urn:xmpp:delay"
	NSStanzaID = "urn:xmpp:sid:0"
	NSPing     = "urn:xmpp:ping"
	NSCarbons  = "urn:xmpp:carbons:2"
	NSForward  = "urn:xmpp:forward:0"
	nsRoster   = "jabber:iq:roster"
)

// Stanza is what came in one piece: a message, presence or iq, or an element of
// the stream's own. It never changes.
type Stanza struct {
	Name, Space string
	Attrs       map[string]string // unescaped
	Raw         []byte            // as it came
	Children    []Part
}

// Part is an element directly inside a stanza.
type Part struct {
	Name, Space string
	Raw         []byte
}

// keepStanza copies what the cutter lends.
func keepStanza(e *stanza.Element) *Stanza {
	s := &Stanza{Name: string(e.Local), Space: string(e.Space), Raw: bytes.Clone(e.Raw), Attrs: make(map[string]string, len(e.Attrs))}
	for _, a := range e.Attrs {
		if len(a.Prefix) == 0 {
			s.Attrs[string(a.Local)] = stanza.Unescape(a.Value)
		}
	}
	for _, c := range e.Children {
		s.Children = append(s.Children, Part{Name: string(c.Local), Space: string(c.Space), Raw: bytes.Clone(c.Raw)})
	}
	return s
}

// Is reports whether s has this namespace and name.
func (s *Stanza) Is(space, name string) bool { return s.Space == space && s.Name == name }

// IsStanza reports whether XEP-0198 counts it.
func (s *Stanza) IsStanza() bool {
	return s.Space == NSClient && (s.Name == "message" || s.Name == "presence" || s.Name == "iq")
}

// ID is the attribute, "" without one.
func (s *Stanza) ID() string { return s.Attrs["id"] }

// From is who sent it.
func (s *Stanza) From() string { return s.Attrs["from"] }

// To is whom it is for.
func (s *Stanza) To() string { return s.Attrs["to"] }

// Type is the attribute, "" without one.
func (s *Stanza) Type() string { return s.Attrs["type"] }

// Child returns the first child of this namespace and name, nil without one.
func (s *Stanza) Child(space, name string) *Part {
	for i := range s.Children {
		if c := &s.Children[i]; c.Space == space && c.Name == name {
			return c
		}
	}
	return nil
}

// Body is the text of a message's body, Show of a presence's show.
func (s *Stanza) Body() string { return s.Child(NSClient, "body").Text() }

// Show is the text of a presence's show, "" where it says none.
func (s *Stanza) Show() string { return s.Child(NSClient, "show").Text() }

// Text is the character data of a part that has no elements in it; of nil, "".
func (p *Part) Text() string {
	if p == nil {
		return ""
	}
	_, rest, _ := bytes.Cut(p.Raw, []byte(">"))
	end := bytes.LastIndex(rest, []byte("</"))
	if end < 0 {
		return ""
	}
	return stanza.Unescape(rest[:end])
}

// escape makes text fit for an attribute or a body.
var escape = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", "'", "&apos;", `"`, "&quot;").Replace

// Escape makes text fit for an attribute or a body.
func Escape(text string) string { return escape(text) }
