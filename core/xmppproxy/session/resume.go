package session

import (
	"fmt"
	"time"
)

// Resume takes a flow of the client's that was authenticated as the session's
// user and asked to resume, its h being the stanzas it has. Out leads to that
// flow already.
func (s *Session) Resume(now time.Time, h uint32) error {
	switch {
	case !s.Resumable():
		return ErrNoResume
	case !s.server:
		return ErrNeedSwap
	}
	n := now.UnixNano()
	s.attach(n)
	s.swapping = false
	if !s.takeNumber(h) {
		s.settle(now)
		return ErrNumber
	}
	s.resuming, s.limit = true, n+int64(resumeWithin)
	if s.up.din != s.up.in {
		s.askServer()
	}
	s.settle(now)
	return nil
}

// attach puts a new flow in the place of the old one.
func (s *Session) attach(n int64) {
	s.detach()
	s.attached, s.heard = true, n
}

// takeNumber takes the h of a client that returns.
func (s *Session) takeNumber(h uint32) bool {
	d := &s.down
	h = s.correct(h, d.assigned)
	n, ok := s.between(h, d.assigned)
	if !ok {
		s.impossible(h)
		return false
	}
	s.pop(n)
	return true
}

// impossible ends a session whose client counts what it cannot have: it is not
// known any more what it has.
func (s *Session) impossible(h uint32) {
	s.out.CloseClient(tooHigh(h, s.down.acked+uint64(s.down.assigned)))
	s.detach()
	if s.server {
		s.out.CloseServer(false)
	}
	s.retire(s.heard)
}

// finishResume says that the session goes on, once the server has what the
// client sent before: what it is told not to send again must not get lost.
func (s *Session) finishResume() {
	if !s.resuming || s.up.din != s.up.in {
		return
	}
	s.resuming, s.limit = false, 0
	s.welcome()
}

func (s *Session) welcome() {
	s.out.ToClient(fmt.Appendf(nil, "<resumed xmlns='%s' previd='%s' h='%d'/>", nsSM, attrText(s.cfg.ID), uint32(s.up.din)))
	for i := range s.down.q {
		s.down.q[i].flags |= isLate
	}
	s.back()
}

// PrepareSwap asks for what a fresh stream has to say so that the server hands
// the session over to it; h is the client's. Nothing is changed yet, but the
// old stream must not be read any more. [Out.SwapReady] is the answer, once
// all that came from the server is safe.
func (s *Session) PrepareSwap(now time.Time, h uint32) error {
	if !s.Resumable() || s.previd == "" || s.smState != smOn {
		return ErrNoResume
	}
	s.swapping, s.swapAsked = true, false
	s.swapH = uint32(s.uIn)
	if d := s.beyond(h); s.restored && d > 0 {
		s.swapH += d
	}
	s.settle(now)
	return nil
}

// beyond is how many stanzas more a client has than the journal knew of when
// the core ended.
func (s *Session) beyond(h uint32) uint32 {
	end := s.down.acked + uint64(len(s.down.q))
	if d := h - uint32(end); int32(d) > 0 {
		return d
	}
	return 0
}

func (s *Session) finishSwap() {
	if s.swapping && !s.swapAsked && s.idle() {
		s.swapAsked = true
		s.out.SwapReady(s.previd, s.swapH)
	}
}

// SwapFailed is told that the fresh stream broke or the server refused it,
// because it is another user's. Nothing changed.
func (s *Session) SwapFailed(now time.Time) {
	s.swapping = false
	s.settle(now)
}

// Swapped is told that the server resumed the session on the fresh stream,
// having got serverH stanzas; clientH are those the client has. Out leads to
// the new flow and the new stream.
func (s *Session) Swapped(now time.Time, clientH, serverH uint32) error {
	if !s.swapping || s.ended {
		return ErrNoResume
	}
	n := now.UnixNano()
	s.attach(n)
	s.swapping, s.server = false, true
	if s.restored {
		s.takeBeyond(clientH)
	}
	if !s.takeNumber(clientH) {
		s.settle(now)
		return ErrNumber
	}
	if !s.takeServer(serverH) {
		s.out.CloseServer(false)
		s.out.CloseClient(nil)
		s.detach()
		s.retire(n)
		s.settle(now)
		return ErrNumber
	}
	s.uIn += uint64(s.swapH - uint32(s.uIn))
	s.uSafe, s.uTold, s.uAsked = s.uIn, s.uIn, s.uIn
	s.down.replay = len(s.down.waiting) > 0
	s.restored = false
	s.welcome()
	s.settle(now)
	return nil
}

// takeBeyond counts what the client has and the journal did not know of.
func (s *Session) takeBeyond(h uint32) {
	d := &s.down
	if more := s.beyond(h); more > 0 {
		s.pop(len(d.q))
		d.acked += uint64(more)
		d.uGiven += uint64(more)
	}
}

// takeServer takes the server's h. What the server did not get, the client
// will send again.
func (s *Session) takeServer(h uint32) bool {
	u := &s.up
	n := uint64(h - uint32(u.acked))
	if limit := s.sentUp() - u.acked; !s.restored && n > limit || n > 1<<31 {
		return false
	}
	u.advance(n)
	u.passConsumed()
	*u = up{acked: u.acked, out: u.acked, din: u.din, in: u.din}
	s.markUp()
	return true
}

// Refused is told that the server does not know a session any more whose
// stream is lost. What it was told is safe waits for another login.
func (s *Session) Refused(now time.Time) {
	s.swapping = false
	if !s.server && !s.ended && !s.retired {
		s.retire(now.UnixNano())
	}
	s.settle(now)
}
