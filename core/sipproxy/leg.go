package sipproxy

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"

	"sallyport/core/liveness"
	"sallyport/core/location"
	"sallyport/core/trace"
	"sallyport/core/wake"
)

// A leg is the branch of an INVITE that goes to one device, wherever the
// device is and whatever state it is in. At most one INVITE of a leg is live
// (B20): a new flow before any 18x ends the old one.
//
//	            ┌── no flow, token ──▶ held (wake) ──┐ registered
//	start ──────┼── no flow, none ──▶ grace ─────────┤
//	            └── flow ────────────────────────────┴▶ sent ──▶ final
//	                                        ▲             │ flow lost, or a
//	                                        └─────────────┘ newer flow before 18x
type leg struct {
	// Static after creation.
	p         *Proxy
	id        location.DeviceID
	req       *sip.Request // as it came
	call      callInfo
	dialog    bool         // a request inside a dialog: no push (B27)
	wakes     bool         // one of a dialog in which the device asked to be woken (RFC 8599 §6)
	quiet     bool         // with Replaces, or the device's own: no push, since nothing new rings
	client    bool         // the request came from a client, who may assert nothing
	routes    []sip.Header // Route headers that stay, inside a dialog
	from      *peer        // the caller's flow, in a stand-alone domain; nil for a PBX
	fromToken string       // names the caller's instance there
	pbxVia    string       // transport towards the PBX the request came from
	hop       hopAddr      // the PBX's server that a new dialog stays with
	trace     *trace.Call
	place     *place // among the requests for the same device; nil for an ACK

	// Owned by run.
	deadline time.Time     // end of the wake window
	last     *branch       // the newest INVITE that was sent
	before   bool          // one before it was heard by the phone
	retried  bool          // after a 482
	unpush   func()        // stops the announcement, if it has not left
	settled  chan struct{} // closed when it is known whether it left

	mu     sync.Mutex
	hushed bool          // the user wants no calls now; guarded by mu
	pushed bool          // a VoIP push for this call left, or is on its way; guarded by mu
	back   *peer         // newest flow that registered since start; guarded by mu
	fresh  chan struct{} // capacity 1: back has changed
	recent string        // newest step of the trace; guarded by mu
}

func (p *Proxy) newLeg(id location.DeviceID, req *sip.Request, dialog bool) *leg {
	return &leg{p: p, id: id, req: req, dialog: dialog, fresh: make(chan struct{}, 1)}
}

// callInfo is what a VoIP push says of the call.
type callInfo = wake.Call

// caller notes on which side of us the caller is, for Record-Route.
func (l *leg) caller(st *serverTx, b *location.Binding) {
	l.client = st.from.client()
	if b != nil {
		l.from, l.fromToken = st.from, b.Token
		return
	}
	l.pbxVia = st.from.via
	l.hop = l.p.hopOf(st.req, st.from, domainOf(l.id.AOR))
}

// flowUp says that the device has registered on pe.
func (l *leg) flowUp(pe *peer) {
	l.mu.Lock()
	l.back = pe
	l.mu.Unlock()
	select {
	case l.fresh <- struct{}{}:
	default:
	}
}

func (l *leg) newest() *peer { l.mu.Lock(); defer l.mu.Unlock(); return l.back }

func (l *leg) setPushed(v bool) { l.mu.Lock(); l.pushed = v; l.mu.Unlock() }

func (l *leg) setHushed(v bool) { l.mu.Lock(); l.hushed = v; l.mu.Unlock() }

func (l *leg) isHushed() bool { l.mu.Lock(); defer l.mu.Unlock(); return l.hushed }

func (l *leg) isPushed() bool { l.mu.Lock(); defer l.mu.Unlock(); return l.pushed }

// step writes the trace of the call, if it has one.
func (l *leg) step(step, detail string) {
	if l.trace == nil {
		return
	}
	l.mu.Lock()
	l.recent = step
	l.mu.Unlock()
	l.trace.Step(step, detail)
}

func (l *leg) lastStep() string { l.mu.Lock(); defer l.mu.Unlock(); return l.recent }

// drop implements target.
func (l *leg) drop() { l.p.lineup.leave(l.id, l.place) }

func (l *leg) run(ctx context.Context, f *fork) outcome {
	unwatch := l.p.watch(l.id, l)
	defer unwatch()
	defer l.p.lineup.leave(l.id, l.place)
	l.deadline = time.Now().Add(l.p.cfg.Window)
	to, o := l.reach(ctx, f)
	for to != nil {
		var next *peer
		next, o = l.deliver(ctx, f, to)
		switch {
		case next != nil:
		case l.lost(o):
			next, o = l.recover(ctx, f, to)
		case o.reason == merged:
			next, o = l.again(ctx, to)
		}
		l.before = l.before || l.last != nil && l.last.look().heard
		to = next
	}
	l.finish(ctx, f, o)
	return o
}

// reach finds the flow on which the INVITE goes out first. A nil peer means
// that there is none, for the reason in the outcome.
func (l *leg) reach(ctx context.Context, f *fork) (*peer, outcome) {
	dev, known := l.p.loc.Device(l.id)
	if !known {
		return nil, outcome{status: 480}
	}
	pe := l.p.peerOf(dev)
	state := l.p.stateOn(dev, pe)
	if l.trace != nil {
		l.trace.State(state.String())
	}
	l.step(trace.StepState, state.String())
	switch {
	case state == liveness.Foreground:
		if l.p.cfg.PushInForeground {
			l.announce(dev)
		}
		return pe, outcome{}
	case state == liveness.Silent:
		l.announce(dev)
		return pe, outcome{}
	case l.dialog, l.wakes:
		l.summon()
		return l.await(ctx, time.Until(l.deadline), nil)
	case !l.quiet && l.p.pushable(dev):
		return l.hold(ctx, f, wakeDevice(dev))
	case state != liveness.Gone && len(dev.Tokens) == 0:
		return l.await(ctx, time.Until(dev.FlowLost().Add(l.p.cfg.ReconnectGrace)), nil)
	}
	l.step(trace.StepRefused, "no flow, and nothing that may be pushed")
	return nil, outcome{status: 480}
}

// announce pushes beside the INVITE: the call is set up by SIP, the push only
// makes the phone look (B4). Whether it left is known when settled is closed.
func (l *leg) announce(dev location.Device) {
	if l.dialog || l.quiet || l.isPushed() || l.settled != nil || !l.p.pushable(dev) {
		return
	}
	l.setPushed(true)
	settled := make(chan struct{})
	l.settled = settled
	l.unpush = l.p.waker.Announce(wakeDevice(dev), l.call, l.step, func(r wake.Result) {
		l.setPushed(r.Outcome == "accepted")
		l.setHushed(r.Outcome == "quiet")
		close(settled)
	})
}

// hold wakes the device and waits until it has registered. Somebody who hangs
// up first ends the wait at once; what the device is then told is ghost's.
func (l *leg) hold(ctx context.Context, f *fork, d wake.Device) (*peer, outcome) {
	if after := l.p.cfg.RingbackAfter; l.p.cfg.Ringback != 0 && after < l.p.cfg.Window {
		t := time.AfterFunc(after, func() { f.ringback() })
		defer t.Stop()
	}
	for {
		out, err := l.p.waker.Call(ctx, d, l.call, l.step)
		if out.Pushed {
			l.setPushed(true)
		}
		switch {
		case err == nil:
			l.p.loc.Woken(l.id, time.Now())
			if pe := l.p.peerByID(out.Flow); pe != nil && !pe.isGone() {
				return pe, outcome{}
			}
			if l.isPushed() || d.Flow == out.Flow {
				return l.await(ctx, time.Until(l.deadline), nil) // it came and went
			}
			d.Flow = out.Flow // it went while we looked
			continue
		case ctx.Err() != nil:
			return nil, outcome{status: endStatus(ctx)}
		}
		l.setHushed(errors.Is(err, wake.ErrQuiet))
		l.p.log.Info("call not delivered", "device", l.id, "call_id", l.call.CallID, "err", err)
		return nil, outcome{status: statusOf(err)}
	}
}

// await waits for a flow other than old, without pushing. The leg must be
// watched.
func (l *leg) await(ctx context.Context, d time.Duration, old *peer) (*peer, outcome) {
	limit := time.NewTimer(d)
	defer limit.Stop()
	for {
		if pe := l.other(old); pe != nil {
			return pe, outcome{}
		}
		select {
		case <-l.fresh:
		case <-limit.C:
			l.step(trace.StepWindowOver, "the device did not register")
			return nil, outcome{status: 480}
		case <-ctx.Done():
			return nil, outcome{status: endStatus(ctx)}
		}
	}
}

// other returns the device's live flow, if that is not old.
func (l *leg) other(old *peer) *peer {
	if pe := l.newest(); pe != nil && pe != old && !pe.isGone() {
		return pe
	}
	dev, _ := l.p.loc.Device(l.id)
	if pe := l.p.peerOf(dev); pe != nil && pe != old && !pe.isGone() {
		return pe
	}
	return nil
}

// lostFlow marks an outcome as "the flow ended under the INVITE".
const lostFlow = "flow lost"

func (l *leg) lost(o outcome) bool { return o.res == nil && o.code() == 0 && o.reason == lostFlow }

// merged marks an outcome as "the phone still holds the INVITE of the flow
// before, and calls this one merged" (482, RFC 3261 §8.2.2.2).
const merged = "merged"

// mergedPatience is how long a phone is given to end the INVITE it holds.
const mergedPatience = 500 * time.Millisecond

// again has the INVITE sent once more, and no more than once.
func (l *leg) again(ctx context.Context, to *peer) (*peer, outcome) {
	if l.retried {
		l.step(trace.StepRefused, "the phone takes the call for one that it has")
		return nil, outcome{status: 480}
	}
	l.retried = true
	limit := time.NewTimer(mergedPatience)
	defer limit.Stop()
	select {
	case <-limit.C:
		return to, outcome{}
	case <-ctx.Done():
		return nil, outcome{status: endStatus(ctx)}
	}
}

// recover waits for the device's next flow after its flow died under the
// INVITE. A push that is out already will bring it; else one is sent.
func (l *leg) recover(ctx context.Context, f *fork, old *peer) (*peer, outcome) {
	l.deadline = time.Now().Add(l.p.cfg.Window)
	if pe := l.other(old); pe != nil {
		return pe, outcome{}
	}
	l.step(trace.StepState, "the flow ended under the call")
	dev, known := l.p.loc.Device(l.id)
	if !known {
		return nil, outcome{status: 480}
	}
	if !l.isPushed() && !l.dialog && !l.quiet && l.p.pushable(dev) {
		d := wakeDevice(dev)
		d.Flow = old.flow.ID() // location may not know yet that it is gone
		return l.hold(ctx, f, d)
	}
	l.summon()
	wait := time.Until(l.deadline)
	if !l.isPushed() && !l.dialog && !l.wakes {
		wait = min(wait, l.p.cfg.ReconnectGrace)
	}
	return l.await(ctx, wait, old)
}

// deliver sends the INVITE down a flow and watches it. It returns the flow
// that takes over, if one does, else how the branch ended.
func (l *leg) deliver(ctx context.Context, f *fork, to *peer) (*peer, outcome) {
	req, ok := l.p.toClient(l, to)
	switch {
	case !ok && to.isGone(): // since it was chosen
		return nil, outcome{reason: lostFlow}
	case !ok:
		return nil, outcome{status: 480}
	}
	l.p.lineup.wait(ctx, l.place)
	b, err := l.p.invite(f, to, req)
	l.p.lineup.leave(l.id, l.place)
	if err != nil {
		return nil, outcome{reason: lostFlow}
	}
	l.last = b
	l.step(trace.StepInviteOut, to.via)
	w := &watchBranch{l: l, b: b, to: to}
	return w.run(ctx)
}
