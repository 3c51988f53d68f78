package sipproxy

import (
	"context"
	"time"

	"sallyport/core/downstream"
	"sallyport/core/trace"
)

// watchBranch follows one INVITE on one flow until it ends or gives way.
type watchBranch struct {
	l  *leg
	b  *branch
	to *peer

	ringing bool // traced
}

// run returns the flow that takes over, or the outcome.
func (w *watchBranch) run(ctx context.Context) (*peer, outcome) {
	l := w.l
	quiet := time.NewTimer(unansweredAfter)
	defer quiet.Stop()
	window := time.NewTimer(l.p.cfg.Window) // an INVITE that nobody hears is not waited for longer
	defer window.Stop()
	clock := time.NewTimer(timerC)
	defer clock.Stop()
	for {
		s := w.b.look()
		if o, ended := w.ended(s); ended {
			return nil, o
		}
		if s.alerting && !w.ringing {
			w.ringing = true
			l.step(trace.StepRinging, "")
		}
		if next := l.newest(); next != nil && next != w.to && !s.alerting && !next.isGone() {
			w.b.replace()
			return next, outcome{}
		}
		select {
		case <-w.b.notify:
		case <-l.fresh:
		case <-quiet.C:
			if !s.heard {
				w.unanswered()
				if next := w.spare(); next != nil {
					w.b.replace()
					return next, outcome{}
				}
			}
		case <-window.C:
			if !s.heard {
				w.b.replace()
				l.step(trace.StepWindowOver, "the flow is silent and the device did not register")
				return nil, outcome{status: 480}
			}
		case <-clock.C:
			if left := time.Until(s.progress.Add(timerC)); left > 0 {
				clock.Reset(left)
				continue
			}
			return nil, w.expire()
		case <-ctx.Done():
			if w.b.look().answered { // by this very device
				continue
			}
			return nil, w.stopped(ctx)
		}
	}
}

// ended says how the branch ended, if it has.
func (w *watchBranch) ended(s snapshot) (outcome, bool) {
	switch {
	case s.answered:
		w.l.p.talks.begin(headerValue(w.l.req, "Call-ID"), w.l.p.talker(w.l, w.to))
		w.l.step(trace.StepAnswered, "")
		return outcome{}, true
	case s.final != nil && challenges(w.b.f.st.from, w.to, s.final):
		w.l.step(trace.StepRefused, "the phone asks for credentials")
		return outcome{status: 480}, true
	case s.final != nil && s.final.StatusCode == 482 && w.l.before:
		return outcome{reason: merged}, true
	case s.final != nil:
		w.l.step(trace.StepRefused, s.final.Short())
		return outcome{res: s.final}, true
	case s.failed != nil && w.to.isGone():
		return outcome{reason: lostFlow}, true
	case s.failed != nil:
		return outcome{status: 480}, true
	}
	return outcome{}, false
}

// unanswered is the 2 s rule: a client that hears an INVITE answers with at
// least 100 at once. One that does not is silent, and is pushed.
func (w *watchBranch) unanswered() {
	w.to.flow.SetUnanswered()
	w.l.p.lookPublishedOn(w.to)
	w.l.step(trace.StepState, "silent: nothing came within 2 s")
	if dev, known := w.l.p.loc.Device(w.l.id); known {
		w.l.announce(dev)
		w.l.summon()
	}
}

// spare is another flow of the instance that hears, if it has one
// (RFC 5626 §5.3).
func (w *watchBranch) spare() *peer {
	dev, _ := w.l.p.loc.Device(w.l.id)
	if pe := w.l.p.bestOf(dev, w.to); pe != nil && !pe.isGone() && pe.flow.Attention() == (downstream.Attention{}) {
		return pe
	}
	return nil
}

func (w *watchBranch) expire() outcome {
	w.b.stop(&over{})
	if o := w.b.settle(cancelPatience, cancelPatienceQuiet); o.res != nil || o.code() == 0 {
		return o
	}
	return outcome{status: 408}
}

// stopped ends a branch nobody wants any more. A phone that rings is told and
// waited for; one that has not said a word is not.
func (w *watchBranch) stopped(ctx context.Context) outcome {
	w.l.step(trace.StepCancelled, overOf(ctx).reason)
	w.l.settlePush(outcome{status: endStatus(ctx)})
	w.b.stop(overOf(ctx))
	quiet := cancelPatienceQuiet
	if a := w.to.flow.Attention(); a.Silent || a.Inactive || a.Unanswered {
		quiet = 0
	}
	return w.b.settle(cancelPatience, quiet)
}
