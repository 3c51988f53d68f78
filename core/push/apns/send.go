package apns

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/sideshow/apns2"

	"sallyport/core/push"
)

// once expresses apns-expiration 0, one attempt and no storing. apns2 leaves
// the header out both for the zero time and for the epoch itself, and Apple
// would then store the push for as long as it likes.
var once = time.Unix(0, 1)

// maxToken bounds a device token in hexadecimal digits. Apple's have 64 today,
// and may be of any length.
const maxToken = 512

// Send implements [push.Sender]. An urgent push waits for its turn while it is
// worth sending and those ahead are answered. One that is not answered on a
// connection that answers nobody for 2 s is sent once more on another, under
// the same id.
func (c *Client) Send(ctx context.Context, n push.Notification) push.Result {
	note, reason := c.notification(n)
	if reason != "" {
		return push.Result{Outcome: push.Refused, Reason: reason, ID: n.ID}
	}
	e := c.endpoint(n.Token)
	now := time.Now()
	if reason := e.breaker.Refuse(now); reason != "" {
		_, left := e.breaker.State(now)
		return push.Result{
			Outcome: push.ProviderDown, Reason: reason + " (earlier push; not sent)", ID: n.ID, Retry: max(left, time.Second),
		}
	}
	s := newSending(e, n, note)
	a := c.attempts(ctx, s)
	v := judge(a)
	c.note(ctx, e, v, a)
	if a.reason == "BadDeviceToken" {
		if b, found := c.elsewhere(ctx, s, n.Token); found {
			a, v = b, judge(b)
		}
	}
	if v.trip {
		_, v.retry = e.breaker.State(time.Now())
		v.retry = max(v.retry, time.Second)
	}
	return push.Result{
		Outcome: v.outcome, Reason: a.String(), Status: a.status, ID: n.ID, DeadSince: a.timestamp,
		Retry: v.retry, Suspect: v.suspect,
	}
}

// attempts makes one attempt and, where its verdict says so, a second.
func (c *Client) attempts(ctx context.Context, s *sending) answer {
	l, resent := s.l, false
	defer s.done()
	var a answer
	for free := 0; ; {
		ln, wait, err := l.line()
		switch {
		case err != nil:
			return answer{err: err}
		case wait > 0 && resent:
			return a
		case wait > 0:
			if why, ok := l.rest(s.patiently(ctx), wait); !ok {
				return why
			}
			continue
		}
		a = s.attempt(ctx, ln)
		if errors.Is(a.err, errSpent) {
			l.retire(ln, a)
		}
		if untouched(a.err) && free < maxFree && pause(s.patiently(ctx), free) {
			free++
			continue
		}
		v := judge(a)
		now := s.within(ctx)
		if now.Err() != nil || resent || !c.again(l, ln, v, a, s.urgent) {
			if v.dead && !errors.Is(context.Cause(now), context.Canceled) {
				l.retire(ln, a)
			}
			return a
		}
		resent = true
		s.patiently(ctx)
		c.metrics.resent.Inc()
	}
}

// maxFree is how often a push is sent again that APNs never looked at, which
// makes no duplicate and does not count as the second attempt.
const maxFree = 12

// untouched reports that APNs never looked at the push: its line was retired,
// or took no more.
func untouched(err error) bool {
	return errors.Is(err, errRetired) || errors.Is(err, errSpent) || errors.Is(err, errBusy)
}

// pause waits a little before the third and later free tries, 20 ms more each
// time, and reports whether ctx lives on.
func pause(ctx context.Context, free int) bool {
	if free < 2 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(time.Duration(free) * 20 * time.Millisecond)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// again prepares the lane for a second attempt after verdict v on ln, and
// reports whether one makes sense.
func (c *Client) again(l *lane, ln *line, v verdict, a answer, urgent bool) bool {
	switch {
	case v.remint:
		if !l.superseded(ln) && !l.remint(ln) {
			return false
		}
	case v.trip:
		return l.superseded(ln) || c.reload() || l.superseded(ln) // by another push that read the key meanwhile
	case v.hold:
		l.hold(ln)
	case !v.again || v.callOnly && !urgent:
		return false
	}
	l.retire(ln, a)
	return true
}

// notification translates n, or says why Apple would refuse it.
func (c *Client) notification(n push.Notification) (_ *apns2.Notification, reason string) {
	token := n.Token.Value
	if _, err := hex.DecodeString(token); err != nil || token == "" || len(token) > maxToken {
		return nil, "BadDeviceToken: not hexadecimal (not sent)"
	}
	out := &apns2.Notification{
		ApnsID: n.ID, CollapseID: n.CollapseID, DeviceToken: token, Payload: n.Payload,
		Topic: c.topic(n.Channel), PushType: apns2.PushTypeAlert,
		Expiration: n.Expiration, Priority: n.Priority,
	}
	limit := push.MaxMessage
	if n.Background {
		out.PushType = apns2.PushTypeBackground
	}
	if n.Channel == push.VoIP {
		out.PushType, limit = apns2.PushTypeVOIP, push.MaxVoIP
	}
	if len(n.Payload) > limit {
		return nil, fmt.Sprintf("PayloadTooLarge: %d bytes, at most %d (not sent)", len(n.Payload), limit)
	}
	if out.Expiration.Before(once) {
		out.Expiration = once
	}
	if out.Priority == 0 {
		out.Priority = apns2.PriorityHigh
	}
	if len(out.CollapseID) > 64 {
		out.CollapseID = out.CollapseID[:64]
	}
	return out, ""
}

// topic is the app's on a channel.
func (c *Client) topic(channel push.Channel) string {
	if channel == push.VoIP {
		return c.cfg.BundleID + ".voip"
	}
	return c.cfg.BundleID
}

// String names the answer for people. It holds no token: URLs were taken out
// of errors.
func (a answer) String() string {
	switch {
	case errors.Is(a.err, context.DeadlineExceeded):
		return "no answer in time"
	case errors.Is(a.err, context.Canceled):
		return "withdrawn before there was an answer"
	case a.err != nil:
		return a.err.Error()
	case a.reason != "":
		return a.reason
	case a.status == http.StatusOK:
		return ""
	default:
		return fmt.Sprintf("HTTP status %d", a.status)
	}
}
