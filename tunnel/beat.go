package tunnel

import (
	"time"

	"sallyport/tunnel/frame"
)

const (
	// pingAnyway is how many pingEvery may pass without a PING on a busy link:
	// the round trip is worth knowing there too.
	pingAnyway = 5
	// lookEvery bounds the time between two looks at a link: for its stuck
	// flows, for an ACK that is due, and for its progress.
	lookEvery = time.Second
	// stallAlarm and stallLimit are how long the peer may acknowledge nothing
	// though there is something, each less a look: it is said by 10 s, and the
	// carrier given up by 15 s. 64 KiB pass within that at 40 kbit/s.
	stallAlarm, stallLimit = 9 * time.Second, 14 * time.Second
)

// beat asks a silent peer for a sign of life, breaks c when none comes or when
// nothing moves, and closes flows that are stuck. Life is any received byte,
// so that a PONG queued behind data never condemns a slow link.
func (l *link) beat(c *carrier) {
	asked := -pingAnyway * l.s.pingEvery // when the last PING was sent
	stalled, again := false, c.resumed && l.toldNarrow
	wide := true
	var slow watch
	timer := time.NewTimer(0)
	defer timer.Stop()
	defer l.s.metrics.unacked.forget(l)
	for {
		select {
		case <-c.done:
			return
		case <-timer.C:
		}
		now := time.Since(c.start)
		silent := now - time.Duration(c.heard.Load())
		if silent >= l.s.deadAfter {
			l.broke(c, errDead, frame.GoAwayDead)
			return
		}
		if quiet := now - asked; quiet >= pingAnyway*l.s.pingEvery || silent >= l.s.pingEvery && quiet >= l.s.pingEvery {
			asked = now
			l.urge(func(b []byte) []byte { return frame.AppendUint64(b, frame.TypePing, uint64(now)) })
		}
		if stalled = l.progress(c, stalled); c.broken() {
			return
		}
		l.closeStuck()
		slow.look(l, time.Now())
		wide, again = l.widen(wide, again), false
		l.askAck()
		timer.Reset(l.s.nextBeat(silent))
	}
}

// nextBeat is the time until something may be due: never more than a look, and
// no later than the peer's death.
func (s *session) nextBeat(silent time.Duration) time.Duration {
	next := min(lookEvery, s.pingEvery, s.deadAfter-silent)
	if silent < s.pingEvery {
		next = min(next, s.pingEvery-silent)
	}
	return max(next, time.Millisecond)
}

func (c *carrier) broken() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// progress sees whether the peer, which is alive, also handles what it is
// sent. It returns whether it does not, and said so.
func (l *link) progress(c *carrier, said bool) bool {
	l.mu.Lock()
	age := time.Duration(0)
	if l.s.resumes() && l.ring.acked < l.ring.end {
		age = time.Since(l.moving)
	}
	l.ring.shrink(l.looked)
	l.looked = l.ring.end
	l.mu.Unlock()
	l.s.metrics.unacked.set(l, age)
	switch {
	case age >= stallLimit:
		l.broke(c, errStalled, frame.GoAwayDead)
	case age >= stallAlarm && !said:
		l.s.log.Warn("tunnel link stalls: the peer lives, but handles nothing",
			"peer", l.s.peer.Name, "link", l.number, "for", age.Round(time.Second))
	}
	return age >= stallAlarm
}

// closeStuck closes the flows whose peer gave no credit for stuckAfter though
// there was something to send.
func (l *link) closeStuck() {
	l.endFlows(l.stuck(), CloseSlowConsumer, slowConsumer, func() bool { return true })
}

func (l *link) stuck() []*Flow {
	l.mu.Lock()
	defer l.mu.Unlock()
	var stuck []*Flow
	for f, b := range l.blocked {
		if time.Since(b.since) >= l.s.stuckAfter {
			stuck = append(stuck, f)
		}
	}
	return stuck
}

// widen tells the peer when this node's budget wants other flows than before,
// and once more when that may have been lost.
func (l *link) widen(wide, again bool) bool {
	want := !l.s.budget.half()
	if (want != wide || again) && l.s.features&frame.FeatureNarrow != 0 {
		l.toldNarrow = true
		narrow := byte(1)
		if want {
			narrow = 0
		}
		l.urge(func(b []byte) []byte { return frame.Append(b, frame.TypeNarrow, 0, []byte{narrow}) })
	}
	return want
}
