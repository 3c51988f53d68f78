package sipproxy

import (
	"strconv"
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"

	"sallyport/core/location"
	"sallyport/core/sipmsg"
)

// A post is a MESSAGE outside a dialog, and what becomes of its copies, one for
// each device: the sender hears the best of it, once all are settled.
type post struct {
	// Static after creation.
	p      *Proxy
	st     *serverTx // who waits; nil for a receipt of ours
	req    *sip.Request
	caller *location.Binding // the client it came from, in a stand-alone domain
	kind   letterKind
	came   time.Time

	mu sync.Mutex
	// Guarded by mu.
	open int // copies that are not settled
	best fate
	say  func() // answers the sender
}

// fate is what became of a copy, to its sender, the least first.
type fate int

const (
	fateOpen    fate = iota
	fateLost         // neither delivered nor held
	fateRefused      // by a client
	fateNone         // needs nothing more: it was delivered before, or is dropped on purpose
	fateHeld         // on disk
	fateDelivered
)

// message takes a MESSAGE to devices: down the flow of each that looks, else into
// the store. What is of the moment only is not kept.
func (p *Proxy) message(st *serverTx, ids []location.DeviceID, caller *location.Binding) {
	p.deliver(&post{p: p, st: st, req: st.req, caller: caller, kind: kindOf(st.req), came: time.Now()}, ids)
}

func (p *Proxy) deliver(po *post, ids []location.DeviceID) {
	po.open = len(ids)
	moment := po.kind == fleeting || po.expires().Equal(po.came)
	for _, id := range ids {
		l := &letter{post: po, id: id}
		if moment {
			l.now()
			continue
		}
		if err := p.im.Submit(id.String(), l); err != nil {
			l.Lost(err)
		}
	}
}

// settle says what became of a copy, and what its sender would hear.
func (l *letter) settle(f fate, status int, reason string) {
	l.settleBy(f, func() {
		if l.st != nil {
			l.st.reply(status, reason)
		}
	})
}

func (l *letter) settleBy(f fate, say func()) {
	po := l.post
	po.mu.Lock()
	if l.settled {
		po.mu.Unlock()
		return
	}
	l.settled = true
	if f > po.best {
		po.best, po.say = f, say
	}
	po.open--
	over, best, say := po.open == 0, po.best, po.say
	po.mu.Unlock()
	if !over {
		return
	}
	say()
	if best == fateHeld {
		l.p.receipt(l.id.AOR, po.req, receiptStored)
	}
}

// name is what the message is known by: a client that sends several with one
// Call-ID numbers them by CSeq.
func (po *post) name() string {
	seq := uint32(0)
	if c := po.req.CSeq(); c != nil {
		seq = c.SeqNo
	}
	return senderOf(po.req) + "\n" + headerValue(po.req, "Call-ID") + "\n" + strconv.FormatUint(uint64(seq), 10)
}

// senderOf is the address in From, or all of From if there is none.
func senderOf(req *sip.Request) string {
	value := headerValue(req, "From")
	if from, err := sipmsg.ParseNameAddr(value); err == nil {
		return from.URI.AOR()
	}
	return value
}

// expires is when the message is worth nothing any more, by its Expires (RFC
// 3428 §6); the zero time where it does not say.
func (po *post) expires() time.Time {
	n, err := strconv.ParseUint(headerValue(po.req, "Expires"), 10, 32)
	if err != nil {
		return time.Time{}
	}
	return po.came.Add(time.Duration(n) * time.Second)
}
