package session

import "time"

// fetch reads back what is on disk alone, from a position on.
func (s *Session) fetch(n int64, pos uint64) {
	l := &s.log
	if l.fetching || l.noFetch > n {
		return
	}
	l.fetching, l.fetched, l.noFetch = true, pos, 0
	s.out.Fetch(pos)
}

// Fetched is told what was read. The entries' bytes are the session's from now
// on.
func (s *Session) Fetched(now time.Time, entries []Entry, err error) {
	l := &s.log
	if !l.fetching || s.ended {
		return
	}
	n := now.UnixNano()
	l.fetching = false
	if err != nil {
		l.noFetch = n + int64(retryAfter)
		s.settle(now)
		return
	}
	if !s.restock(entries) || s.lacks(entries) {
		s.breakOff()
		s.settle(now)
		return
	}
	s.pump(n)
	s.pushAll(n)
	s.settle(now)
}

// restock gives the items of these entries their bytes again.
func (s *Session) restock(entries []Entry) bool {
	d := &s.down
	at := 0
	for _, e := range entries {
		got, err := decodeEntry(e.Data)
		if err != nil {
			return false
		}
		for at < d.onDisk && d.q[at].pos != e.Pos {
			at++
		}
		if at == d.onDisk {
			at = 0 // what was replayed stands behind what came later
			for at < d.onDisk && d.q[at].pos != e.Pos {
				at++
			}
		}
		for ; at < d.onDisk && d.q[at].pos == e.Pos; at++ {
			it := &d.q[at]
			if int(it.idx) >= len(got.items) {
				return false
			}
			if at >= d.sent || it.flags&isPushed == 0 && s.suspended() {
				it.raw = got.items[it.idx].raw
			}
		}
	}
	return true
}

// lacks reports whether the entry that was asked for is not there, and still
// needed.
func (s *Session) lacks(entries []Entry) bool {
	pos := s.log.fetched
	if len(entries) > 0 && entries[0].Pos == pos {
		return false
	}
	for _, it := range s.down.q[:s.down.onDisk] {
		if it.pos == pos {
			return true
		}
	}
	return false
}

// breakOff ends a session whose journal cannot be read: its numbers cannot be
// kept. The server keeps what it was not told is safe.
func (s *Session) breakOff() {
	if s.server {
		s.out.CloseServer(false)
		s.server = false
	}
	if s.attached {
		s.out.CloseClient(nil)
		s.detach()
	}
	s.end()
}

// pushAll pushes what was not yet pushed, as the client listens no more, and
// keeps no bytes that are on disk.
func (s *Session) pushAll(n int64) {
	if !s.suspended() || s.retired || s.retiring {
		return
	}
	d := &s.down
	for i := range d.q[:d.onDisk] {
		it := &d.q[i]
		s.pushItem(it)
		if it.flags&isPushed == 0 {
			s.fetch(n, it.pos)
			return
		}
		s.shed(it)
	}
}

// pushItem pushes one that is on disk, if that is due and its bytes are there.
func (s *Session) pushItem(it *item) {
	switch {
	case it.flags&isPushed != 0:
	case it.u == 0: // ours
		it.flags |= isPushed
	case it.raw == nil, !s.suspended(), s.retired, s.retiring:
	default:
		it.flags |= isPushed
		if e, err := Parse(it.raw); err == nil {
			s.out.Push(e, uint64(s.epoch)<<40|it.u)
		}
	}
}
