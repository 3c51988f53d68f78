package sipproxy

import (
	"context"
	"errors"
	"time"

	"github.com/emiago/sipgo/sip"

	"sallyport/core/upstream"
)

// dialPatience bounds the wait for a connection to the PBX.
const dialPatience = 5 * time.Second

// suspectAfter is how long a server of the PBX may take for its first response
// before it is asked whether it lives.
const suspectAfter = time.Second

// A journey is the way of one request to the PBX of a domain. Where one of its
// servers cannot take the request it goes to the next, within the transaction
// and never twice to the same (RFC 3263 §4.3). One goroutine drives it at a
// time.
type journey struct {
	p      *Proxy
	domain string
	key    string  // an AOR: its requests stay with one of several servers
	hop    hopAddr // the server that a dialog stays with, if it still can
	tried  []*upstream.Conn
}

func (p *Proxy) journey(domain, key string, hop hopAddr) *journey {
	return &journey{p: p, domain: domain, key: key, hop: hop}
}

// pinned says whether the next step is the dialog's own server.
func (j *journey) pinned() bool { return j.hop.addr.IsValid() && len(j.tried) == 0 }

// astray says whether the dialog's server is none of the domain's, so that no
// other can stand in for it.
func (j *journey) astray() bool {
	return j.hop.addr.IsValid() && !j.p.up.Serves(j.hop.addr.Addr(), j.domain)
}

// live is the next server if one is up, else nil; it never waits.
func (j *journey) live() *peer {
	if j.p.up == nil {
		return nil
	}
	var c *upstream.Conn
	if j.pinned() {
		c = j.p.up.LiveHop(j.hop.String())
	}
	if c == nil && !j.astray() {
		c = j.p.up.Live(j.domain, j.key, j.tried...)
	}
	if c == nil {
		return nil
	}
	return j.p.upPeer(c)
}

// next is live, but waits for a server that may be up soon.
func (j *journey) next(ctx context.Context) (*peer, error) {
	var c *upstream.Conn
	var err error
	if j.pinned() {
		c, err = j.p.up.Dial(ctx, j.hop.String())
	}
	if c == nil && (err == nil || !j.astray()) {
		c, err = j.p.up.Conn(ctx, j.domain, j.key, j.tried...)
	}
	if err != nil {
		return nil, err
	}
	return j.p.upPeer(c), nil
}

// begin calls use with a live connection to a server: at once if there is one,
// so that the order of a flow's requests is kept, else as soon as it is dialled.
func (j *journey) begin(use func(*peer), fail func(error)) {
	if pe := j.live(); pe != nil {
		use(pe)
		return
	}
	dialled := j.p.calls.Go(func() {
		ctx, cancel := context.WithTimeout(j.p.ctx, dialPatience)
		defer cancel()
		pe, err := j.next(ctx)
		if err != nil {
			fail(err)
			return
		}
		use(pe)
	})
	if !dialled {
		fail(context.Canceled)
	}
}

// away notes that a server asks to be left alone (RFC 3261 §21.5.4).
func (j *journey) away(pe *peer, res *sip.Response) {
	if d, ok := upstream.ParseRetryAfter(headerValue(res, "Retry-After")); ok && res.StatusCode == 503 {
		j.p.up.Away(pe.up, d)
	}
}

// An errand is a request other than INVITE on its journey. hear gets each
// response that counts, in order; end is called once when no more can come:
// with nil after a final response, else with the reason.
type errand struct {
	*journey
	st    *serverTx // who waits for the answer; nil for a request of our own
	build func(*peer) *sip.Request
	hear  func(*sip.Response)
	end   func(error)
}

// errNobody marks an errand that no server took.
var errNobody = errors.New("no server took the request")

// send sends the request to a server, and on to the next if that cannot take it.
func (e *errand) send(to *peer) {
	e.tried = append(e.tried, to.up)
	at := time.Now()
	doubt := time.AfterFunc(suspectAfter, func() { e.p.up.Suspect(to.up) })
	heard, moved := false, false
	hear := func(res *sip.Response) {
		doubt.Stop()
		if res.StatusCode == 503 {
			e.away(to, res)
			if moved = e.onward(); moved {
				return
			}
		}
		heard = true
		e.hear(res)
	}
	end := func(err error) {
		doubt.Stop()
		if errors.Is(err, sip.ErrTransactionTimeout) {
			e.p.up.Failed(to.up, at)
		}
		switch {
		case moved:
		case err != nil && !heard:
			e.giveUp(err)
		default:
			e.end(err)
		}
	}
	out := e.build(to)
	if _, err := e.p.request(to, out, hear, end); err != nil {
		doubt.Stop()
		e.p.log.Info("request not sent", "to", to.name(), "method", string(out.Method), "err", err)
		e.giveUp(err)
	}
}

// onward goes to the next server, if one is up and somebody still waits.
func (e *errand) onward() bool {
	if e.st != nil && e.st.answered() != 0 || e.p.ctx.Err() != nil {
		return false
	}
	next := e.live()
	if next != nil {
		e.send(next)
	}
	return next != nil
}

// giveUp ends the errand unless another server takes it.
func (e *errand) giveUp(err error) {
	if !e.onward() {
		e.end(errors.Join(errNobody, err))
	}
}

// plain is a branch to the PBX.
type plain struct {
	*journey
	to    *peer
	build func(*peer) *sip.Request
}

func (t *plain) drop() {}

func (t *plain) run(ctx context.Context, f *fork) outcome {
	for {
		t.tried = append(t.tried, t.to.up)
		o, done := t.try(ctx, f)
		if done || ctx.Err() != nil {
			return o
		}
		next := t.live()
		if next == nil {
			return o
		}
		f.p.log.Info("invite goes to the next server", "domain", t.domain, "status", o.code())
		t.to = next
	}
}

// try sends the INVITE to one server. done is false if that could not take it,
// so that another may.
func (t *plain) try(ctx context.Context, f *fork) (o outcome, done bool) {
	at := time.Now()
	b, err := f.p.invite(f, t.to, t.build(t.to))
	if err != nil {
		f.p.log.Warn("invite not sent", "to", t.to.name(), "err", err)
		return outcome{status: 503}, false
	}
	clock := time.NewTimer(timerC)
	defer clock.Stop()
	doubt := time.NewTimer(suspectAfter)
	defer doubt.Stop()
	for {
		s := b.look()
		switch {
		case s.answered:
			return outcome{}, true
		case s.final != nil:
			t.away(t.to, s.final)
			return outcome{res: s.final}, s.final.StatusCode != 503
		case s.failed != nil:
			if errors.Is(s.failed, sip.ErrTransactionTimeout) && !s.heard {
				f.p.up.Failed(t.to.up, at)
			}
			return outcome{status: statusOf(s.failed)}, s.heard
		}
		select {
		case <-b.notify:
		case <-doubt.C:
			if !s.heard {
				f.p.up.Suspect(t.to.up)
			}
		case <-clock.C:
			if left := time.Until(s.progress.Add(timerC)); left > 0 {
				clock.Reset(left)
				continue
			}
			b.stop(new(over))
			if o := b.settle(64*sip.T1, cancelPatienceQuiet); o.res != nil || o.code() == 0 {
				return o, true
			}
			return outcome{status: 408}, true
		case <-ctx.Done():
			b.stop(overOf(ctx))
			if f.p.ctx.Err() != nil {
				return b.settle(cancelPatience, cancelPatienceQuiet), true
			}
			return b.settle(64*sip.T1, unansweredAfter), true
		}
	}
}
