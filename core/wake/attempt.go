package wake

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptrace"
	"slices"
	"sync/atomic"
	"time"

	"sallyport/core/push"
)

// attempt is what goes on to bring one device back: who waits, and the push
// for them. It lives as long as somebody waits. Guarded by Waker.mu.
//
//	           Call                  accepted
//	(none) ───────────▶ push under way ─────▶ pushed ── REGISTER, refused, gone,
//	   ▲                  │   ▲  │ announced               │ or nobody waits
//	   │   not accepted   │   │  │ call left               │
//	   └──────────────────┘   └──┘ next is announced       │
//	   ▲                                                   │
//	   └───────────────────────────────────────────────────┘
type attempt struct {
	waiters  []*waiter // longest waiting first
	run      *run      // push under way, nil if none
	pushed   bool      // a push was accepted
	sent     time.Time // when the last push was sent
	provider string    // that took it, or is thought to
}

// waiter is one request that waits. Static fields apart, it is guarded by
// Waker.mu until over; after that, out and err never change.
type waiter struct {
	// Static.
	device   string
	known    string     // see Device.Flow
	call     *push.Call // nil for one that asks for no push
	observed bool
	signal   chan struct{} // holds one token: steps or over changed

	steps []step
	over  bool
	out   Outcome
	err   error
}

type step struct{ name, detail string }

// run is one VoIP push from the decision to its outcome.
type run struct {
	// Static.
	owner    *waiter // whose call it announces; nil for Announce
	call     push.Call
	provider string // of the device's first token
	ctx      context.Context
	cancel   context.CancelFunc
	start    time.Time
	done     chan struct{} // closed when the outcome is settled

	// written is set when the request for it is on its way to the provider,
	// whose answer is still out.
	written atomic.Bool

	// Guarded by Waker.mu.
	stopped  bool // taken back, since whoever it was for left
	settled  bool
	accepted bool // valid once settled
}

// stop takes a push back if it has not left, and reports whether it did.
func (r *run) stop() bool {
	if r.settled || r.written.Load() {
		return false
	}
	r.stopped = true
	r.cancel()
	return true
}

// mayHaveLeft reports whether the device may ring for it.
func (r *run) mayHaveLeft() bool { return r.accepted || r.written.Load() }

func (v *waiter) tell(name, detail string) {
	if v.observed {
		v.steps = append(v.steps, step{name, detail})
	}
	v.ring()
}

func (v *waiter) ring() {
	select {
	case v.signal <- struct{}{}:
	default:
	}
}

// finish answers waiters, all alike, and returns the time since the push, zero
// if none was sent.
func (a *attempt) finish(waiters []*waiter, flow string, err error) (took time.Duration) {
	pushed := a.pushed || a.run != nil && a.run.mayHaveLeft()
	if err == nil {
		// Back before the provider answered (R4): the push did its work, if it has
		// left. Otherwise there is no need for it any more.
		pushed = pushed || a.run != nil && !a.run.stop()
		if pushed {
			took = time.Since(a.sent)
		}
	}
	for _, v := range waiters {
		v.over, v.err = true, err
		v.out = Outcome{Flow: flow, Pushed: pushed, Took: took}
		if err == nil {
			v.tell(StepRegistered, flow)
		}
		v.ring()
	}
	return took
}

// nextCall returns the call that waits longest, nil if only requests without
// a push wait.
func (a *attempt) nextCall() *waiter {
	for _, v := range a.waiters {
		if v.call != nil {
			return v
		}
	}
	return nil
}

// join enters v among those who wait for d and starts a push if it needs one.
// The flow is asked for after v is entered: a registration before that shows in
// the answer, a later one frees v.
func (w *Waker) join(d Device, v *waiter) error {
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return ErrStopped
	}
	a := w.attempts[d.ID]
	if a == nil {
		a = &attempt{}
		w.attempts[d.ID] = a
	}
	if len(a.waiters) >= maxWaiters {
		w.mu.Unlock()
		return fmt.Errorf("%w: %d requests wait for it", ErrRate, maxWaiters)
	}
	a.waiters = append(a.waiters, v)
	w.mu.Unlock()

	flow := w.cfg.Flow(d.ID)
	can := v.call != nil && w.p != nil && w.p.CanCall(d.target())

	w.mu.Lock()
	defer w.mu.Unlock()
	if v.over || w.attempts[d.ID] != a {
		return nil
	}
	if flow != "" && flow != v.known {
		a.remove(v)
		a.finish([]*waiter{v}, flow, nil)
		w.tidy(d.ID, a)
		return nil
	}
	if v.call == nil {
		return nil
	}
	if err := w.ensurePush(d, a, v, can); err != nil {
		a.remove(v)
		w.tidy(d.ID, a)
		return err
	}
	return nil
}

// ensurePush sees that a push is out for a, on behalf of v.
func (w *Waker) ensurePush(d Device, a *attempt, v *waiter, can bool) error {
	if a.run == nil && !a.pushed {
		if r := w.recent.announced(d.ID, v.call.CallID, w.cfg.Window); r != nil {
			a.sent, a.provider = r.start, r.provider
			if a.pushed = r.accepted; !r.settled {
				a.run = r
			}
		}
	}
	switch {
	case a.run != nil || a.pushed:
		v.tell(StepPushSent, "joins the push that is out")
		if a.pushed {
			v.tell(StepPushAccepted, a.provider)
		}
		return nil
	case !can:
		return ErrNoRoute
	}
	return w.start(d, a, v)
}

// start sends a push that announces v's call.
func (w *Waker) start(d Device, a *attempt, v *waiter) error {
	r := w.newRun(d, *v.call, v)
	if r == nil {
		return ErrRate
	}
	a.run, a.sent, a.provider = r, r.start, r.provider
	v.tell(StepPushSent, r.provider)
	if d.Flow == "" {
		w.scores.begin(d.ID, r.start)
	}
	w.pushing.Go(func() { w.push(d, r) })
	return nil
}

// newRun makes a run and counts it, or returns nil when the device had its
// share (B28).
func (w *Waker) newRun(d Device, c push.Call, owner *waiter) *run {
	r := &run{owner: owner, call: c, start: time.Now(), done: make(chan struct{})}
	if !w.recent.allow(d.ID, r, w.cfg.PerMinute) {
		return nil
	}
	if len(d.Tokens) > 0 {
		r.provider = d.Tokens[0].Provider
	}
	// Providers are reached by HTTP, and whichever it is, its request tells
	// when it is being written: from there on, nothing takes it back. The head
	// counts already, since word of the body's end may come later than the
	// provider has it.
	r.ctx, r.cancel = context.WithCancel(httptrace.WithClientTrace(w.ctx, &httptrace.ClientTrace{
		WroteHeaders: func() { r.written.Store(true) },
		WroteRequest: func(i httptrace.WroteRequestInfo) {
			if i.Err == nil {
				r.written.Store(true)
			}
		},
	}))
	return r
}

// push sends r and settles what it brought. It runs on a goroutine of its own.
func (w *Waker) push(d Device, r *run) push.Result {
	defer r.cancel()
	res := w.p.Call(r.ctx, d.target(), r.call)
	w.scores.settle(d.ID, res, time.Now())
	w.mu.Lock()
	defer w.mu.Unlock()
	r.settled, r.accepted = true, res.Outcome == push.Accepted
	close(r.done)
	if !r.accepted {
		// Taken back, or never sent, it does not count; failed, it does, but the
		// same call may be announced again.
		w.recent.failed(d.ID, r, r.stopped && !r.mayHaveLeft() || res.Outcome == push.Quiet)
	}
	if a := w.attempts[d.ID]; a != nil && a.run == r {
		a.run = nil
		w.settle(d, a, r, res)
		w.tidy(d.ID, a)
	}
	w.log.Debug("push settled", "call_id", r.call.CallID, "outcome", string(res.Outcome),
		"provider", res.Provider, "reason", res.Reason, "stopped", r.stopped)
	return res
}

// settle tells those who wait what became of the push r, which was theirs.
func (w *Waker) settle(d Device, a *attempt, r *run, res push.Result) {
	if r.accepted {
		a.pushed = true
		if res.Provider != "" {
			a.provider = res.Provider
		}
		for _, v := range a.waiters {
			v.tell(StepPushAccepted, detail(res.Provider, res.ID))
		}
		return
	}
	if r.stopped {
		for v := a.nextCall(); v != nil && w.start(d, a, v) != nil; v = a.nextCall() {
			a.remove(v)
			a.finish([]*waiter{v}, "", ErrRate)
		}
		return
	}
	err := failure(res)
	for v := a.nextCall(); v != nil; v = a.nextCall() {
		a.remove(v)
		v.tell(StepPushRefused, detail(string(res.Outcome), res.Reason))
		a.finish([]*waiter{v}, "", err)
	}
}

// failure is the error for a push that was not accepted.
func failure(res push.Result) error {
	kind := ErrProviderDown
	switch res.Outcome {
	case push.NoRoute:
		kind = ErrNoRoute
	case push.DeadToken:
		kind = ErrDeadToken
	case push.Quiet:
		kind = ErrQuiet
	case push.ProviderDown, push.Refused, push.Accepted:
	}
	if res.Reason == "" {
		return kind
	}
	return fmt.Errorf("%w: %s", kind, res.Reason)
}

func detail(what, more string) string {
	if more == "" {
		return what
	}
	return what + " " + more
}

// leave takes v out because of why, unless it is over already. If its call is
// the one being announced, the push is stopped, and leave returns when it is
// known whether it had left.
func (w *Waker) leave(v *waiter, why error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	a := w.attempts[v.device]
	if v.over || a == nil || !a.remove(v) {
		return
	}
	r := a.run
	if r != nil && r.owner == v && r.stop() {
		w.mu.Unlock()
		<-r.done
		w.mu.Lock()
	}
	pushed := a.pushed || r != nil && r.mayHaveLeft()
	v.over, v.err, v.out = true, why, Outcome{Pushed: pushed}
	if errors.Is(why, ErrWindow) {
		v.tell(StepWindowOver, "")
	}
	if w.attempts[v.device] == a {
		w.tidy(v.device, a)
	}
}

// remove takes v from those who wait and reports whether it was among them.
func (a *attempt) remove(v *waiter) bool {
	i := slices.Index(a.waiters, v)
	if i < 0 {
		return false
	}
	a.waiters = slices.Delete(a.waiters, i, i+1)
	return true
}

// tidy forgets an attempt that nobody waits for. One whose push is being
// stopped is forgotten too: the push settles alone.
func (w *Waker) tidy(device string, a *attempt) {
	if len(a.waiters) == 0 {
		delete(w.attempts, device)
	}
}
