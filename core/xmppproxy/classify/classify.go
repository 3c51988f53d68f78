package classify

import (
	"crypto/sha256"
	"encoding/base64"
	"strings"
	"time"

	"sallyport/core/stanza"
)

// Namespaces.
const (
	nsCarbons    = "urn:xmpp:carbons:2"
	nsForward    = "urn:xmpp:forward:0"
	nsJMI0       = "urn:xmpp:jingle-message:0"
	nsJMI1       = "urn:xmpp:jingle-message:1"
	nsJingle     = "urn:xmpp:jingle:1"
	nsRTP        = "urn:xmpp:jingle:apps:rtp:1"
	nsPubsub     = "http://jabber.org/protocol/pubsub#event"
	nsMUCUser    = "http://jabber.org/protocol/muc#user"
	nsConference = "jabber:x:conference"
	nsSID        = "urn:xmpp:sid:0"
	nsReference  = "urn:xmpp:reference:0"
	nsEME        = "urn:xmpp:eme:0"
	nsDelay      = "urn:xmpp:delay"
)

// Of judges a stanza from the server, for a client of self.
func Of(e *stanza.Element, self Self) Verdict {
	if string(e.Space) != stanza.NSClient {
		return none("not a stanza")
	}
	self.JID = Bare(self.JID)
	switch string(e.Local) {
	case "message":
		return message(e, self)
	case "presence":
		if string(e.Attr("type")) == "subscribe" {
			return from(e, self, Verdict{Class: Low})
		}
		return none("presence")
	case "iq":
		return iq(e, self)
	default:
		return none("not a stanza")
	}
}

func none(why string) Verdict { return Verdict{Why: why} }

// Bare takes the resource off a JID, and makes two that are the same look it.
func Bare(jid string) string {
	bare, _, _ := strings.Cut(jid, "/")
	return strings.ToLower(bare)
}

// message judges one, the inner one of a carbon (XEP-0280).
func message(e *stanza.Element, self Self) Verdict {
	received, sent := e.Child(nsCarbons, "received"), e.Child(nsCarbons, "sent")
	if received == nil && sent == nil {
		return plain(e, self, false)
	}
	if who := stanza.Unescape(e.Attr("from")); who != "" && (Bare(who) != self.JID || strings.Contains(who, "/")) {
		return none("forged carbon") // §11
	}
	carbon := received
	if carbon == nil {
		carbon = sent
	}
	inner := step(step(step(e, nsCarbons, string(carbon.Local)), nsForward, "forwarded"), stanza.NSClient, "message")
	if inner == nil {
		return none("empty carbon")
	}
	v := plain(inner, self, sent != nil)
	v.Carbon = true
	return v
}

// step goes to a child of e; nil where there is none.
func step(e *stanza.Element, space, local string) *stanza.Element {
	if e == nil {
		return nil
	}
	ch := e.Child(space, local)
	if ch == nil {
		return nil
	}
	in, err := e.Inside(ch)
	if err != nil {
		return nil
	}
	return in
}

// plain judges a message that is no carbon. own: the user sent it from another
// client, as is all that comes from the account itself.
func plain(e *stanza.Element, self Self, own bool) Verdict {
	sender := stanza.Unescape(e.Attr("from"))
	own = own || sender == "" || Bare(sender) == self.JID
	if string(e.Attr("type")) == "error" {
		return none("error")
	}
	for i := range e.Children {
		ch := &e.Children[i]
		if strings.HasPrefix(string(ch.Space), "urn:xmpp:mam:") {
			return none("archive")
		}
		if s := string(ch.Space); s == nsJMI0 || s == nsJMI1 {
			if string(e.Attr("type")) == "groupchat" {
				return none("call signal to a room") // nobody is called by name
			}
			return from(e, self, proposal(e, ch, own))
		}
	}
	switch {
	case own:
		return none("sent by the user")
	case string(e.Attr("type")) == "headline":
		return none("headline")
	case e.Child(nsPubsub, "event") != nil:
		return none("event")
	}
	if room := invitation(e); room != "" {
		v := from(e, self, Verdict{Class: Message})
		v.Conversation = Bare(room)
		return v
	}
	return from(e, self, content(e, self))
}

// proposals are the elements of XEP-0353, for a call from another and for word
// from another client of the user's own. What the user does here is not told of.
var proposals = map[string]struct{ theirs, own Class }{
	"propose": {theirs: Call},
	"retract": {theirs: Missed},
	"finish":  {theirs: Missed, own: Taken},
	"accept":  {own: Taken},
	"proceed": {own: Taken},
	"reject":  {own: Taken},
}

func proposal(e *stanza.Element, ch *stanza.Child, own bool) Verdict {
	p, err := e.Inside(ch)
	if err != nil {
		return none("call unreadable")
	}
	class := proposals[string(p.Local)].theirs
	if own {
		class = proposals[string(p.Local)].own
	}
	v := Verdict{Class: class, CallID: stanza.Unescape(p.Attr("id"))}
	if v.Class == None || v.CallID == "" || len(v.CallID) > maxCallID {
		return none("call signal")
	}
	if v.Class == Call && !describe(p, &v) {
		return none("not a call")
	}
	return v
}

// maxCallID is how long an id may be that is kept and compared.
const maxCallID = 256

// describe looks for audio or video among the descriptions inside p. With no
// description at all it is taken for a call.
func describe(p *stanza.Element, v *Verdict) bool {
	any, call := false, false
	for i := range p.Children {
		ch := &p.Children[i]
		if string(ch.Local) != "description" {
			continue
		}
		any = true
		if string(ch.Space) == nsRTP {
			call = true
			if d, err := p.Inside(ch); err == nil && string(d.Attr("media")) == "video" {
				v.Video = true
			}
		}
	}
	return call || !any
}

// iq judges a request: a call that nobody proposed before (XEP-0166).
func iq(e *stanza.Element, self Self) Verdict {
	jingle := e.Child(nsJingle, "jingle")
	if string(e.Attr("type")) != "set" || jingle == nil {
		return none("request or answer")
	}
	j, err := e.Inside(jingle)
	if err != nil {
		return none("call unreadable")
	}
	v := Verdict{CallID: stanza.Unescape(j.Attr("sid"))}
	switch action := string(j.Attr("action")); {
	case v.CallID == "" || len(v.CallID) > maxCallID:
	case action == "session-terminate":
		v.Class = Missed
	case action == "session-initiate":
		for i := range j.Children {
			if j.Children[i].Is(nsJingle, "content") {
				if c, err := j.Inside(&j.Children[i]); err == nil && c.Child(nsRTP, "description") != nil && describe(c, &v) {
					v.Class = Call
				}
			}
		}
	}
	if v.Class == None {
		return none("call signal")
	}
	return from(e, self, v)
}

// invitation is the room that the user is invited to (XEP-0045 §7.8.2,
// XEP-0249), "" for none.
func invitation(e *stanza.Element) string {
	if ch := e.Child(nsConference, "x"); ch != nil {
		if x, err := e.Inside(ch); err == nil && len(x.Attr("jid")) > 0 {
			return stanza.Unescape(x.Attr("jid"))
		}
	}
	if ch := e.Child(nsMUCUser, "x"); ch != nil {
		if x, err := e.Inside(ch); err == nil && x.Child(nsMUCUser, "invite") != nil {
			return stanza.Unescape(e.Attr("from"))
		}
	}
	return ""
}

// ciphers are the elements that carry what only the reader can read, and the
// one inside without which there is nothing to read (OMEMO's keys travel
// alone).
var ciphers = []struct{ space, local, payload string }{
	{"eu.siacs.conversations.axolotl", "encrypted", "payload"},
	{"urn:xmpp:omemo:1", "encrypted", "payload"},
	{"urn:xmpp:omemo:2", "encrypted", "payload"},
	{"urn:xmpp:openpgp:0", "openpgp", ""},
	{"jabber:x:encrypted", "x", ""},
}

// encrypted reports whether e is, and whether there is anything in it.
func encrypted(e *stanza.Element) (is, something bool) {
	for _, c := range ciphers {
		ch := e.Child(c.space, c.local)
		if ch == nil {
			continue
		}
		if c.payload == "" {
			return true, true
		}
		in, err := e.Inside(ch)
		return true, err == nil && in.Child(c.space, c.payload) != nil
	}
	is = e.Child(nsEME, "encryption") != nil
	return is, is
}

// content judges what there is to read.
func content(e *stanza.Element, self Self) Verdict {
	room := string(e.Attr("type")) == "groupchat"
	sender := stanza.Unescape(e.Attr("from"))
	_, nick, _ := strings.Cut(sender, "/")
	if room && self.Nick != nil && nick != "" && nick == self.Nick(Bare(sender)) {
		return none("own words from a room")
	}
	v := Verdict{Class: Message}
	private := e.Child(nsMUCUser, "x") != nil && self.Nick != nil && self.Nick(Bare(sender)) != "" // XEP-0045 §7.5
	if room || private {
		v.Name = nick
	}
	body := e.Child(stanza.NSClient, "body")
	if body != nil {
		v.Text = body.Text(MaxText)
	}
	is, something := encrypted(e)
	switch {
	case is && !something:
		return none("keys without a text")
	case is, strings.HasPrefix(v.Text, "?OTR"):
		v.Encrypted, v.Text = true, ""
	case strings.TrimSpace(v.Text) == "":
		return none("without a text")
	case room && nick == "":
		return none("word of the room itself")
	}
	v.Urgent = mentions(e, self.JID)
	return v
}

// maxReferences bounds how many references are read.
const maxReferences = 16

// mentions reports whether e refers to jid (XEP-0372 §3.2).
func mentions(e *stanza.Element, jid string) bool {
	read := 0
	for i := range e.Children {
		ch := &e.Children[i]
		if !ch.Is(nsReference, "reference") || read == maxReferences {
			continue
		}
		read++
		r, err := e.Inside(ch)
		if err != nil || string(r.Attr("type")) != "mention" {
			continue
		}
		if uri, ok := strings.CutPrefix(stanza.Unescape(r.Attr("uri")), "xmpp:"); ok && Bare(uri) == jid {
			return true
		}
	}
	return false
}

// from fills in who sent e, and its key.
func from(e *stanza.Element, self Self, v Verdict) Verdict {
	if v.Class == None {
		return v
	}
	v.Sender = stanza.Unescape(e.Attr("from"))
	v.Conversation = Bare(v.Sender)
	v.Stored = stored(e)
	switch {
	case v.Name == "":
		v.Sender = v.Conversation
	case string(e.Attr("type")) != "groupchat":
		v.Conversation += "/" + v.Name
	}
	switch {
	case v.CallID != "":
		v.Key = key("call", v.Class.String(), v.Conversation, v.CallID)
	case v.Class == Low: // the server repeats it at each login
		v.Key = key("subscribe", v.Conversation)
	default:
		v.Key = identity(e, self.JID)
	}
	return v
}

// stored is since when a stanza waited elsewhere (XEP-0203).
func stored(e *stanza.Element) time.Time {
	ch := e.Child(nsDelay, "delay")
	if ch == nil {
		return time.Time{}
	}
	d, err := e.Inside(ch)
	if err != nil {
		return time.Time{}
	}
	at, _ := time.Parse(time.RFC3339, string(d.Attr("stamp")))
	return at
}

// identity is the stanza's unique id (XEP-0359) given by the user's own server;
// else its sender's; else what it says.
func identity(e *stanza.Element, self string) string {
	for i := range e.Children {
		ch := &e.Children[i]
		if !ch.Is(nsSID, "stanza-id") {
			continue
		}
		if s, err := e.Inside(ch); err == nil && Bare(stanza.Unescape(s.Attr("by"))) == self && len(s.Attr("id")) > 0 {
			return key("id", self, string(s.Attr("id")))
		}
	}
	sender := stanza.Unescape(e.Attr("from"))
	if id := e.Attr("id"); len(id) > 0 {
		return key("from", sender, string(id))
	}
	said := []string{"hash", sender, string(e.Attr("type"))}
	for i := range e.Children {
		if ch := &e.Children[i]; !ch.Is(nsDelay, "delay") {
			said = append(said, string(ch.Raw))
		}
	}
	return key(said...)
}

func key(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		h.Write([]byte(p))
		h.Write([]byte{0})
	}
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:24])
}
