package session

import (
	"hash/fnv"
	"strings"
	"time"

	"sallyport/core/stanza"
)

// FromServer takes an element from the server. Its Raw may have been replaced
// by another text for the client.
func (s *Session) FromServer(now time.Time, e *stanza.Element) {
	if !s.server || s.ended {
		return
	}
	n := now.UnixNano()
	switch {
	case isStanza(e):
		s.fromServer(n, e)
	case string(e.Space) == nsSM:
		s.smFromServer(e)
	case s.attached:
		s.out.ToClient(e.Raw)
	}
	s.settle(now)
}

// Skip takes a stanza from the server that is for the core.
func (s *Session) Skip(now time.Time) {
	if s.server && !s.ended {
		s.skip(now.UnixNano())
		s.settle(now)
	}
}

// smFromServer takes what the server says about counting.
func (s *Session) smFromServer(e *stanza.Element) {
	switch string(e.Local) {
	case "enabled":
		s.enabledByServer(e)
	case "failed":
		if s.smState == smAsked {
			s.smState = smNone
			s.written(s.sentUp() - s.up.acked)
		}
	case "r":
		s.uAsked = s.uIn
		if s.smState == smOn && !s.swapping {
			s.ackServer()
			s.sendServerAck()
		}
	case "a":
		if h, ok := number(e.Attr("h")); ok && s.smState == smOn {
			s.serverAck(h)
		}
	}
}

func (s *Session) enabledByServer(e *stanza.Element) {
	if s.smState != smAsked {
		return
	}
	s.smState = smOn
	s.uIn, s.uSafe, s.uTold, s.uAsked = 0, 0, 0, 0
	s.down.uGiven, s.down.skips = 0, 0
	for i := range s.down.q {
		s.down.q[i].u = 0
	}
	if v := string(e.Attr("resume")); v == "true" || v == "1" {
		s.previd = stanza.Unescape(e.Attr("id"))
		if len(s.previd) > maxPrevid {
			s.previd = ""
		}
	}
	if secs, ok := number(e.Attr("max")); ok {
		s.keeps = int64(secs) * int64(time.Second)
	}
}

// fromServer takes a stanza: for the client, or what the core does in its
// place.
func (s *Session) fromServer(n int64, e *stanza.Element) {
	if s.isEcho(e) {
		s.skip(n)
		return
	}
	it := item{flags: flagsOf(e)}
	if s.suspended() {
		switch {
		case isChatState(e):
			s.skip(n)
			return
		case isPing(e):
			s.skip(n)
			s.own(answerTo(e))
			return
		case s.waitsNot(n, e):
			s.skip(n)
			return
		}
		it.key = keyOf(e)
		it.flags |= isLate
		s.supersede(it.key)
	} else if s.down.sent < len(s.down.q) && !s.enabling {
		it.flags |= isLate
	}
	s.enqueue(n, e, it)
}

// suspended reports whether the core acts in the client's place. A client that
// is about to be back answers for itself.
func (s *Session) suspended() bool { return !s.listening() && !s.enabling && !s.resuming }

// supersede takes out what the new stanza is a newer one of. What was ever
// sent keeps its number.
func (s *Session) supersede(key uint64) {
	if key == 0 {
		return
	}
	for i := s.down.assigned; i < len(s.down.q); i++ {
		if s.down.q[i].key == key {
			s.dropAt(i)
			return
		}
	}
}

// waitsNot notes a request that somebody waits for an answer to, and reports
// whether it has to be answered now because there are too many.
func (s *Session) waitsNot(n int64, e *stanza.Element) bool {
	if !s.isAsk(e) {
		return false
	}
	if len(s.asks) >= maxAsks {
		s.own(refusalOf(string(e.Attr("from")), string(e.Attr("id"))))
		return true
	}
	s.asks = append(s.asks, ask{
		u: s.uIn + 1, due: n + int64(iqWithin),
		from: string(e.Attr("from")), id: string(e.Attr("id")),
	})
	return false
}

// askAt is when the oldest request is answered.
func (s *Session) askAt() int64 {
	if len(s.asks) == 0 {
		return 0
	}
	return s.asks[0].due
}

// answerAsks refuses requests that waited too long. What was sent to the
// client is the client's to answer.
func (s *Session) answerAsks(n int64) {
	for len(s.asks) > 0 && s.asks[0].due <= n {
		a := s.asks[0]
		if s.asks = s.asks[1:]; len(s.asks) == 0 {
			s.asks = nil
		}
		d := &s.down
		for i := d.assigned; i < len(d.q); i++ {
			if d.q[i].u == a.u {
				s.dropAt(i)
				s.own(refusalOf(a.from, a.id))
				break
			}
		}
	}
}

// ServerLost is told that the upstream stream is gone.
func (s *Session) ServerLost(now time.Time) {
	if s.server && !s.ended {
		s.serverLost(now.UnixNano())
		s.settle(now)
	}
}

func (s *Session) serverLost(n int64) {
	away := !s.attached
	s.server = false
	s.loseServer(n)
	if away && !s.ended && !s.retired {
		s.out.Alert(Relogin)
	}
}

// loseServer goes on without a server: the client's next login brings it back,
// so its flow ends, too.
func (s *Session) loseServer(n int64) {
	s.up.pending, s.up.bytes, s.up.asked = nil, 0, false
	s.asks, s.awayAt = nil, 0
	if s.attached {
		s.out.CloseClient(nil)
		s.detach()
		s.since = n
		s.enabling = false
		s.pushAll(n)
	}
	if !s.resumable || s.previd == "" {
		s.retire(n)
	}
}

// keyOf names what a stanza is the newest of: a contact's presence, a
// contact's node of PEP (XEP-0163); 0 for all that has to be told one by one.
func keyOf(e *stanza.Element) uint64 {
	from := e.Attr("from")
	if len(from) == 0 {
		return 0
	}
	node := ""
	switch string(e.Local) {
	case "presence":
		if t := string(e.Attr("type")); t != "" && t != "unavailable" {
			return 0
		}
	case "message":
		if node = pepNode(e); node == "" {
			return 0
		}
	default:
		return 0
	}
	h := fnv.New64a()
	_, _ = h.Write(e.Local)
	_, _ = h.Write([]byte{0})
	_, _ = h.Write(from)
	_, _ = h.Write([]byte{0})
	_, _ = h.Write([]byte(node))
	return h.Sum64() | 1
}

// pepNode returns the node of a headline that says the newest item of one.
// Nodes that hold many items are told item by item, and so is what removes
// something.
func pepNode(e *stanza.Element) string {
	event := e.Child(nsEvent, "event")
	if event == nil || e.Child(nsClient, "body") != nil {
		return ""
	}
	in, err := e.Inside(event)
	if err != nil || len(in.Children) != 1 || !in.Children[0].Is(nsEvent, "items") {
		return ""
	}
	items, err := Parse(in.Children[0].Raw)
	if err != nil {
		return ""
	}
	node := string(items.Attr("node"))
	for _, many := range [...]string{"urn:xmpp:bookmarks:", "urn:xmpp:microblog:"} {
		if strings.HasPrefix(node, many) {
			return ""
		}
	}
	for i := range items.Children {
		if string(items.Children[i].Local) != "item" {
			return ""
		}
	}
	return node
}
