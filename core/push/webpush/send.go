package webpush

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync/atomic"
	"time"

	"sallyport/core/push"
	"sallyport/core/push/aes128gcm"
)

const (
	// noteTimeout bounds a note from its turn to its outcome.
	noteTimeout = 10 * time.Second
	// callPatience and notePatience are how long a connection that was open
	// already may answer nobody before the push is sent again on a fresh one.
	callPatience = 1250 * time.Millisecond
	notePatience = 5 * time.Second
	// resolveTimeout bounds how long a push waits to learn where its host is when
	// a proxy will connect to it.
	resolveTimeout = time.Second
)

// How long to wait before the same push may be sent again.
const (
	retryBusy      = 5 * time.Second
	retrySilent    = 10 * time.Second
	retryServer    = 30 * time.Second
	retryThrottled = time.Minute
)

var errDead = errors.New("the connection answers nobody")

// Send sends one push: once, and once more where the connection turns out to
// be dead. It has an outcome within [push.CallTimeout] of the turn of a call,
// and within 11 s for others.
func (c *Client) Send(ctx context.Context, n push.Notification) push.Result {
	now := time.Now()
	m, err := c.message(n, now)
	if err != nil {
		return c.unsendable(err)
	}
	o, err := c.origins.enter(m.target)
	if err != nil {
		return push.Result{Outcome: push.ProviderDown, Reason: err.Error(), Retry: retryBusy}
	}
	defer c.origins.leave(o)
	if reason := o.refuse(n.Urgent, now); reason != "" {
		return push.Result{Outcome: push.ProviderDown, Reason: reason, Retry: retryBusy}
	}
	free, err := o.place(ctx, n, c.strangers)
	if err != nil {
		return push.Result{Outcome: push.ProviderDown, Reason: err.Error(), Retry: retryBusy}
	}
	defer free()
	limit, patience := noteTimeout, notePatience
	if n.Urgent {
		limit, patience = push.CallTimeout, callPatience
	}
	try, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return c.settle(ctx, n, o, c.exchange(try, m, o, n.Urgent, patience))
}

// unsendable is the result of a push that nothing can be made of.
func (c *Client) unsendable(err error) push.Result {
	r := push.Result{Outcome: push.Refused, Reason: err.Error()}
	if errors.Is(err, aes128gcm.ErrTooLong) {
		r.Status = http.StatusRequestEntityTooLarge // which core/push knows what to do about
		return r
	}
	if _, ok := isForbidden(err); ok {
		c.metrics.forbidden.Inc()
	}
	return r
}

// answer is what came of an attempt: a status, or why there was none.
type answer struct {
	status int
	retry  time.Duration // what the push service asked for; 0 for nothing
	err    error
	again  bool // on a connection that was dead
}

// exchange sends m, a second time where the first told that the connection was
// dead.
func (c *Client) exchange(ctx context.Context, m *message, o *origin, urgent bool, patience time.Duration) answer {
	if o.proxied {
		if err := c.beforeProxy(ctx, o); err != nil {
			return answer{err: err}
		}
	}
	header, err := o.intro.get(o.origin, c.cfg.Subject, c.vapid())
	if err != nil {
		return answer{err: err}
	}
	m.header["Authorization"] = []string{header}
	l := o.lane(urgent)
	a := attempt(ctx, m, l, patience)
	if a.again && ctx.Err() == nil {
		c.metrics.resent.Inc()
		a = attempt(ctx, m, l, patience)
	}
	return a
}

// beforeProxy looks where the proxy will connect to. The proxy resolves for
// itself, so this finds names that lead inside, not those that change in
// between; a list in allow does more, and needs no DNS here.
func (c *Client) beforeProxy(ctx context.Context, o *origin) error {
	if len(c.policy.hosts)+len(c.policy.suffixes) > 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	_, err := c.dialer.addrs(ctx, &o.target)
	if _, ok := isForbidden(err); ok || err == nil {
		return err
	}
	return forbid("%s cannot be resolved here, so the proxy might find it inside: add it to allow", o.host)
}

// attempt sends m on the lane's path and waits for the answer.
func attempt(ctx context.Context, m *message, l *lane, patience time.Duration) answer {
	p, err := l.enter()
	if err != nil {
		return answer{err: err}
	}
	defer p.leave()
	start := time.Now()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var reused atomic.Bool
	watch := time.AfterFunc(patience, func() {
		if reused.Load() && !p.heardSince(start) {
			cancel(errDead)
		}
	})
	defer watch.Stop()
	req, err := m.request(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(i httptrace.GotConnInfo) { reused.Store(i.Reused) },
	}))
	if err != nil {
		return answer{err: err}
	}
	resp, err := p.transport.RoundTrip(req)
	if err == nil {
		p.heard()
		_ = resp.Body.Close() // unread
		return answer{status: resp.StatusCode, retry: push.RetryAfter(resp.Header, time.Now())}
	}
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	if !p.heardSince(start) {
		l.retire(p)
	}
	return answer{err: err, again: reused.Load() && (errors.Is(err, errDead) || ctx.Err() == nil)}
}

// settle draws the conclusions from an answer: for the push, and for those to
// the same push service that follow. ctx is the caller's.
func (c *Client) settle(ctx context.Context, n push.Notification, o *origin, a answer) push.Result {
	if a.err != nil {
		return c.unanswered(ctx, o, a.err)
	}
	o.heard()
	v := judge(a.status)
	r := push.Result{Outcome: v.outcome, Status: a.status, Reason: v.reason, Suspect: v.denied}
	if v.retry > 0 {
		r.Retry = v.retry
		if a.retry > 0 {
			r.Retry = a.retry
		}
	}
	switch {
	case v.outcome == push.Accepted:
		o.accepts(time.Now())
	case v.denied:
		if alarm := o.denies(n.Token.Value, a.status); alarm != "" {
			c.log.Error("push key refused", "reason", alarm)
		}
	}
	return r
}

// unanswered is the result of a push without an answer.
func (c *Client) unanswered(ctx context.Context, o *origin, err error) push.Result {
	r := push.Result{Outcome: push.ProviderDown, Reason: err.Error(), Retry: retrySilent}
	var wrong *proxyError
	switch f, ok := isForbidden(err); {
	case ok:
		c.metrics.forbidden.Inc()
		return push.Result{Outcome: push.Refused, Reason: f.why}
	case errors.Is(err, errClosed):
		r.Reason = errClosed.Error()
	case ctx.Err() != nil && !errors.Is(ctx.Err(), context.DeadlineExceeded): // who asked asks no more
		r.Reason = "given up before " + o.host + " answered"
	case errors.As(err, &wrong):
		r.Reason = wrong.why
		if c.proxyHealth.Set(&push.Trouble{
			Kind: push.TroubleProxy, Text: wrong.why,
			Remedy: "look at push.proxy: address, user, password, and what the proxy lets through",
		}) {
			c.log.Error("push proxy fails", "reason", wrong.why)
		}
	default:
		if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, errDead) {
			r.Reason = "no answer in time"
		}
		r.Reason = fmt.Sprintf("%s: %s", o.host, tame(r.Reason))
		o.silent(r.Reason)
	}
	return r
}

// maxWords bounds what is kept of an error, in bytes.
const maxWords = 200

// tame makes an error fit for logs and terminals: it may quote what a stranger
// sent, such as the names in his certificate or the end of his connection.
func tame(text string) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, text[:min(len(text), maxWords+1)])
	if len(text) > maxWords {
		text = text[:maxWords-3] + "..."
	}
	return text
}

// verdict says what an answer means.
type verdict struct {
	outcome push.Outcome
	reason  string
	retry   time.Duration // 0 is never
	denied  bool          // our key is wrong here, or for this subscription
}

// verdicts are those that have a status of their own (RFC 8030 §7, RFC 8292
// §4.2). What is 401 or 403 for one token is as often a subscription made with
// another key as it is our fault: it deletes nothing.
var verdicts = map[int]verdict{
	http.StatusNotFound:              {push.DeadToken, "no such subscription", 0, false},
	http.StatusGone:                  {push.DeadToken, "the subscription is gone", 0, false},
	http.StatusRequestEntityTooLarge: {push.Refused, "the payload is too large", 0, false},
	http.StatusUnauthorized:          {push.Refused, "our VAPID key is refused, or the subscription was made with another", 0, true},
	http.StatusForbidden:             {push.Refused, "our VAPID key is refused, or the subscription was made with another", 0, true},
	http.StatusTooManyRequests:       {push.Refused, "too many pushes", retryThrottled, false},
}

// judge finds the verdict on a status.
func judge(status int) verdict {
	if v, ok := verdicts[status]; ok {
		return v
	}
	switch status / 100 {
	case 2:
		return verdict{outcome: push.Accepted}
	case 3:
		return verdict{outcome: push.Refused, reason: "redirects are not followed"}
	case 5:
		return verdict{outcome: push.ProviderDown, reason: "the push service fails", retry: retryServer}
	default:
		return verdict{outcome: push.Refused, reason: "the push service refuses the push"}
	}
}
