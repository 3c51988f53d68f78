package session

import (
	"fmt"
	"strings"
	"time"

	"sallyport/core/stanza"
)

// Namespaces.
const (
	nsClient = "jabber:client"
	nsSM     = "urn:xmpp:sm:3"
	nsCSI    = "urn:xmpp:csi:0"
	nsStanza = "urn:ietf:params:xml:ns:xmpp-stanzas"
	nsStream = "urn:ietf:params:xml:ns:xmpp-streams"
	nsDelay  = "urn:xmpp:delay"
	nsEvent  = "http://jabber.org/protocol/pubsub#event"
	nsStates = "http://jabber.org/protocol/chatstates"
	nsIdle   = "urn:xmpp:idle:1"
	nsRoster = "jabber:iq:roster"
)

// awayID is the id of presences of the core's own; what follows is nobody's
// business.
const awayID = "sallyport-away"

var (
	enableServer = []byte("<enable xmlns='" + nsSM + "' resume='true'/>")
	requestAck   = []byte("<r xmlns='" + nsSM + "'/>")
)

// Parse reads a stanza as it was kept: its default namespace is jabber:client.
func Parse(raw []byte) (*stanza.Element, error) {
	c := stanza.NewFrames(stanza.Limits{})
	c.Feed(raw)
	_, e, err := c.Next()
	return e, err
}

func isStanza(e *stanza.Element) bool {
	switch string(e.Local) {
	case "message", "presence", "iq":
		return string(e.Space) == nsClient
	}
	return false
}

// flagsOf says what is to be known of a stanza once its bytes are gone.
func flagsOf(e *stanza.Element) uint8 {
	var f uint8
	switch string(e.Local) {
	case "message":
		f = isMessage
		if e.Child(nsEvent, "event") != nil && e.Child(nsClient, "body") == nil {
			f = 0 // what is news of a contact is told again after a login
		}
	case "presence":
		f = isPresence
	case "iq":
		if t := string(e.Attr("type")); t == "result" || t == "error" {
			f = isAnswer
		}
	}
	if e.Child(nsDelay, "delay") != nil {
		f |= hasDelay
	}
	return f
}

// besides are the namespaces of what may accompany a chat state without being
// worth anything by itself.
var besides = map[string]bool{
	nsStates: true, "urn:xmpp:hints": true, "urn:xmpp:sid:0": true, "urn:xmpp:occupant-id:0": true, nsDelay: true,
}

// isChatState reports whether e says nothing but that somebody types
// (XEP-0085).
func isChatState(e *stanza.Element) bool {
	if string(e.Local) != "message" || string(e.Attr("type")) == "error" {
		return false
	}
	states := 0
	for i := range e.Children {
		c := &e.Children[i]
		switch {
		case string(c.Space) == nsStates:
			states++
		case c.Is(nsClient, "thread"), besides[string(c.Space)]:
		default:
			return false
		}
	}
	return states > 0
}

// isPing reports whether e is a ping (XEP-0199), also of oneself through a
// chat room (XEP-0410).
func isPing(e *stanza.Element) bool {
	return string(e.Local) == "iq" && string(e.Attr("type")) == "get" && e.Child("urn:xmpp:ping", "ping") != nil
}

// isAsk reports whether e is a request that somebody waits for the answer to.
// What the own account says, as a change of the roster, waits for nothing
// (RFC 6121 §2.1.6).
func (s *Session) isAsk(e *stanza.Element) bool {
	if string(e.Local) != "iq" {
		return false
	}
	switch string(e.Attr("type")) {
	case "get", "set":
	default:
		return false
	}
	from := stanza.Unescape(e.Attr("from"))
	return from != "" && !strings.EqualFold(from, s.bare()) && from != s.cfg.JID
}

// bare is the bare JID.
func (s *Session) bare() string {
	bare, _, _ := strings.Cut(s.cfg.JID, "/")
	return bare
}

// attr writes an attribute whose value is as on the wire.
func attr(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	b = append(append(append(b, ' '), name...), "='"...)
	b = append(b, strings.ReplaceAll(value, "'", "&apos;")...)
	return append(b, '\'')
}

// attrText escapes text for an attribute in single quotes.
func attrText(v string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", "'", "&apos;").Replace(v)
}

// answerTo is the empty answer to a request.
func answerTo(e *stanza.Element) []byte {
	b := attr([]byte("<iq type='result'"), "to", string(e.Attr("from")))
	return append(attr(b, "id", string(e.Attr("id"))), "/>"...)
}

// refusalOf says that nobody is there to answer.
func refusalOf(from, id string) []byte {
	b := attr(attr([]byte("<iq type='error'"), "to", from), "id", id)
	return append(b, "><error type='cancel'><service-unavailable xmlns='"+nsStanza+"'/></error></iq>"...)
}

func ackOf(h uint64) []byte { return fmt.Appendf(nil, "<a xmlns='%s' h='%d'/>", nsSM, uint32(h)) }

// smFailed is the answer to what cannot be (XEP-0198 §3); attrs may be empty.
func smFailed(condition, attrs string) []byte {
	return []byte("<failed xmlns='" + nsSM + "'" + attrs + "><" + condition + " xmlns='" + nsStanza + "'/></failed>")
}

// streamError is a stream error, perhaps with a condition of the application's.
func streamError(condition, more string) []byte {
	return []byte("<stream:error><" + condition + " xmlns='" + nsStream + "'/>" + more + "</stream:error>")
}

// tooHigh is the stream error for a client that acknowledges what it was not
// sent (XEP-0198 §4).
func tooHigh(h uint32, sent uint64) []byte {
	return streamError("undefined-condition",
		fmt.Sprintf("<handled-count-too-high xmlns='%s' h='%d' send-count='%d'/>", nsSM, h, uint32(sent)))
}

// delayOf says when a stanza came, and who kept it (XEP-0203).
func delayOf(bare string, at int64) []byte {
	return []byte("<delay xmlns='" + nsDelay + "' from='" + attrText(bare) + "' stamp='" + stamp(at) + "'/>")
}

func stamp(at int64) string {
	return time.Unix(0, at).UTC().Format("2006-01-02T15:04:05.000Z")
}
