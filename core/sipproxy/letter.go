package sipproxy

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/emiago/sipgo/sip"

	"sallyport/core/im"
	"sallyport/core/liveness"
	"sallyport/core/location"
	"sallyport/core/sipmsg"
	"sallyport/core/wake"
)

// letterPatience is how long the sender of a message waits for the answer of a
// client that looks; then the message is held, and the sender hears 202.
const letterPatience = 5 * time.Second

// A letter is the copy of a MESSAGE outside a dialog that is on its way to one
// device. It is an im.Item: handled in the order in which letters came, each when
// the one before is answered or held.
type letter struct {
	*post
	id      location.DeviceID // the device, or with no instance, any of the AOR
	settled bool              // guarded by post.mu
}

// now delivers what is worth nothing later: to a device that looks, or to nobody.
func (l *letter) now() {
	if !l.Send(func(v im.Verdict) {
		if v == im.Kept {
			l.settle(fateLost, 480, "")
		}
	}) {
		if l.kind == fleeting {
			l.settle(fateNone, 202, "") // nobody is told who sleeps by whether typing is noticed
			return
		}
		l.settle(fateLost, 480, "")
	}
}

// leg is how the letter goes to a client.
func (l *letter) leg() *leg {
	g := l.p.newLeg(l.id, l.req, false)
	if l.st == nil { // a receipt of ours, about what a client did
		g.client = true
		return g
	}
	g.caller(l.st, l.caller)
	return g
}

// Send implements im.Item.
func (l *letter) Send(done func(im.Verdict)) bool {
	pe, who := l.p.reader(l.id)
	if pe == nil || who != l.id {
		return false // one that goes to another device than it was for is held first
	}
	out, ok := l.p.toClient(l.leg(), pe)
	if !ok {
		return false
	}
	return l.p.hand(l.id, l.name(), pe, out, func(res *sip.Response) { l.answered(pe, res) }, func(v im.Verdict, late bool) {
		if late {
			l.p.late(l.id, l.name(), v)
			return
		}
		switch v { // unless the sender has had the client's own answer
		case im.Delivered:
			l.settle(fateNone, 202, "")
		case im.Refused:
			l.settle(fateRefused, 480, "")
		case im.Kept, im.Elsewhere:
		}
		done(v)
	})
}

// answered takes the final response of a client.
func (l *letter) answered(pe *peer, res *sip.Response) {
	f := fateRefused
	if res.IsSuccess() {
		f = fateDelivered
	}
	if l.st == nil || challenges(l.st.from, pe, res) {
		l.settle(f, 480, "")
		return
	}
	l.settleBy(f, func() { l.st.respond(l.st.back(res, l.p.dropFrom(pe)...)) })
}

// verdictOf is what a client's answer to a MESSAGE means for the message: "not
// now" keeps it, any other refusal is meant for good.
func verdictOf(res *sip.Response) im.Verdict {
	switch {
	case res.IsSuccess():
		return im.Delivered
	case res.StatusCode == 408 || res.StatusCode == 480 || res.StatusCode == 503:
		return im.Kept
	}
	return im.Refused
}

// envelope is what is noted beside a held message.
type envelope struct {
	V      int    `json:"v"`
	Client bool   `json:"client,omitempty"` // it came from a client, who may assert nothing
	Name   string `json:"name"`
	Quiet  bool   `json:"quiet,omitempty"` // not worth a push
}

// Message implements im.Item.
func (l *letter) Message() im.Message {
	head, err := json.Marshal(envelope{V: 1, Client: l.st == nil || l.st.from.client(), Name: l.name(), Quiet: l.kind == silent})
	if err != nil {
		head = nil // and nothing opens it
	}
	return im.Message{
		ID: l.name(), Sender: senderOf(l.req), Added: l.came, Expires: l.expires(),
		Data: append(append(head, '\n'), sipmsg.Bytes(l.req)...),
	}
}

// Held implements im.Item: the push is queued before the sender hears that it
// need not care any more.
func (l *letter) Held(ctx context.Context, h im.Holding) {
	dev, ok := l.p.loc.Device(l.id)
	if ok && h != im.Over && l.kind == worthPush && l.p.State(dev) != liveness.Foreground && !l.p.usesAnother(l.id) {
		l.p.wakeReader(ctx, dev, l.req, l.name(), l.expires())
	}
	if h != im.Fresh {
		l.settle(fateNone, 202, "")
		return
	}
	l.settle(fateHeld, 202, "")
}

// Lost implements im.Item.
func (l *letter) Lost(err error) {
	switch {
	case errors.Is(err, im.ErrFull):
		l.p.log.Info("message refused: as many are held as may be", "device", l.id)
		l.settle(fateLost, 480, "Too Many Messages Held")
	case errors.Is(err, im.ErrTooBig):
		l.settle(fateLost, 413, "")
	default:
		l.settle(fateLost, 503, "")
	}
}

// wakeReader tells a device on the Message channel that a message is there.
func (p *Proxy) wakeReader(ctx context.Context, dev location.Device, req *sip.Request, id string, expires time.Time) {
	if !p.cfg.PushEnabled {
		return
	}
	c := p.callOf(req, dev.ID.AOR)
	d := wakeDevice(dev)
	n := wake.Note{
		Event: wake.EventMessage, ID: "message\n" + id, CallID: c.CallID, Conversation: c.FromURI,
		FromURI: c.FromURI, FromName: c.FromName, Number: c.Number, To: c.To, Sent: time.Now(), Text: textOf(req), Expires: expires,
	}
	if err := p.waker.Queue(ctx, d, n); err != nil && !errors.Is(err, wake.ErrNoRoute) {
		p.log.Warn("push for a held message not queued for good: it is tried from memory", "device", dev.ID, "err", err)
		p.waker.Note(d, n, nil)
	}
}
