package notify

import (
	"strings"

	"sallyport/core/stanza"
	"sallyport/core/xmppproxy/classify"
)

// Namespaces.
const (
	nsPush     = "urn:xmpp:push:0"
	nsData     = "jabber:x:data"
	nsCommands = "http://jabber.org/protocol/commands"
	nsInfo     = "http://jabber.org/protocol/disco#info"
	nsItems    = "http://jabber.org/protocol/disco#items"
	nsMUC      = "http://jabber.org/protocol/muc"
	nsMUCUser  = "http://jabber.org/protocol/muc#user"
	nsErrors   = "urn:ietf:params:xml:ns:xmpp-stanzas"
)

// maxField is how long the value of a form's field may be.
const maxField = 4096

// fields reads the data form inside e (XEP-0004), the first value of each
// field. Without a form there are none. A value that is too long is not there.
func fields(e *stanza.Element) map[string]string {
	out := make(map[string]string)
	ch := e.Child(nsData, "x")
	if ch == nil {
		return out
	}
	form, err := e.Inside(ch)
	if err != nil {
		return out
	}
	for i := range form.Children {
		if !form.Children[i].Is(nsData, "field") {
			continue
		}
		f, err := form.Inside(&form.Children[i])
		if err != nil {
			continue
		}
		name := stanza.Unescape(f.Attr("var"))
		if v := f.Child(nsData, "value"); v != nil && len(v.Raw) <= maxField {
			out[name] = strings.TrimSpace(v.Text(maxField))
		}
	}
	return out
}

// answer begins what a client gets for its request e, from the JID that it
// asked.
func answer(c Client, e *stanza.Element, kind string) []byte {
	b := []byte("<iq")
	from := stanza.Unescape(e.Attr("to"))
	if from == "" {
		from = c.Bare()
	}
	for _, a := range [...][2]string{{"type", kind}, {"id", stanza.Unescape(e.Attr("id"))}, {"to", c.JID()}, {"from", from}} {
		b = append(append(append(b, ' '), a[0]...), "='"...)
		b = append(stanza.AppendEscaped(b, a[1]), '\'')
	}
	return append(b, '>')
}

func result(c Client, e *stanza.Element, inside string) []byte {
	return append(append(answer(c, e, "result"), inside...), "</iq>"...)
}

// refusal is an error (RFC 6120 §8.3), with a text for who builds the client.
func refusal(c Client, e *stanza.Element, kind, condition, text string) []byte {
	b := append(answer(c, e, "error"), "<error type='"...)
	b = append(append(b, kind...), "'><"...)
	b = append(append(b, condition...), " xmlns='"+nsErrors+"'/>"...)
	if text != "" {
		b = append(b, "<text xmlns='"+nsErrors+"'>"...)
		b = append(stanza.AppendEscaped(b, text), "</text>"...)
	}
	return append(b, "</error></iq>"...)
}

func escaped(s string) string { return string(stanza.AppendEscaped(nil, s)) }

// FromServer looks at what a server sends a client, and returns what it is to
// be instead, nil for what it is: the account says that it takes registrations
// for pushes. The Notifier learns from it by which names the client is known in
// rooms.
func (n *Notifier) FromServer(c Client, e *stanza.Element) *stanza.Element {
	switch {
	case e.Is(stanza.NSClient, "presence"):
		if x := e.Child(nsMUCUser, "x"); x != nil && isSelf(e, x) {
			n.named(c, stanza.Unescape(e.Attr("from")), string(e.Attr("type")) != "unavailable")
		}
	case e.Is(stanza.NSClient, "iq"):
		if q := e.Child(nsInfo, "query"); q != nil && string(e.Attr("type")) == "result" {
			return advertised(c, e, q)
		}
	}
	return nil
}

// isSelf reports whether a presence in a room is the client's own (XEP-0045
// §7.2.2).
func isSelf(e *stanza.Element, x *stanza.Child) bool {
	in, err := e.Inside(x)
	if err != nil {
		return false
	}
	for i := range in.Children {
		if in.Children[i].Is(nsMUCUser, "status") {
			if st, err := in.Inside(&in.Children[i]); err == nil && string(st.Attr("code")) == "110" {
				return true
			}
		}
	}
	return false
}

// maxRooms bounds the rooms of which a client's name is remembered.
const maxRooms = 128

// named notes by which name the client is in a room, or that it is not.
func (n *Notifier) named(c Client, occupant string, in bool) {
	_, nick, ok := strings.Cut(occupant, "/")
	room := classify.Bare(occupant)
	n.mu.Lock()
	defer n.mu.Unlock()
	s := n.of(c)
	switch {
	case !ok:
	case !in:
		delete(s.nicks, room)
	case s.nicks[room] == nick:
	case len(s.nicks) < maxRooms || s.nicks[room] != "":
		if s.nicks == nil {
			s.nicks = make(map[string]string)
		}
		s.nicks[room] = strings.Clone(nick)
	}
}

// advertised is what the account's server says of the account, and that it
// takes registrations for pushes (XEP-0357 §3).
func advertised(c Client, e *stanza.Element, q *stanza.Child) *stanza.Element {
	if from := stanza.Unescape(e.Attr("from")); from != "" && classify.Bare(from) != classify.Bare(c.Bare()) || strings.Contains(from, "/") {
		return nil
	}
	in, err := e.Inside(q)
	if err != nil || len(in.Attr("node")) > 0 {
		return nil
	}
	for i := range in.Children {
		if f, err := in.Inside(&in.Children[i]); err == nil && f.Is(nsInfo, "feature") && string(f.Attr("var")) == nsPush {
			return nil
		}
	}
	text := e.AppendEdited(nil, func(ch *stanza.Child) []byte {
		if ch.Is(nsInfo, "query") {
			return stanza.AppendChild(nil, ch.Raw, []byte("<feature xmlns='"+nsInfo+"' var='"+nsPush+"'/>"))
		}
		return ch.Raw
	})
	frames := stanza.NewFrames(stanza.Limits{MaxElement: 2 * stanza.DefaultMaxElement})
	frames.Feed(text)
	if _, out, err := frames.Next(); err == nil {
		return out
	}
	return nil
}
