package sipproxy

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/emiago/sipgo/sip"

	"sallyport/core/sipmsg"
	"sallyport/core/wake"
)

// maxGhosts is for how many ended calls a device is sent the INVITE and its
// CANCEL when it wakes too late (B28).
const maxGhosts = 3

// inviteHead is how long a late INVITE may take for its first response before
// its CANCEL follows anyway; CallKit is ringing already.
const inviteHead = 150 * time.Millisecond

// cancelled settles a call that ended while its device was on the way. A
// device that was shown the call by a VoIP push must be shown its end as well
// (B17, B18): by INVITE and CANCEL as soon as it registers, and by a push on
// the Message channel when it does not. A device that has answered the INVITE
// hears CANCEL, and so does one that registered to get it.
func (l *leg) cancelled(o *over) {
	if l.unpush != nil {
		l.unpush()
	}
	if l.isHushed() && !o.elsewhere && !o.declined && l.last != nil && !l.last.look().heard {
		l.miss() // quiet hours: an INVITE went out that nobody heard, and no push
	}
	if !l.isPushed() || l.last != nil && (l.last.look().heard || l.last.to == l.newest()) {
		return
	}
	g := l.p.newLeg(l.id, l.req, false)
	g.call, g.client, g.from, g.fromToken, g.pbxVia, g.hop = l.call, l.client, l.from, l.fromToken, l.pbxVia, l.hop
	g.deadline, g.last = l.deadline, l.last
	unwatch := l.p.watch(g.id, g) // before l is unwatched: no registration falls between
	haunts := l.p.calls.Go(func() {
		defer unwatch()
		if l.settled != nil {
			<-l.settled // no longer than a push takes
		}
		if l.isPushed() {
			g.haunt(o)
		}
	})
	if !haunts {
		unwatch()
	}
}

// haunt waits out the window for the device and shows it the ended call.
func (l *leg) haunt(o *over) {
	dev, known := l.p.loc.Device(l.id)
	if !known {
		return
	}
	shown := ringsByPush(dev)
	switch {
	case o.elsewhere:
		l.leave(wake.EventAnsweredElsewhere)
	case o.declined: // nobody missed it
	case !shown:
		l.miss()
	}
	if !shown {
		return
	}
	ctx, drop := l.p.ghosts.add(l.p.ctx, l.id.String())
	defer drop()
	var old *peer
	if l.last != nil {
		old = l.last.to
	}
	to, _ := l.await(ctx, time.Until(l.deadline), old)
	if to == nil {
		told := l.last != nil && l.last.look().heard // it was there after all
		if l.p.ctx.Err() == nil && !o.elsewhere && !o.declined && !told {
			l.miss()
		}
		return
	}
	if req, ok := l.p.toClient(l, to); ok {
		l.p.showEnded(ctx, to, req, o)
	}
}

// showEnded sends an INVITE and, right after its first response, its CANCEL.
// A phone that answers in between is thanked with ACK and BYE.
func (p *Proxy) showEnded(ctx context.Context, to *peer, req *sip.Request, o *over) {
	heard := make(chan struct{})
	var once sync.Once
	var final atomic.Bool
	hear := func(res *sip.Response) {
		again := res.StatusCode >= 200 && final.Swap(true)
		once.Do(func() { close(heard) })
		if res.IsSuccess() {
			p.hangUp(to, req, res, again)
		}
	}
	ct, err := p.request(to, req, hear, func(error) {})
	if err != nil {
		return
	}
	head := time.NewTimer(inviteHead)
	defer head.Stop()
	select {
	case <-heard:
	case <-head.C:
	case <-ctx.Done():
	}
	if !final.Load() {
		p.cancelTx(ct, o.reason)
	}
}

// hangUp ends a dialog that a phone opened by answering a call that was over.
// A repeated answer is confirmed again, no more.
func (p *Proxy) hangUp(to *peer, invite *sip.Request, res *sip.Response, again bool) {
	for i, method := range []sip.RequestMethod{sip.ACK, sip.BYE} {
		if method == sip.BYE && again {
			return
		}
		out := sip.NewRequest(method, invite.Recipient)
		out.AppendHeader(p.newVia(to, invite))
		mf := sip.MaxForwardsHeader(70)
		out.AppendHeader(&mf)
		appendAll(out, sipmsg.All(invite, "From"))
		appendAll(out, sipmsg.All(res, "To"))
		appendAll(out, sipmsg.All(invite, "Call-ID"))
		out.AppendHeader(&sip.CSeqHeader{SeqNo: invite.CSeq().SeqNo + uint32(i), MethodName: method})
		out.SetBody(nil)
		out.SetTransport(to.via)
		if method == sip.ACK {
			_ = to.WriteMsg(out)
			continue
		}
		_, _ = p.request(to, out, func(*sip.Response) {}, func(error) {})
	}
}

// ghosts counts the ended calls that each device is still to be shown.
type ghosts struct {
	mu sync.Mutex
	of map[string][]*ghost // oldest first; guarded by mu
}

type ghost struct{ cancel context.CancelFunc }

// add makes room for one more, at the expense of the oldest.
func (g *ghosts) add(parent context.Context, device string) (ctx context.Context, drop func()) {
	ctx, cancel := context.WithCancel(parent)
	one := &ghost{cancel: cancel}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.of == nil {
		g.of = make(map[string][]*ghost)
	}
	list := g.of[device]
	if len(list) >= maxGhosts {
		list[0].cancel()
		list = list[1:]
	}
	g.of[device] = append(list, one)
	return ctx, func() { cancel(); g.remove(device, one) }
}

func (g *ghosts) remove(device string, one *ghost) {
	g.mu.Lock()
	defer g.mu.Unlock()
	list := slices.DeleteFunc(slices.Clone(g.of[device]), func(o *ghost) bool { return o == one })
	if len(list) == 0 {
		delete(g.of, device)
		return
	}
	g.of[device] = list
}
