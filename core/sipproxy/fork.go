package sipproxy

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/emiago/sipgo/sip"

	"sallyport/core/sipmsg"
)

// An outcome is how a branch ended: with a response from its far end, or with
// a status of our own.
type outcome struct {
	res    *sip.Response
	status int
	reason string
}

func (o outcome) code() int {
	if o.res != nil {
		return o.res.StatusCode
	}
	return o.status
}

// A target is one branch of a fork. run blocks until the branch is over; ctx
// ends when the branch is not wanted any more, and its cause is an *over.
type target interface {
	run(ctx context.Context, f *fork) outcome
	drop() // instead of run, when the request needs no branches any more
}

// endStatus is the answer for a branch that was ended while it held the call:
// 487 when the call was over, 503 when the proxy stops.
func endStatus(ctx context.Context) int {
	if _, isOver := errors.AsType[*over](context.Cause(ctx)); isOver {
		return 487
	}
	return 503
}

// A fork is the response context of an INVITE (RFC 3261 §16.7): the request,
// its branches, and the best answer so far.
type fork struct {
	// Static after start.
	p    *Proxy
	st   *serverTx
	drop []string // response headers that do not pass
	end  context.CancelCauseFunc

	mu        sync.Mutex
	pending   int
	failed    []outcome
	won       bool
	cancelled bool
	alerted   bool // an 18x has gone to the caller
	ended     *over
	ends      []func(*over) // to be called once all branches are over
}

// atEnd has fn called, with how the call ended, once all branches are over. It
// is for a branch that has not been reported yet.
func (f *fork) atEnd(fn func(*over)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ends = append(f.ends, fn)
}

// conclude notes how the call ends, and ends every branch. The first word
// counts, but for an answer, which nothing takes back.
func (f *fork) conclude(o *over) {
	f.mu.Lock()
	if f.ended == nil || o.elsewhere {
		f.ended = o
	}
	f.mu.Unlock()
	f.end(o)
}

// start runs the targets and answers st when they are over. It does not block.
func (p *Proxy) start(st *serverTx, drop []string, targets ...target) {
	ctx, end := context.WithCancelCause(p.ctx)
	f := &fork{p: p, st: st, drop: drop, end: end, pending: len(targets)}
	wanted := st.setFork(f)
	if !wanted {
		end(nil)
	}
	for _, t := range targets {
		switch {
		case !wanted:
			t.drop()
		case !p.calls.Go(func() { f.done(t.run(ctx, f)) }):
			t.drop()
			f.done(outcome{status: 503})
		}
	}
}

// cancel ends every branch because the caller hung up. Whoever holds a call
// answers at once, whoever rings is told.
func (f *fork) cancel(reason string) {
	f.mu.Lock()
	f.cancelled = true
	f.mu.Unlock()
	f.conclude(overBy(reason))
}

// provisional passes a 1xx on, while there is no final answer.
func (f *fork) provisional(res *sip.Response) {
	if res.StatusCode == 100 {
		return
	}
	f.mu.Lock()
	late := f.won || f.pending == 0
	f.alerted = f.alerted || res.StatusCode >= 180
	f.mu.Unlock()
	if !late {
		f.st.respond(f.st.back(res, f.drop...))
	}
}

// success passes a 2xx on, whenever it comes, and ends the other branches.
func (f *fork) success(res *sip.Response) {
	f.mu.Lock()
	again := f.won
	f.won = true
	f.mu.Unlock()
	if !again { // a repeated 2xx may come after the BYE
		f.p.talks.begin(headerValue(res, "Call-ID"), f.st.caller)
	}
	f.st.respond(f.st.back(res, f.drop...))
	f.conclude(overBy(reasonElsewhere))
}

func (f *fork) done(o outcome) {
	if o.code() >= 600 {
		f.conclude(overBy(reasonBusy))
	}
	f.mu.Lock()
	f.pending--
	if o.code() >= 300 {
		f.failed = append(f.failed, o)
	}
	last := f.pending == 0
	won, cancelled, failed, ends := f.won, f.cancelled, f.failed, f.ends
	ended := f.ended
	f.mu.Unlock()
	if !last {
		return
	}
	f.end(&over{})
	defer func() {
		for _, fn := range ends {
			fn(cmp.Or(ended, &over{}))
		}
	}()
	if won {
		return
	}
	o = best(failed, cancelled)
	if o.code() == 487 && !cancelled && f.p.ctx.Err() != nil {
		o = outcome{status: 503} // it is us who ended the branches
	}
	f.answer(o, failed)
}

// answer sends the best failure upstream. A 503 speaks of the branch that sent
// it, not of us, and leaves as 500; challenges of all branches are collected
// (RFC 3261 §16.7 6 and 7, RFC 8760 §2.4).
func (f *fork) answer(o outcome, all []outcome) {
	switch {
	case o.res == nil:
		f.st.reply(o.status, o.reason)
	case o.res.StatusCode == 503:
		f.st.reply(500, "")
	default:
		res := f.st.back(o.res, f.drop...)
		if c := o.res.StatusCode; c == 401 || c == 407 {
			for _, other := range all {
				if other.res != nil && other.res != o.res && (other.res.StatusCode == 401 || other.res.StatusCode == 407) {
					appendAll(res, sipmsg.All(other.res, "WWW-Authenticate"))
					appendAll(res, sipmsg.All(other.res, "Proxy-Authenticate"))
				}
			}
		}
		f.st.respond(res)
	}
}

// helpful are the 4xx that let the caller try again with a better request.
var helpful = []int{401, 407, 415, 420, 484}

// best chooses among failures as RFC 3261 §16.7 6 asks: a 6xx if there is one,
// else the lowest class, and in the 4xx class what helps the caller most, or
// else what a device said itself. A
// caller who hung up hears 487.
func best(all []outcome, cancelled bool) outcome {
	if len(all) == 0 {
		return outcome{status: 480}
	}
	rank := func(o outcome) int {
		c := o.code()
		switch {
		case c >= 600:
			return 0
		case cancelled && c == 487:
			return 1
		case slices.Contains(helpful, c):
			return 400
		case c/100 == 4 && o.res != nil:
			return 401
		case c/100 == 4: // what we say for a device that was not reached
			return 402
		default:
			return c / 100 * 100
		}
	}
	return slices.MinFunc(all, func(a, b outcome) int { return rank(a) - rank(b) })
}

// ringback tells the caller of a sleeping device that it rings, with a To-tag
// of ours (B15). It is sent at most once and never after a real 18x.
func (f *fork) ringback() {
	f.mu.Lock()
	skip := f.won || f.cancelled || f.alerted || f.pending == 0
	f.alerted = true
	f.mu.Unlock()
	if !skip {
		f.st.reply(f.p.cfg.Ringback, "")
	}
}
