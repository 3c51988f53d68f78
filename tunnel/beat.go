package tunnel

import (
	"time"

	"sallyport/tunnel/frame"
)

// pingAnyway is how many pingEvery may pass without a PING on a busy link: the
// round trip is worth knowing there too.
const pingAnyway = 5

// beat asks a silent peer for a sign of life, ends the session when none
// comes, and closes flows that are stuck. Life is any received byte, so that a
// PONG queued behind data never condemns a slow link.
func (s *session) beat() {
	asked := -pingAnyway * s.pingEvery // when the last PING was sent
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-s.done:
			return
		case <-timer.C:
		}
		now := time.Since(s.start)
		silent := now - time.Duration(s.heard.Load())
		if silent >= s.deadAfter {
			s.fail(errDead, frame.GoAwayDead)
			return
		}
		if quiet := now - asked; quiet >= pingAnyway*s.pingEvery || silent >= s.pingEvery && quiet >= s.pingEvery {
			asked = now
			s.ping(now)
		}
		s.closeStuck()
		timer.Reset(s.nextBeat(silent))
	}
}

// nextBeat is the time until something may be due: never more than a second,
// for the sake of stuck flows, and no later than the peer's death.
func (s *session) nextBeat(silent time.Duration) time.Duration {
	next := min(time.Second, s.pingEvery, s.deadAfter-silent)
	if silent < s.pingEvery {
		next = min(next, s.pingEvery-silent)
	}
	return max(next, time.Millisecond)
}

func (s *session) ping(now time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.control = frame.AppendUint64(s.control, frame.TypePing, uint64(now))
	s.work.Signal()
}

// closeStuck closes the flows whose peer gave no credit for stuckAfter though
// there was something to send.
func (s *session) closeStuck() {
	if len(s.stuck()) == 0 {
		return
	}
	const why = "took nothing for too long"
	s.calls.Lock()
	defer s.calls.Unlock()
	for _, f := range s.stuck() {
		s.mu.Lock()
		closed := s.close(f, CloseSlowConsumer, why)
		s.mu.Unlock()
		if closed {
			f.h.Closed(f, CloseSlowConsumer, why)
		}
	}
}

func (s *session) stuck() []*Flow {
	s.mu.Lock()
	defer s.mu.Unlock()
	var stuck []*Flow
	for f, b := range s.blocked {
		if time.Since(b.since) >= s.stuckAfter {
			stuck = append(stuck, f)
		}
	}
	return stuck
}
