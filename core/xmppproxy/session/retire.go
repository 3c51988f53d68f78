package session

import "time"

// Retire ends a session whose device logs in anew: all that came is put on
// disk and acknowledged, then the server's stream is closed. The state is
// Retired or Ended when that is done.
func (s *Session) Retire(now time.Time) {
	if s.ended || s.retired || s.retiring {
		return
	}
	if s.attached {
		s.out.CloseClient(streamError("conflict", ""))
		s.detach()
		s.since = now.UnixNano()
	}
	s.swapping = false
	s.leave()
	s.settle(now)
}

// leave ends a session that the client will not resume.
func (s *Session) leave() {
	s.asks, s.awayAt = nil, 0
	if s.keepable() {
		s.retiring = true
		return
	}
	s.closeServer()
	s.end()
}

// closeServer says goodbye to the server.
func (s *Session) closeServer() {
	if s.server {
		s.server = false
		s.out.CloseServer(true)
	}
}

// keepable reports whether there is something for another login.
func (s *Session) keepable() bool {
	for _, it := range s.down.q {
		if it.flags&isMessage != 0 {
			return true
		}
	}
	return len(s.down.waiting) > 0
}

// finishRetire goes on once all is on disk.
func (s *Session) finishRetire(n int64) {
	if !s.retiring || !s.idle() {
		return
	}
	if s.server && s.smState == smOn {
		s.uSafe = s.uIn
		s.sendServerAck()
	}
	s.closeServer()
	s.retire(n)
}

// retire gives up both legs. What the server was not told is safe is the
// server's to keep.
func (s *Session) retire(n int64) {
	d := &s.down
	s.retired, s.retiring, s.resumable, s.server, s.swapping = true, false, false, false, false
	s.asks, s.awayAt, s.away, s.since = nil, 0, false, n
	s.up = up{}
	if s.smState == smOn && !s.restored {
		for i := len(d.q) - 1; i >= 0; i-- {
			if d.q[i].u > s.uTold {
				s.dropAt(i)
			}
		}
	}
	d.skips = 0
	if !s.keepable() {
		s.end()
		return
	}
	s.log.putDue = true
}

// Relogin begins another login of the device of a session that is Retired. It
// stands in the place of [New]; what waited follows the client's first
// presence.
func (s *Session) Relogin(now time.Time, c Config) {
	d := &s.down
	bytes := 0
	var waiting []item
	for _, it := range append(d.waiting, d.q...) {
		if it.flags&isMessage == 0 {
			continue
		}
		it.flags |= isLate | isPushed
		it.u, it.key = 0, 0
		waiting = append(waiting, it)
		bytes += int(it.size)
	}
	s.down = down{waiting: waiting, bytes: bytes, gate: d.gate}
	s.epoch++
	s.begin(now, c)
	s.settle(now)
}
