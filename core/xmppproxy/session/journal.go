package session

import (
	"slices"
	"time"
)

// journal is what is known of the session's record and entries.
type journal struct {
	recorded bool // there is a record
	putDue   bool // it is to be replaced
	op       op   // under way
	entry    []byte

	started, done     uint64 // ops; a record or an entry says which it is
	appends, appended uint64 // those that are entries
	enableOp          uint64 // the put behind the promise to resume

	retryAt int64
	lastPos uint64
	trimTo  uint64 // once the record that is being put is there
	entries int    // that can be trimmed one day, about
	items   bool   // some of them hold stanzas

	fetching bool
	fetched  uint64 // position that was asked for
	noFetch  int64  // until when the store is left alone

}

type op uint8

const (
	opNone op = iota
	opPut
	opAppend
)

const (
	maxItems      = 64        // in an entry
	maxItemsBytes = 256 << 10 // of them, if there are several
	trimEvery     = 64        // entries
)

// kick begins what has to be written next. One thing is under way at a time,
// and what comes meanwhile is written together.
func (s *Session) kick(n int64) {
	l := &s.log
	if l.op != opNone || l.retryAt > n || s.ended {
		return
	}
	l.retryAt = 0
	wants := s.wantsEntry(n)
	switch {
	case l.entry != nil: // what a record says builds on it
		s.append()
	case l.putDue, wants && !l.recorded, !wants && s.drained():
		s.put()
	case wants:
		s.append()
	case l.entries >= trimEvery:
		s.trim()
	}
}

// wantsEntry reports whether an entry is to be written now.
func (s *Session) wantsEntry(n int64) bool {
	d := &s.down
	ungiven := len(d.q) - d.given
	switch {
	case s.enabling:
		return false
	case s.resumable && s.up.dirty && (len(s.up.pending) > 0 || s.owes > 0 || s.resuming):
		return true
	case d.replay && (s.resumable || d.assigned > d.given):
		return true
	case s.retired:
		return ungiven > 0 || len(d.drops) > 0
	case s.retiring, s.swapping:
		return ungiven > 0 || len(d.drops) > 0 || d.skips > 0
	case !s.resumable && s.listening():
		return false
	case !s.listening() && ungiven > 0:
		return true
	case s.listening() && d.sent < len(d.q) && (ungiven > 0 || d.gate > s.log.appended):
		return true
	case ungiven+d.skips > settleCount:
		return true
	}
	at := s.oldest()
	return at > 0 && n >= at+int64(settleWithin)
}

// oldest is when the oldest came that is in no entry, 0: there is nothing.
func (s *Session) oldest() int64 {
	d := &s.down
	var at int64
	if d.given < len(d.q) {
		at = d.q[d.given].at
	}
	if d.skips > 0 && (at == 0 || d.skipAt < at) {
		at = d.skipAt
	}
	return at
}

// settleAt is when what is in no entry gets into one.
func (s *Session) settleAt() int64 {
	at := s.oldest()
	if at == 0 || s.log.op != opNone || s.log.retryAt > 0 || s.enabling || !s.resumable && s.listening() {
		return 0
	}
	return at + int64(settleWithin)
}

// idle reports whether all there is is on disk.
func (s *Session) idle() bool {
	d := &s.down
	return s.log.op == opNone && s.log.entry == nil && d.onDisk == len(d.q) && len(d.drops) == 0 && d.skips == 0
}

// drained reports whether the entries can go, when the record says the numbers.
func (s *Session) drained() bool {
	l := &s.log
	return s.down.given == 0 && len(s.down.waiting) == 0 && l.entries > 0 && (l.items || l.entries >= trimEvery)
}

func (s *Session) put() {
	l := &s.log
	l.op, l.putDue = opPut, false
	l.started++
	s.up.dirty = false
	if s.enabling {
		l.enableOp = l.started
	}
	l.trimTo = 0
	if s.down.given == 0 && len(s.down.waiting) == 0 {
		l.trimTo = l.lastPos
	}
	s.out.Put(s.encodeRecord())
}

// append writes what is in no entry yet, or again what could not be written.
func (s *Session) append() {
	l, d := &s.log, &s.down
	l.op = opAppend
	if l.entry != nil {
		s.out.Append(l.entry)
		return
	}
	l.started++
	l.appends++
	end := len(d.q)
	replay := d.replay && s.resumable
	if replay { // it comes behind what was sent, and before what was not
		end = max(d.given, d.assigned)
	}
	items := d.fits(end)
	replay = replay && d.given+items == end
	whole := d.given+items == len(d.q)
	u := s.lastU(items, whole)
	l.entry = s.encodeEntry(items, u, replay)
	d.uGiven, d.drops = u, nil
	d.given += items
	if whole {
		d.skips, d.skipAt = 0, 0
	} else if d.gate == l.appends {
		d.gate++ // the rest of what deviates is in the next
	}
	if replay {
		s.startReplay()
	}
	s.up.dirty = false
	s.out.Append(l.entry)
}

// fits is how many items, up to an end, go into one entry.
func (d *down) fits(end int) int {
	items, bytes := 0, 0
	for i := d.given; i < end && items < maxItems; i++ {
		if bytes += int(d.q[i].size); items > 0 && bytes > maxItemsBytes {
			break
		}
		items++
	}
	return items
}

// lastU is the server's number that an entry with so many items ends with.
func (s *Session) lastU(items int, whole bool) uint64 {
	if whole {
		return s.uIn
	}
	d := &s.down
	u := d.uGiven
	for _, it := range d.q[d.given : d.given+items] {
		u = max(u, it.u)
	}
	return u
}

// startReplay puts what waited for this login behind what is in entries.
func (s *Session) startReplay() {
	d := &s.down
	d.q = slices.Insert(d.q, d.given, d.waiting...)
	d.given += len(d.waiting)
	d.waiting, d.replay = nil, false
}

// Stored is told what became of the Put or Append that was under way.
func (s *Session) Stored(now time.Time, pos uint64, err error) {
	l := &s.log
	was := l.op
	l.op = opNone
	n := now.UnixNano()
	switch {
	case s.ended || was == opNone:
		return
	case err != nil:
		l.retryAt = n + int64(retryAfter)
		l.putDue = l.putDue || was == opPut
		s.up.dirty = s.up.dirty || was == opPut
	case was == opPut:
		l.recorded, l.done = true, l.started
		if l.trimTo > 0 {
			s.out.Trim(l.trimTo)
			l.entries, l.items = 0, false
		}
	default:
		l.done, l.appended = l.started, l.appends
		l.entry, l.lastPos = nil, pos
		l.entries++
		s.safe(n, pos)
	}
	if err == nil {
		s.flushUp()
	}
	s.settle(now)
}

// safe takes the items of the entry that is on disk now, and says which of
// them wait for a client that does not listen.
func (s *Session) safe(n int64, pos uint64) {
	d := &s.down
	if d.given > d.onDisk {
		s.log.items = true
	}
	s.uSafe = max(s.uSafe, d.uGiven)
	first := d.onDisk
	for i := first; i < d.given; i++ {
		it := &d.q[i]
		if it.pos != 0 { // it was replayed
			continue
		}
		it.pos = pos
		s.pushItem(it)
	}
	d.onDisk = d.given
	s.pump(n)
	for i := min(first, len(d.q)); i < d.onDisk; i++ {
		if i != d.sent || !s.listening() {
			s.shed(&d.q[i])
		}
	}
}

// trim drops the entries before the first that is needed.
func (s *Session) trim() {
	s.log.entries = 1
	if pos, _ := s.firstKept(); pos > 1 {
		s.out.Trim(pos - 1)
	}
}

// firstKept is where the first item is that is needed; behind all entries when
// there is none.
func (s *Session) firstKept() (uint64, uint16) {
	pos, idx := s.log.lastPos+1, uint16(0)
	for _, q := range [...][]item{s.down.q[:s.down.onDisk], s.down.waiting} {
		for _, it := range q {
			if it.pos != 0 && (it.pos < pos || it.pos == pos && it.idx < idx) {
				pos, idx = it.pos, it.idx
			}
		}
	}
	return pos, idx
}
