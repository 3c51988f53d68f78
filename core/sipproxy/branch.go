package sipproxy

import (
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"

	"sallyport/core/sipmsg"
)

// Timers of a branch.
const (
	// timerC bounds ringing; RFC 3261 §16.6 11 asks for more than 3 min.
	timerC = 185 * time.Second
	// unansweredAfter is how long a client that hears us may take for its
	// first response, of any kind.
	unansweredAfter = 2 * time.Second
	// cancelled branches that answered are waited for this long, others less:
	// a caller who hung up should not wait for a dead phone.
	cancelPatience      = 4 * time.Second
	cancelPatienceQuiet = 500 * time.Millisecond
)

// A branch is one INVITE that was sent. Its transaction's goroutine moves its
// state and pokes notify; whoever owns the branch waits there.
type branch struct {
	// Static after invite.
	p      *Proxy
	f      *fork
	req    *sip.Request
	to     *peer
	notify chan struct{} // capacity 1

	mu       sync.Mutex
	heard    bool          // any response
	alerting bool          // 18x
	progress time.Time     // when the last 101–199 came
	final    *sip.Response // non-2xx final
	answered bool          // 2xx
	over     bool          // the transaction has ended
	err      error         // why, when no final response came
	ended    bool          // replaced: what it says does not count, but for 2xx
	cancel   *over         // wanted
	sent     bool          // CANCEL has left
	tx       *clientTx     // nil until it was sent
}

// invite sends an INVITE and forwards what comes back to f.
func (p *Proxy) invite(f *fork, to *peer, req *sip.Request) (*branch, error) {
	b := &branch{p: p, f: f, req: req, to: to, notify: make(chan struct{}, 1), progress: time.Now()}
	ct, err := p.request(to, req, b.hear, b.finish)
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	b.tx = ct
	b.mu.Unlock()
	b.sendCancel() // wanted since, by a 1xx that came before this
	return b, nil
}

func (b *branch) poke() {
	select {
	case b.notify <- struct{}{}:
	default:
	}
}

func (b *branch) hear(res *sip.Response) {
	b.mu.Lock()
	b.heard = true
	ended := b.ended
	switch {
	case res.IsProvisional():
		if res.StatusCode > 100 {
			b.progress = time.Now()
		}
		if res.StatusCode >= 180 && !ended {
			b.alerting = true
		}
	case res.IsSuccess():
		b.answered = true
	default:
		b.final = res
	}
	b.mu.Unlock()
	switch {
	case res.IsSuccess():
		b.f.success(res)
	case res.IsProvisional():
		if !ended {
			b.f.provisional(res)
		}
		b.sendCancel()
	}
	b.poke()
}

func (b *branch) finish(err error) {
	b.mu.Lock()
	b.over, b.err = true, err
	b.mu.Unlock()
	b.poke()
}

// snapshot is what the owner of a branch decides on.
type snapshot struct {
	heard, alerting, answered bool
	final                     *sip.Response
	failed                    error // the transaction ended without a final response
	progress                  time.Time
}

func (b *branch) look() snapshot {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := snapshot{heard: b.heard, alerting: b.alerting, answered: b.answered, final: b.final, progress: b.progress}
	if b.over && b.final == nil && !b.answered {
		s.failed = b.err
	}
	return s
}

// stop asks for a CANCEL: now if the far end has answered with a 1xx, else as
// soon as it does (RFC 3261 §9.1).
func (b *branch) stop(o *over) {
	b.mu.Lock()
	if b.cancel == nil {
		b.cancel = o
	}
	b.mu.Unlock()
	b.sendCancel()
}

// replace ends a branch in favour of a newer one of the same instance: nothing
// it says counts any more, but for a 2xx.
func (b *branch) replace() {
	b.mu.Lock()
	b.ended = true
	b.mu.Unlock()
	b.stop(&over{})
}

func (b *branch) sendCancel() {
	b.mu.Lock()
	o := b.cancel
	if o == nil || b.sent || !b.heard || b.final != nil || b.answered || b.over || b.tx == nil {
		b.mu.Unlock()
		return
	}
	b.sent = true
	ct := b.tx
	b.mu.Unlock()
	b.p.cancelTx(ct, o.reason)
}

// cancelTx sends the CANCEL of an INVITE. One that has no final response after
// 64*T1 has none any more (RFC 3261 §9.1).
func (p *Proxy) cancelTx(ct *clientTx, reason string) {
	if _, err := p.request(ct.to, cancelOf(ct.req, reason), func(*sip.Response) {}, func(error) {}); err != nil {
		p.log.Debug("cancel not sent", "flow", ct.to.name(), "err", err)
	}
	time.AfterFunc(64*sip.T1, func() { ct.fail(sip.ErrTransactionTimeout) })
}

// cancelOf makes the CANCEL of a request that was sent (RFC 3261 §9.1): its
// R-URI, top Via, Route set, From, To, Call-ID and CSeq number.
func cancelOf(req *sip.Request, reason string) *sip.Request {
	out := twin(req, sip.CANCEL, req)
	if reason != "" {
		out.AppendHeader(sip.NewHeader("Reason", reason))
	}
	return out
}

// ackOf confirms a refusal of an INVITE (RFC 3261 §17.1.1.3).
func ackOf(req *sip.Request, res *sip.Response) *sip.Request { return twin(req, sip.ACK, res) }

// twin is a request of the same transaction, with the To of m. Headers are
// copied as they came.
func twin(req *sip.Request, method sip.RequestMethod, m sip.Message) *sip.Request {
	out := sip.NewRequest(method, req.Recipient)
	out.AppendHeader(req.Via())
	appendAll(out, sipmsg.All(req, "Route"))
	mf := sip.MaxForwardsHeader(70)
	out.AppendHeader(&mf)
	appendAll(out, sipmsg.All(req, "From"))
	appendAll(out, sipmsg.All(m, "To"))
	appendAll(out, sipmsg.All(req, "Call-ID"))
	out.AppendHeader(&sip.CSeqHeader{SeqNo: req.CSeq().SeqNo, MethodName: method})
	out.SetBody(nil)
	out.SetTransport(req.Transport())
	return out
}

// settle waits, for a short while, for the end of a branch that was asked to
// stop. A branch that keeps quiet is left to itself: a late 1xx brings its
// CANCEL, a late 2xx still goes out.
func (b *branch) settle(patience, quiet time.Duration) outcome {
	limit := time.NewTimer(quiet)
	defer limit.Stop()
	extended := false
	for {
		s := b.look()
		switch {
		case s.answered:
			return outcome{}
		case s.final != nil:
			return outcome{res: s.final}
		case s.failed != nil:
			return outcome{status: 487}
		}
		if s.heard && !extended {
			extended = true
			limit.Reset(patience)
		}
		select {
		case <-b.notify:
		case <-limit.C:
			return outcome{status: 487}
		}
	}
}
