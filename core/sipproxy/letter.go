package sipproxy

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
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

// A letter is a MESSAGE outside a dialog on its way to a device. It is an
// im.Item: handled in the order in which letters came, each when the one before
// is answered or held.
type letter struct {
	p      *Proxy
	st     *serverTx
	id     location.DeviceID // the device, or with no instance, any of the AOR
	caller *location.Binding // the client it came from, in a stand-alone domain
	kind   letterKind
	came   time.Time
}

// message takes a MESSAGE to a device: down its flow if it looks, else into the
// store. What is of the moment only is not kept.
func (p *Proxy) message(st *serverTx, id location.DeviceID, caller *location.Binding) {
	l := &letter{p: p, st: st, id: id, caller: caller, kind: kindOf(st.req), came: time.Now()}
	if l.kind == fleeting || l.expires().Equal(l.came) {
		l.now()
		return
	}
	if err := p.im.Submit(id.String(), l); err != nil {
		l.Lost(err)
	}
}

// now delivers what is worth nothing later: to a device that looks, or to nobody.
func (l *letter) now() {
	if !l.Send(func(v im.Verdict) {
		if v == im.Kept {
			l.st.reply(480, "")
		}
	}) {
		status := 480
		if l.kind == fleeting {
			status = 202 // nobody is told who sleeps by whether typing is noticed
		}
		l.st.reply(status, "")
	}
}

// leg is how the letter goes to a client.
func (l *letter) leg() *leg {
	g := l.p.newLeg(l.id, l.st.req, false)
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
	hear := func(res *sip.Response) {
		if challenges(l.st.from, pe, res) {
			l.st.reply(480, "")
			return
		}
		l.st.respond(l.st.back(res, l.p.dropFrom(pe)...))
	}
	return l.p.hand(l.id, l.name(), pe, out, hear, func(v im.Verdict, late bool) {
		if late && v != im.Kept {
			l.p.im.Delivered(l.id.String(), l.name())
			return
		}
		if !late {
			done(v)
		}
	})
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

// name is what the message is known by: a client that sends several with one
// Call-ID numbers them by CSeq.
func (l *letter) name() string { return nameOf(l.st.req) }

func nameOf(req *sip.Request) string {
	from, err := sipmsg.ParseNameAddr(headerValue(req, "From"))
	who := headerValue(req, "From")
	if err == nil {
		who = from.URI.AOR()
	}
	seq := uint32(0)
	if c := req.CSeq(); c != nil {
		seq = c.SeqNo
	}
	return who + "\n" + headerValue(req, "Call-ID") + "\n" + strconv.FormatUint(uint64(seq), 10)
}

// expires is when the message is worth nothing any more, by its Expires (RFC
// 3428 §6); the zero time where it does not say.
func (l *letter) expires() time.Time {
	n, err := strconv.ParseUint(headerValue(l.st.req, "Expires"), 10, 32)
	if err != nil {
		return time.Time{}
	}
	return l.came.Add(time.Duration(n) * time.Second)
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
	head, err := json.Marshal(envelope{V: 1, Client: l.st.from.client(), Name: l.name(), Quiet: l.kind == silent})
	if err != nil {
		head = nil // and nothing opens it
	}
	return im.Message{ID: l.name(), Added: l.came, Expires: l.expires(), Data: append(append(head, '\n'), sipmsg.Bytes(l.st.req)...)}
}

// Held implements im.Item: the push is queued before the sender hears that it
// need not care any more.
func (l *letter) Held(ctx context.Context, over bool) {
	if dev, ok := l.p.loc.Device(l.id); ok && !over && l.kind == worthPush && l.p.State(dev) != liveness.Foreground {
		l.p.wakeReader(ctx, dev, l.st.req, l.name(), l.expires())
	}
	l.st.reply(202, "")
}

// Lost implements im.Item.
func (l *letter) Lost(err error) {
	switch {
	case errors.Is(err, im.ErrFull):
		l.p.log.Info("message refused: as many are held as may be", "device", l.id)
		l.st.reply(480, "Too Many Messages Held")
	case errors.Is(err, im.ErrTooBig):
		l.st.reply(413, "")
	default:
		l.st.reply(503, "")
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
