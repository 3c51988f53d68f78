package session

import (
	"slices"

	"sallyport/core/stanza"
)

// What is known of a stanza on its way to the client.
const (
	isMessage   = 1 << iota // it is kept for another login
	isAnswer                // an answer to a request of the client's
	hasDelay                // it says when it was sent (XEP-0203)
	isLate                  // it did not go out when it came
	isPushed                // Push was said
	isPresence              // of a kind that can be delayed
	storedFlags = isMessage | isAnswer | hasDelay | isPresence
)

// item is a stanza for the client.
type item struct {
	u     uint64 // its number among the server's, 0: ours, or of an earlier login
	pos   uint64 // of the entry it is in, 0: not on disk
	key   uint64 // what it is the newest of, 0: nothing
	at    int64  // when it came, ns
	raw   []byte // nil: on disk alone
	size  uint32
	idx   uint16 // in its entry
	flags uint8
}

// down is the direction from the server to the client.
//
// The queue's items are in the order of the client's numbers: q[0] has
// acked+1. Of its lengths, assigned ≥ sent and given ≥ onDisk.
type down struct {
	acked    uint64 // the client's h
	q        []item
	assigned int // leading items that were sent on any flow; their number is final
	sent     int // leading items that were sent on this flow
	given    int // leading items that are in an entry
	onDisk   int // leading items whose entry is on disk
	bytes    int // of all items, and those waiting
	flying   int // bytes of sent items that came from disk, or will have to

	skips   int      // stanzas for the core alone that are in no entry
	skipAt  int64    // when the first of them came
	drops   []uint64 // numbers of given items that were superseded, as numbered before the next entry
	uGiven  uint64   // the server's number that belongs to what was given
	gate    uint64   // append before which nothing more is sent
	waiting []item   // of an earlier login, for after the initial presence
	replay  bool     // waiting is to be put into q, behind what was sent
}

// takingMore is how much more than the policy allows may wait for a client
// that is taking what waited: what the server kept meanwhile comes on top of
// it.
const takingMore = 4

// enqueue puts a stanza from the server at the end.
func (s *Session) enqueue(n int64, e *stanza.Element, it item) {
	d := &s.down
	room := 1
	if s.attached && !s.inactive && !s.silent {
		room = takingMore
	}
	if len(d.q)+len(d.waiting) >= room*s.policy.Stanzas || d.bytes+len(e.Raw) > room*s.policy.Bytes {
		s.full(n)
		return
	}
	s.uIn++
	it.u, it.at = s.uIn, n
	it.raw = e.AppendPortable(nil)
	it.size = uint32(len(it.raw))
	d.q = append(d.q, it)
	d.bytes += len(it.raw)
}

// full ends the server's stream before the stanza that does not fit is
// counted: the server keeps it, and what follows.
func (s *Session) full(n int64) {
	s.lastAck()
	s.out.Alert(Full)
	s.out.CloseServer(false)
	s.server = false
	s.loseServer(n)
}

// skip counts a stanza from the server that the client never gets.
func (s *Session) skip(n int64) {
	d := &s.down
	s.uIn++
	if !s.resumable && len(d.q) == 0 {
		s.uSafe, d.uGiven = s.uIn, s.uIn
		return
	}
	s.noteSkip(n)
}

// noteSkip says that a number of the server's has none of the client's.
func (s *Session) noteSkip(at int64) {
	d := &s.down
	if d.skips == 0 {
		d.skipAt = at
	}
	d.skips++
	d.gate = s.log.appends + 1
}

// tellClient puts a stanza of the core's own at the end.
func (s *Session) tellClient(n int64, p []byte) {
	d := &s.down
	if len(d.q) >= s.policy.Stanzas {
		s.closeClient(streamError("policy-violation", ""))
		return
	}
	d.q = append(d.q, item{at: n, raw: append([]byte(nil), p...), size: uint32(len(p)), flags: isAnswer})
	d.bytes += len(p)
	if s.resumable {
		d.gate = s.log.appends + 1
	}
}

// dropAt takes out an item that was never sent.
func (s *Session) dropAt(i int) {
	d := &s.down
	d.bytes -= int(d.q[i].size)
	if i >= d.given && d.q[i].u != 0 {
		s.noteSkip(d.q[i].at)
	}
	if i < d.given {
		no := d.acked + uint64(i) + 1
		at := 0
		for at < len(d.drops) && no >= d.drops[at] {
			no++
			at++
		}
		d.drops = slices.Insert(d.drops, at, no)
		d.gate = s.log.appends + 1
		d.given--
		if i < d.onDisk {
			d.onDisk--
		}
	}
	d.q = slices.Delete(d.q, i, i+1)
}

// pop takes out the n first items, which the client has.
func (s *Session) pop(n int) {
	d := &s.down
	for i := range n {
		it := &d.q[i]
		s.uSafe = max(s.uSafe, it.u)
		d.uGiven = max(d.uGiven, it.u)
		d.bytes -= int(it.size)
		if it.flags&isAnswer != 0 {
			s.quirk.acked++
		}
		if i < d.sent {
			d.flying -= int(it.size)
		}
		*it = item{}
	}
	d.assigned, d.sent = max(0, d.assigned-n), max(0, d.sent-n)
	d.given, d.onDisk = max(0, d.given-n), max(0, d.onDisk-n)
	if d.q = d.q[n:]; len(d.q) == 0 {
		d.q = nil
	}
	if s.sm {
		d.acked += uint64(n)
	}
}

// pump sends what may go.
func (s *Session) pump(n int64) {
	d := &s.down
	if d.replay && !s.resumable && !s.enabling && d.onDisk == d.given && d.assigned <= d.given {
		s.startReplay()
		d.onDisk = d.given
	}
	for s.listening() && !d.replay && d.sent < len(d.q) {
		it := &d.q[d.sent]
		switch {
		case s.resumable && d.gate > s.log.appended:
			return // kick writes what is waited for
		case it.raw == nil && (d.flying > windowBytes && s.sm):
			s.request(n)
			return
		case it.raw == nil:
			s.fetch(n, it.pos)
			return
		case d.sent == d.assigned && s.isCopy(n, it):
			s.dropAt(d.sent)
			continue
		}
		if it.u == 0 && it.flags&isMessage != 0 {
			s.noteReplayed(n, it.raw)
		}
		s.sendItem(n, it)
		d.sent++
		d.assigned = max(d.assigned, d.sent)
		d.flying += int(it.size)
		s.shed(it)
		if !s.sm {
			s.pop(1)
		}
	}
	s.request(n)
}

// sendItem sends one stanza, with the time it came where it is late.
func (s *Session) sendItem(n int64, it *item) {
	if it.flags&isLate != 0 && it.flags&(isMessage|isPresence) != 0 && it.flags&hasDelay == 0 {
		s.out.ToClient(stanza.AppendChild(nil, it.raw, delayOf(s.bare(), it.at)))
		return
	}
	s.out.ToClient(it.raw)
}

// shed forgets the bytes of an item that is on disk.
func (s *Session) shed(it *item) {
	if it.pos != 0 {
		it.raw = nil
	}
}

// request asks the client what it has, where it was not asked about all.
func (s *Session) request(n int64) {
	d := &s.down
	upTo := d.acked + uint64(d.sent)
	if !s.sm || !s.listening() || s.asked != 0 || d.sent == 0 || s.askedFor == upTo {
		return
	}
	s.asked, s.askedFor = n, upTo
	s.out.ToClient(requestAck)
}

// clientAck takes the client's <a/>.
func (s *Session) clientAck(h uint32) {
	if !s.sm {
		return
	}
	s.asked = 0
	h = s.correct(h, s.down.sent)
	n, ok := s.between(h, s.down.sent)
	if !ok {
		s.badNumber(h, s.down.sent)
		return
	}
	s.pop(n)
}

// between says how many items a client's h acknowledges, of as many as it can
// know of.
func (s *Session) between(h uint32, known int) (int, bool) {
	n := h - uint32(s.down.acked)
	return int(n), uint64(n) <= uint64(known)
}

// ackServer tells the server what is safe: when it asked about that, and now
// and then.
func (s *Session) ackServer() {
	if s.smState != smOn || !s.server || s.swapping {
		return
	}
	if len(s.down.q) == 0 && (!s.resumable || s.down.gate <= s.log.appended) {
		s.uSafe = s.uIn
	}
	if s.uSafe > s.uTold && (s.uTold < s.uAsked && s.uSafe >= s.uAsked || s.uSafe-s.uTold >= settleCount) {
		s.sendServerAck()
	}
}

// lastAck tells the server what is safe before its stream is closed.
func (s *Session) lastAck() {
	if s.smState == smOn && s.uSafe > s.uTold {
		s.sendServerAck()
	}
}

func (s *Session) sendServerAck() {
	s.uTold = s.uSafe
	s.out.ToServer(ackOf(s.uSafe))
}

// ungivenU counts the server's stanzas that are in no entry.
func (d *down) ungivenU() uint64 {
	n := uint64(d.skips)
	for _, it := range d.q[d.given:] {
		if it.u != 0 {
			n++
		}
	}
	return n
}
