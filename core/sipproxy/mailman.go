package sipproxy

import (
	"bytes"
	"context"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/emiago/sipgo/sip"

	"sallyport/core/im"
	"sallyport/core/liveness"
	"sallyport/core/location"
	"sallyport/core/sipmsg"
)

// mailman delivers held messages; it is the proxy as an im.Courier.
type mailman struct{ p *Proxy }

// Courier returns p as the one who delivers what core/im holds.
func (p *Proxy) Courier() im.Courier { return mailman{p} }

// Looks implements im.Courier.
func (m mailman) Looks(device string) im.Sight {
	id, ok := location.ParseDeviceID(device)
	if !ok {
		return im.Nobody
	}
	switch pe, who := m.p.reader(id); {
	case pe == nil:
		return im.Nobody
	case who != id:
		return im.Another
	}
	return im.Itself
}

// Deliver implements im.Courier.
func (m mailman) Deliver(device string, added time.Time, data []byte, done func(im.Verdict)) bool {
	p := m.p
	id, ok := location.ParseDeviceID(device)
	if !ok {
		return false
	}
	env, req := opened(data)
	if req == nil { // nobody can read it
		done(im.Refused)
		return true
	}
	pe, who := p.reader(id)
	if pe == nil {
		return false
	}
	if who != id && (p.hands.holds(handKey{who, env.Name}) || p.im.Known(who.String(), env.Name)) {
		done(im.Elsewhere) // the other device has one of its own
		return true
	}
	l := p.newLeg(who, req, false)
	l.client = env.Client
	out, ok := p.toClient(l, pe)
	if !ok {
		return false
	}
	if sipmsg.Find(out, "Date") == nil {
		out.AppendHeader(sip.NewHeader("Date", strings.Replace(added.UTC().Format(time.RFC1123), "UTC", "GMT", 1)))
	}
	return p.hand(who, env.Name, pe, out, nil, func(v im.Verdict, late bool) {
		switch {
		case late:
			if v == im.Delivered && who != id {
				p.im.Got(who.String(), env.Name)
			}
			p.late(id, env.Name, v)
		default:
			if v == im.Kept && !env.Quiet {
				p.asleepAgain(who, req, env.Name)
			}
			if v == im.Delivered && who != id {
				p.im.Got(who.String(), env.Name)
			}
			if v != im.Kept {
				p.nudges.end(who)
			}
			done(v)
		}
	})
}

// late notes what a client said to a message after it was held.
func (p *Proxy) late(id location.DeviceID, name string, v im.Verdict) {
	switch v {
	case im.Delivered:
		p.im.Delivered(id.String(), name)
	case im.Refused:
		p.im.Refused(id.String(), name)
	case im.Kept, im.Elsewhere:
	}
}

// Ended implements im.Courier.
func (m mailman) Ended(device string, data []byte, _ im.Verdict) {
	id, ok := location.ParseDeviceID(device)
	if _, req := opened(data); ok && req != nil {
		m.p.receipt(id.AOR, req, receiptFailed)
	}
}

// asleepAgain tells a device that went to sleep over its messages that there are
// some left: what told it of them before was dropped when it came.
func (p *Proxy) asleepAgain(id location.DeviceID, req *sip.Request, name string) {
	dev, ok := p.loc.Device(id)
	if !ok || p.State(dev) == liveness.Foreground || !p.nudges.may(id, time.Now()) {
		return
	}
	ctx, cancel := context.WithTimeout(p.ctx, time.Second)
	defer cancel()
	p.wakeReader(ctx, dev, req, name+"\n"+strconv.FormatInt(time.Now().UnixMilli(), 10), time.Time{})
}

// opened reads what was held.
func opened(data []byte) (env envelope, req *sip.Request) {
	head, text, _ := bytes.Cut(data, []byte("\n"))
	if json.Unmarshal(head, &env) != nil || env.V != 1 {
		return env, nil
	}
	m, fault := sipmsg.Parse(text)
	req, ok := m.(*sip.Request)
	if !ok || fault != nil {
		return env, nil
	}
	return env, req
}

// reader is who reads the messages for a device now, and on which flow: the
// device itself if it looks, or, for one that is not there any more, another of
// the same user's that does.
func (p *Proxy) reader(id location.DeviceID) (*peer, location.DeviceID) {
	if dev, known := p.loc.Device(id); known {
		pe := p.peerOf(dev)
		switch state := p.stateOn(dev, pe); {
		case state == liveness.Foreground:
			return pe, id
		case state != liveness.Gone || p.notable(dev):
			return nil, id
		}
	}
	for _, other := range p.loc.Lookup(id.AOR) {
		if pe := p.peerOf(other); pe != nil && p.stateOn(other, pe) == liveness.Foreground {
			return pe, other.ID
		}
	}
	return nil, id
}

// notable says whether a device can be told of a message, which it may while it
// is gone for calls (B19).
func (p *Proxy) notable(dev location.Device) bool {
	return p.cfg.PushEnabled && p.waker.CanNote(wakeDevice(dev))
}

// mail has what is held for a device delivered: it has just come back. So is
// what is held for devices of the same user that are not there any more.
func (p *Proxy) mail(id location.DeviceID) {
	if p.im == nil || p.im.Empty() {
		return
	}
	for _, device := range p.im.Boxes(id.AOR) {
		p.im.Flush(device)
		p.inherits(device)
	}
}

// inherits looks again at a device without a token once nobody waits for it any
// more (B30): then its messages are for the others.
func (p *Proxy) inherits(device string) {
	id, _ := location.ParseDeviceID(device)
	dev, known := p.loc.Device(id)
	if !known || len(dev.Tokens) > 0 || p.peerOf(dev) != nil {
		return
	}
	left := time.Until(dev.FlowLost().Add(p.cfg.ReconnectGrace))
	if left <= 0 {
		return
	}
	p.calls.Go(func() {
		t := time.NewTimer(left)
		defer t.Stop()
		select {
		case <-t.C:
			p.im.Flush(device)
		case <-p.ctx.Done():
		}
	})
}

// readers has what is held for the devices on a flow delivered, if they look.
func (p *Proxy) readers(pe *peer) {
	if p.im == nil || p.im.Empty() {
		return
	}
	for _, b := range p.loc.ByFlow(pe.flow.ID()) {
		for _, device := range p.im.Boxes(b.AOR) {
			p.im.Look(device)
		}
	}
}
