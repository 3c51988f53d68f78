package session

import (
	"fmt"
	"strconv"
	"time"

	"sallyport/core/stanza"
)

// nonzas are the client's elements that are for the core.
var nonzas = map[[2]string]func(s *Session, n int64, e *stanza.Element){
	{nsSM, "enable"}:    (*Session).onEnable,
	{nsSM, "r"}:         (*Session).onRequest,
	{nsSM, "a"}:         (*Session).onAck,
	{nsSM, "resume"}:    (*Session).onResume,
	{nsCSI, "inactive"}: (*Session).onInactive,
	{nsCSI, "active"}:   (*Session).onActive,
}

// FromClient takes an element from the client.
func (s *Session) FromClient(now time.Time, e *stanza.Element) {
	if !s.attached || s.ended {
		return
	}
	n := now.UnixNano()
	s.hear(n)
	if do := nonzas[[2]string{string(e.Space), string(e.Local)}]; do != nil {
		do(s, n, e)
	} else {
		s.forward(n, e)
	}
	s.settle(now)
}

// forward passes an element on.
func (s *Session) forward(_ int64, e *stanza.Element) {
	switch {
	case s.resuming:
		// Nothing may come before <resumed/>: it would have no number.
		s.closeClient(streamError("policy-violation", ""))
	case !isStanza(e):
		if s.server {
			s.out.ToServer(e.Raw)
		}
	default:
		s.notePresence(e)
		s.toServer(s.clients(theirs), e.AppendPortable(nil))
	}
}

// clients is the kind of a stanza of the client's: before <enable/> it does
// not count.
func (s *Session) clients(k kind) kind {
	if !s.sm && k == theirs {
		return ours
	}
	return k
}

// Consume takes a stanza from the client that is for the core, and answers it;
// the answer may be nil.
func (s *Session) Consume(now time.Time, answer []byte) {
	if !s.attached || s.ended || s.resuming {
		return
	}
	n := now.UnixNano()
	s.hear(n)
	if s.sm {
		s.toServer(consumed, nil)
	}
	if answer != nil && s.attached {
		s.tellClient(n, answer)
	}
	s.settle(now)
}

// Answer is the answer to what Consume took, where it comes later.
func (s *Session) Answer(now time.Time, p []byte) {
	if s.ended || s.retired || s.retiring {
		return
	}
	s.tellClient(now.UnixNano(), p)
	s.settle(now)
}

// Heard takes any other sign of life.
func (s *Session) Heard(now time.Time) {
	if s.attached && !s.ended {
		s.hear(now.UnixNano())
		s.settle(now)
	}
}

func (s *Session) hear(n int64) {
	s.heard = n
	if s.silent {
		s.silent = false
		s.back()
	}
}

// silentAt is when a client that was asked and says nothing is silent.
func (s *Session) silentAt() int64 {
	if s.asked == 0 || !s.attached || s.silent || s.inactive || s.resuming {
		return 0
	}
	return max(s.asked, s.heard) + int64(answerWithin)
}

// Silent is told that the flow does not answer.
func (s *Session) Silent(now time.Time) {
	if s.attached && !s.silent && !s.ended {
		s.fallSilent(now.UnixNano())
		s.settle(now)
	}
}

func (s *Session) fallSilent(n int64) {
	s.silent = true
	s.suspend(n, s.policy.AwayDelay)
}

// onEnable begins to count (XEP-0198 §3).
func (s *Session) onEnable(_ int64, e *stanza.Element) {
	if s.sm || s.enabling {
		s.out.ToClient(smFailed("unexpected-request", ""))
		return
	}
	s.sm, s.enabling, s.askedFor = true, true, 0
	wants := string(e.Attr("resume"))
	s.wantsBack = wants == "true" || wants == "1"
	d := &s.down
	d.acked, d.assigned, d.sent, d.flying = 0, 0, 0, 0
	s.up.in, s.up.din = 0, 0
}

// finishEnable goes on with it once the server answered whether it counts,
// too. A promise to resume holds over a restart, so it is on disk first.
func (s *Session) finishEnable() {
	switch {
	case !s.enabling || s.smState == smAsked:
	case !s.wantsBack:
		s.enabling = false
		s.out.ToClient([]byte("<enabled xmlns='" + nsSM + "'/>"))
	case !s.resumable:
		if s.log.op == opNone {
			s.promise()
		}
	case s.log.done >= s.log.enableOp && s.log.enableOp > 0:
		s.enabling = false
		s.out.ToClient(fmt.Appendf(nil, "<enabled xmlns='%s' id='%s' resume='true' max='%d'/>",
			nsSM, attrText(s.cfg.ID), int64(s.policy.ResumeMax/time.Second)))
	}
}

// promise begins the numbers a restart has to know. What is on disk already
// was of an earlier login as far as they are concerned.
func (s *Session) promise() {
	d := &s.down
	s.resumable, s.log.putDue = true, true
	s.epoch++
	for _, it := range d.q[:d.given] {
		if it.flags&isMessage != 0 {
			d.waiting, d.replay = append(d.waiting, it), true
		} else {
			d.bytes -= int(it.size)
		}
	}
	d.q = d.q[d.given:]
	d.given, d.onDisk, d.drops = 0, 0, nil
	d.uGiven = s.uIn - d.ungivenU()
}

// onRequest answers <r/> once the server has what the client sent; that takes
// a round trip inside.
func (s *Session) onRequest(n int64, _ *stanza.Element) {
	switch {
	case !s.sm || s.enabling || s.resuming:
	case s.up.din == s.up.in || !s.server:
		s.owes = 0
		s.sendAck()
	default:
		if s.owes == 0 {
			s.owes = n + int64(askWithin)
		}
		s.askServer()
	}
}

func (s *Session) onAck(_ int64, e *stanza.Element) {
	if h, ok := number(e.Attr("h")); ok && !s.resuming {
		s.clientAck(h)
	} else {
		s.closeClient(streamError("undefined-condition", ""))
	}
}

// onResume: a session cannot be resumed within one.
func (s *Session) onResume(int64, *stanza.Element) {
	s.out.ToClient(smFailed("unexpected-request", ""))
}

func (s *Session) onInactive(n int64, _ *stanza.Element) {
	if !s.inactive && !s.resuming {
		s.inactive = true
		s.suspend(n, 0)
	}
}

func (s *Session) onActive(int64, *stanza.Element) {
	if s.inactive {
		s.inactive = false
		s.back()
	}
}

// suspend is the beginning of any time in which the client does not listen.
func (s *Session) suspend(n int64, awayAfter time.Duration) {
	s.asked, s.askedFor = 0, 0
	s.since = n
	switch {
	case s.away || s.presence == nil || s.policy.Presence == KeepPresence:
	case awayAfter == 0:
		s.showAway(time.Unix(0, n))
	case s.awayAt == 0:
		s.awayAt = n + int64(awayAfter)
	}
	s.pushAll(n)
}

// back is the end of it. What waited goes out by pump.
func (s *Session) back() {
	if !s.listening() {
		return
	}
	s.awayAt = 0
	s.showPresent()
}

// ClientLost is told that the flow ended without a goodbye.
func (s *Session) ClientLost(now time.Time) {
	if !s.attached || s.ended {
		return
	}
	s.loseClient(now.UnixNano())
	s.settle(now)
}

func (s *Session) loseClient(n int64) {
	s.detach()
	if s.enabling { // it was never told that it can resume
		s.enabling, s.sm, s.resumable = false, false, false
	}
	if !s.resumable && !s.cfg.Pushable {
		s.leave()
		return
	}
	s.suspend(n, s.policy.AwayDelay)
}

// detach takes the flow away.
func (s *Session) detach() {
	d := &s.down
	for i := range d.sent {
		d.q[i].flags |= isLate
	}
	d.sent, d.flying = 0, 0
	s.attached, s.inactive, s.silent, s.resuming = false, false, false, false
	s.asked, s.askedFor, s.owes, s.limit = 0, 0, 0, 0
}

// closeClient ends the flow and takes it as lost. Without an error the client
// will resume.
func (s *Session) closeClient(streamError []byte) {
	if s.attached {
		s.out.CloseClient(streamError)
		s.loseClient(s.heard)
	}
}

// ClientClosed is told that the client ended its stream. What it was not sent
// and the server was told is safe waits for its next login.
func (s *Session) ClientClosed(now time.Time) {
	if !s.attached || s.ended {
		return
	}
	if s.sm {
		s.pop(s.down.sent)
	}
	s.detach()
	s.leave()
	s.settle(now)
}

// Registered is told whether a push can reach the client.
func (s *Session) Registered(now time.Time, pushable bool) {
	s.cfg.Pushable = pushable
	if !pushable && !s.resumable && !s.attached && !s.ended && !s.retired {
		s.leave()
	}
	s.settle(now)
}

// badNumber ends a stream whose client counts what it cannot have.
func (s *Session) badNumber(h uint32, known int) {
	s.closeClient(tooHigh(h, s.down.acked+uint64(known)))
}

// number reads h.
func number(v []byte) (uint32, bool) {
	n, err := strconv.ParseUint(string(v), 10, 32)
	return uint32(n), err == nil
}
