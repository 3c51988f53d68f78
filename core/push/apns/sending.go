package apns

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sideshow/apns2"

	"sallyport/core/push"
)

// How long a push may be on a connection without an answer before that counts
// as dead. A call has [push.CallTimeout] there in all, of which the second
// attempt gets what the first has left.
const (
	callAttempt = 2 * time.Second
	noteAttempt = 15 * time.Second
	// lastAttempt is what the second attempt has at least.
	lastAttempt = push.CallTimeout - callAttempt
	// slowAttempt bounds an attempt on a connection that does answer others: it
	// is slow, because of a crowd on it or of a busy machine, and not dead.
	slowAttempt = 2 * callAttempt
)

// sending is one push on its way: its time on the wire is short and counted,
// its time in the queue before that is as long as it is of use.
type sending struct {
	// Static.
	e      *endpoint
	l      *lane
	urgent bool
	came   time.Time
	until  time.Time // for its turn
	note   *apns2.Notification

	// Owned by Send.
	wired   time.Duration   // on the wire so far
	patient context.Context // nil until it has to wait; ends with its patience
	stop    func()          // of patient
}

func newSending(e *endpoint, n push.Notification, note *apns2.Notification) *sending {
	s := &sending{e: e, l: e.lane(n.Urgent), urgent: n.Urgent, came: time.Now(), until: n.Until, note: note}
	if s.until.IsZero() {
		s.until = s.came.Add(s.patience())
	}
	return s
}

// to is the same push on its way to another endpoint, with what is left of its
// time.
func (s *sending) to(e *endpoint) *sending {
	out := *s
	out.e, out.l, out.patient, out.stop = e, e.lane(s.urgent), nil, nil
	return &out
}

// patience is how long it waits, and has waited, while nobody is answered.
func (s *sending) patience() time.Duration {
	if s.urgent {
		return push.CallTimeout
	}
	return 2 * noteAttempt
}

// patiently is ctx while the lane moves, for who waits. A first attempt that
// need not wait ends before its patience does, and goes without.
func (s *sending) patiently(ctx context.Context) context.Context {
	if s.patient == nil {
		s.patient, s.stop = push.WhileMoving(ctx, s.came, s.patience(), 0, context.DeadlineExceeded, &s.l.answered)
	}
	return s.patient
}

// within is ctx, with the end of its patience once it has waited.
func (s *sending) within(ctx context.Context) context.Context {
	if s.patient == nil {
		return ctx
	}
	return s.patient
}

// done ends what patiently began.
func (s *sending) done() {
	if s.stop != nil {
		s.stop()
		s.patient, s.stop = nil, nil
	}
}

// attempt waits for the push's turn on ln, and sends it.
func (s *sending) attempt(ctx context.Context, ln *line) answer {
	if err := s.turn(ctx, ln); err != nil {
		return answer{err: err}
	}
	start := time.Now()
	try, cancel := s.onTheWire(s.within(ctx), ln)
	a := ln.push(try, s.note)
	if a.err != nil && try.Err() != nil {
		a.err = context.Cause(try) // which the transport may call cancelled
	}
	cancel()
	s.wired += time.Since(start)
	if a.status != 0 {
		s.l.answered.Note()
	}
	return a
}

// turn waits for a place on ln.
func (s *sending) turn(ctx context.Context, ln *line) error {
	if in, err := ln.gate.try(); in || err != nil {
		return err
	}
	ctx, cancel := context.WithDeadlineCause(s.patiently(ctx), s.until, errLate)
	defer cancel()
	switch err := ln.gate.enter(ctx, s.until); {
	case errors.Is(err, context.DeadlineExceeded):
		return errStuck
	case err != nil:
		return err
	}
	if reason := s.e.breaker.Open(); reason != "" { // said to those ahead
		if ln.gate.leave(0) {
			ln.close()
		}
		return fmt.Errorf("%w: %s", errForbidden, reason)
	}
	return nil
}

// onTheWire is the time of an attempt.
func (s *sending) onTheWire(ctx context.Context, ln *line) (context.Context, func()) {
	if !s.urgent {
		return context.WithTimeout(ctx, noteAttempt)
	}
	limit := max(min(callAttempt, push.CallTimeout-s.wired), lastAttempt)
	return push.WhileMoving(ctx, time.Now(), limit, slowAttempt, context.DeadlineExceeded, &ln.answered)
}

// late reports that a push never had its turn.
func late(err error) bool {
	return errors.Is(err, errCrowded) || errors.Is(err, errLate) || errors.Is(err, errStuck) || errors.Is(err, errForbidden)
}
