package session

import (
	"bytes"
	"strings"
	"time"

	"sallyport/core/stanza"
)

// notePresence keeps what the client tells everybody of itself.
func (s *Session) notePresence(e *stanza.Element) {
	if string(e.Local) != "presence" || len(e.Attr("to")) > 0 {
		return
	}
	switch string(e.Attr("type")) {
	case "":
		s.presence = nil
		if len(e.Raw) <= maxPresence {
			s.presence = e.AppendPortable(nil)
		}
		if len(s.down.waiting) > 0 {
			s.down.replay = true
		}
	case "unavailable":
		s.presence = nil
	default:
		return
	}
	s.awayAt, s.away = 0, false
}

// showAway tells contacts that the client does not look. One that said so
// itself is left alone.
func (s *Session) showAway(now time.Time) {
	s.awayAt = 0
	if s.away || !s.server || s.presence == nil {
		return
	}
	p := s.awayPresence(now)
	if p == nil {
		return
	}
	s.away = true
	s.log.putDue = s.log.putDue || s.resumable // the client's own has to outlive a restart
	s.own(p)
}

// showPresent tells contacts what the client said last.
func (s *Session) showPresent() {
	if s.away && s.server {
		s.away = false
		s.own(s.presence)
	}
}

// awayPresence is the client's presence with another <show/>, and since when
// (XEP-0319); nil if it shall stay.
func (s *Session) awayPresence(now time.Time) []byte {
	if s.policy.Presence == ShowUnavailable {
		return []byte("<presence type='unavailable' id='" + awayID + "'/>")
	}
	e, err := Parse(s.presence)
	if err != nil {
		return []byte("<presence id='" + awayID + "'><show>away</show></presence>")
	}
	show := e.Child(nsClient, "show")
	if show != nil && !strings.Contains(string(show.Raw), ">chat<") {
		return nil
	}
	prefix, _, _ := bytes.Cut(e.Raw[1:], e.Local)
	away := "<" + string(prefix) + "show>away</" + string(prefix) + "show>"
	if e.Child(nsIdle, "idle") == nil {
		away += "<idle xmlns='" + nsIdle + "' since='" + now.UTC().Format(time.RFC3339) + "'/>"
	}
	out := e.AppendEdited(nil, func(ch *stanza.Child) []byte {
		if ch.Is(nsClient, "show") {
			return nil
		}
		return ch.Raw
	})
	return stanza.AppendWithAttr(nil, stanza.AppendChild(nil, out, []byte(away)), "id", awayID)
}

// isEcho reports whether e is what the core itself said in the client's place,
// and the server tells all resources of the account.
func (s *Session) isEcho(e *stanza.Element) bool {
	return string(e.Local) == "presence" && string(e.Attr("id")) == awayID &&
		stanza.Unescape(e.Attr("from")) == s.cfg.JID
}
