package session

import (
	"hash/fnv"
	"time"

	"sallyport/core/stanza"
)

// Namespace of a stanza's unique id (XEP-0359).
const nsID = "urn:xmpp:sid:0"

// copies tells what a new login was given of an earlier one from what the
// server kept of the same: it may not have heard that something is safe before
// its end, and delivers it once more, as a message of old (XEP-0203).
type copies struct {
	given map[uint64]struct{} // names of what was replayed
	until int64               // so long after the last the server brings copies
}

// Bounds of copies.
const (
	maxCopies   = 8000
	copiesAfter = int64(10 * time.Minute)
)

// noteReplayed keeps the names of a message that was replayed.
func (s *Session) noteReplayed(n int64, raw []byte) {
	c := &s.copies
	if c.given == nil {
		c.given = make(map[uint64]struct{})
	}
	c.until = n + copiesAfter
	for _, name := range s.namesOf(raw) {
		if len(c.given) < maxCopies {
			c.given[name] = struct{}{}
		}
	}
}

// isCopy reports whether an item that was never sent is a message that the
// client was given already.
func (s *Session) isCopy(n int64, it *item) bool {
	c := &s.copies
	if c.given == nil || it.u == 0 || it.flags&(isMessage|hasDelay) != isMessage|hasDelay {
		return false
	}
	if n > c.until {
		*c = copies{}
		return false
	}
	for _, name := range s.namesOf(it.raw) {
		if _, ok := c.given[name]; ok {
			return true
		}
	}
	return false
}

// namesOf are what a message is known by: the id that the account's server
// gave it, and its sender's. Both may be lacking.
func (s *Session) namesOf(raw []byte) (names []uint64) {
	e, err := Parse(raw)
	if err != nil {
		return nil
	}
	for i := range e.Children {
		if c := &e.Children[i]; c.Is(nsID, "stanza-id") {
			if in, err := e.Inside(c); err == nil && stanza.Unescape(in.Attr("by")) == s.bare() {
				names = append(names, nameOf("server", in.Attr("id")))
			}
		}
	}
	if from, id := e.Attr("from"), e.Attr("id"); len(from) > 0 && len(id) > 0 {
		names = append(names, nameOf(string(from), id))
	}
	return names
}

func nameOf(who string, id []byte) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(who))
	_, _ = h.Write([]byte{0})
	_, _ = h.Write(id)
	return h.Sum64()
}
