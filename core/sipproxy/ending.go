package sipproxy

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"sallyport/core/wake"
)

// How a call ends for a device decides what the device is told, whichever
// provider brings it:
//
//	the call ended by          iOS, was pushed             others, were pushed
//	window over                missed                      missed
//	caller hung up             INVITE and CANCEL, or       missed
//	                           missed if it never comes
//	answered elsewhere         answered_elsewhere,         answered_elsewhere
//	                           INVITE and CANCEL
//	declined elsewhere         INVITE and CANCEL           nothing
//	quiet hours                missed, by its rule         missed, by its rule
//
// A call that rings elsewhere is not missed yet: whoever gave up on it before
// hears what became of it in the end.

// over says why branches are ended. Its text is that of a Reason header.
type over struct {
	reason    string // value of the Reason header, "" for none
	elsewhere bool   // somebody answered
	declined  bool   // somebody declined for all
}

func (o *over) Error() string { return "call over: " + o.reason }

// Reasons of RFC 3326 for branches that lost.
const (
	reasonElsewhere = `SIP;cause=200;text="Call completed elsewhere"`
	reasonBusy      = `SIP;cause=600;text="Busy Everywhere"`
)

// overBy is what Reason values say of the end of a call.
func overBy(reasons string) *over {
	o := &over{reason: reasons}
	for value := range strings.SplitSeq(reasons, ",") {
		protocol, params, _ := strings.Cut(value, ";")
		protocol = strings.ToUpper(strings.TrimSpace(protocol))
		for param := range strings.SplitSeq(params, ";") {
			k, v, _ := strings.Cut(param, "=")
			if !strings.EqualFold(strings.TrimSpace(k), "cause") {
				continue
			}
			cause, _ := strconv.Atoi(strings.TrimSpace(v))
			switch {
			case protocol == "SIP" && cause == 200,
				protocol == "Q.850" && cause == 26: // non-selected user clearing
				o.elsewhere = true
			case protocol == "SIP" && cause/100 == 6:
				o.declined = true
			}
		}
	}
	return o
}

// overOf returns why ctx ended. A proxy that stops cancels without a reason.
func overOf(ctx context.Context) *over {
	if o, ok := errors.AsType[*over](context.Cause(ctx)); ok {
		return o
	}
	return &over{}
}

// finish says what the end of the leg means for those who wait elsewhere: the
// trace, the missed-call push, and the device that is still on its way.
func (l *leg) finish(ctx context.Context, f *fork, o outcome) {
	if l.dialog {
		return
	}
	failed := l.lastStep()
	if ctx.Err() == nil && o.res == nil && o.status == 480 && (l.isPushed() || l.isHushed()) {
		f.atEnd(func(end *over) {
			switch {
			case end.elsewhere && l.isPushed():
				l.leave(wake.EventAnsweredElsewhere)
			case end.elsewhere || end.declined:
			default:
				l.miss()
			}
			l.traceEnd(o, failed)
		})
		l.settlePush(o)
		return
	}
	if ctx.Err() != nil && o.code() == 487 {
		l.cancelled(overOf(ctx))
	}
	l.settlePush(o)
	l.traceEnd(o, failed)
}

// besideAnswer is how long the push beside a call may still leave once the
// device has answered: longer than a cold connection takes, and shorter than
// anybody takes to answer and hang up.
const besideAnswer = 250 * time.Millisecond

// settlePush takes back an announcement that has not left yet: nothing rings
// behind it any more (B17). Where the device itself answered, its call is there,
// and so is the push beside it (B4) if it leaves within a moment, as it does
// unless it waits for its turn behind a crowd.
func (l *leg) settlePush(o outcome) {
	switch {
	case l.unpush == nil:
	case o.code() == 0:
		time.AfterFunc(besideAnswer, l.unpush)
	default:
		l.unpush()
	}
}

// miss leaves a missed call on the Message channel (B16).
func (l *leg) miss() { l.leave(wake.EventMissed) }

// leave leaves word of the call on the Message channel.
func (l *leg) leave(event string) {
	dev, known := l.p.loc.Device(l.id)
	if !known || !l.p.cfg.PushEnabled {
		return
	}
	c := l.call
	l.p.tell(dev, wake.Note{
		Event: event, CallID: c.CallID, FromURI: c.FromURI, FromName: c.FromName,
		Number: c.Number, To: c.To, Sent: time.Now(),
	}, l.step)
}

func (l *leg) traceEnd(o outcome, failed string) {
	if l.trace == nil {
		return
	}
	switch c := o.code(); {
	case c == 0:
		l.trace.End("answered", "")
	case c == 487:
		l.trace.End("cancelled", "")
	case o.res != nil:
		l.trace.End("refused", "")
	default:
		l.trace.End("not delivered", failed)
	}
}
