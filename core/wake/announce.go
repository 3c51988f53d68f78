package wake

import (
	"context"
	"time"

	"sallyport/core/push"
)

// Announce sends the push that goes beside the INVITE to a device in the
// foreground or silent (B4, B28): the call is set up by SIP, whatever becomes
// of the push. It waits for nothing; done (may be nil) and obs are called from
// another goroutine, done exactly once and last. stop takes the push back if it
// has not left, and may be called at any time, more than once.
//
// A call that is announced already is not announced again (B6): that is
// Refused, like a push beyond the rate. A device that cannot be pushed is
// NoRoute, and no step of a trace.
func (w *Waker) Announce(d Device, c push.Call, obs Observer, done func(push.Result)) (stop func()) {
	now := time.Now()
	if c.Sent.IsZero() {
		c.Sent = now
	}
	if c.RingUntil.IsZero() {
		c.RingUntil = now.Add(w.cfg.Window)
	}
	if obs == nil {
		obs = func(string, string) {}
	}
	if done == nil {
		done = func(push.Result) {}
	}
	can := w.p != nil && w.p.CanCall(d.target())
	quiet := w.quiet(d, c)

	w.mu.Lock()
	defer w.mu.Unlock()
	refuse := func(o push.Outcome, reason string) func() {
		r := push.Result{Outcome: o, Channel: push.VoIP, Reason: reason}
		if w.closed {
			go done(r)
			return func() {}
		}
		w.pushing.Go(func() {
			if o != push.NoRoute {
				obs(StepPushRefused, reason)
			}
			done(r)
		})
		return func() {}
	}
	switch {
	case w.closed:
		return refuse(push.ProviderDown, ErrStopped.Error())
	case !can:
		return refuse(push.NoRoute, ErrNoRoute.Error())
	case quiet != "":
		return refuse(push.Quiet, quiet)
	case w.announcing >= maxAnnouncing:
		return refuse(push.ProviderDown, "too many pushes under way")
	case w.recent.announced(d.ID, c.CallID, w.cfg.Window) != nil:
		return refuse(push.Refused, "announced already")
	}
	r := w.newRun(d, c, nil)
	if r == nil {
		return refuse(push.Refused, ErrRate.Error())
	}
	w.announcing++
	w.pushing.Go(func() { w.announce(d, r, obs, done) })
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		r.stop()
	}
}

func (w *Waker) announce(d Device, r *run, obs Observer, done func(push.Result)) {
	obs(StepPushSent, r.provider)
	res := w.push(d, r)
	w.mu.Lock()
	w.announcing--
	w.mu.Unlock()
	observe(obs, res)
	done(res)
}

// Note sends n on the Message channel: never a ring, never waited for, never
// counted as a wake. A device that cannot be sent notes is left alone.
func (w *Waker) Note(d Device, n push.Note, obs Observer) {
	if obs == nil {
		obs = func(string, string) {}
	}
	if w.p == nil || !w.p.CanNote(d.target()) {
		return
	}
	w.p.Post(d.target(), n, func(res push.Result) {
		if res.Outcome == push.Accepted || res.Provider != "" { // not before: it may have been held, or dropped
			obs(StepPushSent, n.Event)
		}
		observe(obs, res)
	})
}

// Queue is Note for what must not be forgotten: it returns when the note will
// outlive this process, kill -9 included. Errors are [ErrNoRoute], and those of
// [push.Service.Enqueue].
func (w *Waker) Queue(ctx context.Context, d Device, n push.Note) error {
	if w.p == nil || !w.p.CanNote(d.target()) {
		return ErrNoRoute
	}
	return w.p.Enqueue(ctx, d.target(), n)
}

func observe(obs Observer, res push.Result) {
	if res.Outcome == push.Accepted {
		obs(StepPushAccepted, detail(res.Provider, res.ID))
		return
	}
	obs(StepPushRefused, detail(string(res.Outcome), res.Reason))
}
