package fcm

import (
	"context"
	"errors"
	"fmt"
	"time"

	"firebase.google.com/go/v4/messaging"

	"sallyport/core/push"
)

// How long a push may be on a connection without an answer before that counts
// as dead. A call has [push.CallTimeout] there in all, of which the second
// attempt gets what the first has left.
const (
	callAttempt = 2 * time.Second
	noteAttempt = 15 * time.Second // Google asks for ten at least
	// lastAttempt is what the second attempt has at least.
	lastAttempt = push.CallTimeout - callAttempt
)

var (
	// errSlow: there was no answer in time, on a connection that answers others.
	errSlow = errors.New("no answer in time, though other pushes are answered")
	// errForbidden: FCM refused our credentials to one of those ahead.
	errForbidden = errors.New("not sent after the answer to an earlier push")
)

// Send implements [push.Sender]. An urgent push waits for its turn while it is
// worth sending and those ahead are answered. What FCM answers is final. Only a
// push that is not answered on a connection that answers nobody is sent once
// more, on another.
func (c *Client) Send(ctx context.Context, n push.Notification) push.Result {
	m, reason := message(n, time.Now())
	if reason != "" {
		return push.Result{Outcome: push.Refused, Reason: reason, ID: n.ID}
	}
	if reason := c.breaker.Refuse(time.Now()); reason != "" {
		return push.Result{Outcome: push.ProviderDown, Reason: reason + " (earlier push; not sent)", ID: n.ID, Retry: minRetry}
	}
	d := c.delivery(n, m)
	a := d.deliver(ctx)
	v := judge(a)
	if v.probe && !n.Urgent {
		v = c.probe(ctx, n, v)
	}
	c.conclude(ctx, v, a, d.access)
	return push.Result{Outcome: v.outcome, Reason: a.String(), Status: a.status, ID: n.ID, Retry: v.retry, Suspect: v.suspect}
}

// delivery is one push on its way: its time on the wire is short and counted,
// its time in the queue before that is as long as it is of use.
type delivery struct {
	// Static.
	c       *Client
	l       *lane
	message *messaging.Message
	dry     bool // FCM shall look at it and deliver nothing
	urgent  bool
	came    time.Time
	until   time.Time // for its turn

	// Owned by deliver.
	wired  time.Duration // on the wire so far
	access string        // the access token it was sent with
}

func (c *Client) delivery(n push.Notification, m *messaging.Message) *delivery {
	d := &delivery{c: c, l: c.notes, message: m, urgent: n.Urgent, came: time.Now(), until: n.Until}
	if n.Urgent {
		d.l = c.calls
	}
	if d.until.IsZero() {
		d.until = d.came.Add(d.patience())
	}
	return d
}

// patience is how long it waits, and has waited, while nobody is answered.
func (d *delivery) patience() time.Duration {
	if d.urgent {
		return push.CallTimeout
	}
	return 2 * noteAttempt
}

// maxFree is how often a push is sent again that FCM never looked at, which
// makes no duplicate and does not count as the second attempt.
const maxFree = 12

// deliver makes one attempt and, where nothing was answered, a second.
func (d *delivery) deliver(ctx context.Context) answer {
	ctx, stop := push.WhileMoving(ctx, d.came, d.patience(), 0, context.DeadlineExceeded, &d.l.answered)
	defer stop()
	resent := false
	for free := 0; ; {
		access, err := d.c.keeper.get(ctx)
		if err != nil {
			return answer{err: err}
		}
		d.access = access
		ln, err := d.l.line()
		if err != nil {
			return answer{err: err}
		}
		a := d.attempt(ctx, ln)
		if errors.Is(a.err, errSpent) {
			d.l.retire(ln)
		}
		if untouched(a.err) && free < maxFree && pause(ctx, free) {
			free++
			continue
		}
		if !judge(a).again || ctx.Err() != nil && errors.Is(context.Cause(ctx), context.Canceled) {
			return a
		}
		d.l.retire(ln)
		if resent || ctx.Err() != nil {
			return a
		}
		resent = true
		d.c.metrics.resent.Inc()
	}
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

// attempt waits for the push's turn on ln, and sends it.
func (d *delivery) attempt(ctx context.Context, ln *line) answer {
	if err := d.turn(ctx, ln); err != nil {
		return answer{err: err}
	}
	start := time.Now()
	limit, most := noteAttempt, 2*noteAttempt
	if d.urgent {
		most = max(push.CallTimeout-d.wired, lastAttempt)
		limit = min(callAttempt, most)
	}
	try, cancel := push.WhileMoving(ctx, start, limit, most, context.DeadlineExceeded, &ln.answered)
	a := send(try, d.c.sdk, ln, d.access, d.message, d.dry)
	if a.err != nil && try.Err() != nil {
		a.err = context.Cause(try) // which the transport may call cancelled
		if errors.Is(a.err, context.DeadlineExceeded) && ln.answered.Get().After(start) {
			a.err = errSlow
		}
	}
	cancel()
	d.wired += time.Since(start)
	if a.status != 0 {
		d.l.answered.Note()
	}
	return a
}

// turn waits for a place on ln.
func (d *delivery) turn(ctx context.Context, ln *line) error {
	wait, cancel := context.WithDeadlineCause(ctx, d.until, errLate)
	defer cancel()
	switch err := ln.gate.enter(wait, d.until); {
	case errors.Is(err, context.DeadlineExceeded):
		return errStuck
	case err != nil:
		return err
	}
	if reason := d.c.breaker.Open(); reason != "" { // said to those ahead
		ln.leave(false)
		return fmt.Errorf("%w: %s", errForbidden, reason)
	}
	return nil
}

// probeEvery is how often FCM is asked at most which of token and payload it
// did not like: whoever registers can make it refuse as many as they like.
const probeEvery = 6 * time.Second

// probe asks FCM what it says of the token with a payload that is beyond doubt,
// and delivers nothing. It turns the verdict on an INVALID_ARGUMENT into one on
// the token or on us.
func (c *Client) probe(ctx context.Context, n push.Notification, v verdict) verdict {
	if !c.probes.allow(time.Now(), probeEvery) {
		return v
	}
	c.metrics.probes.Inc()
	d := c.delivery(push.Notification{}, &messaging.Message{
		Token: n.Token.Value, Data: map[string]string{"v": "1"}, Android: &messaging.AndroidConfig{Priority: "normal"},
	})
	d.dry = true
	switch p := judge(d.deliver(ctx)); {
	case p.outcome == push.Accepted:
		return misuse
	case p.probe, p.suspect, p.outcome == push.DeadToken:
		return foreign
	}
	return v
}
