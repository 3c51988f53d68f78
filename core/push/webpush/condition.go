package webpush

import (
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"sallyport/core/push"
)

var (
	_ push.Explainer   = (*Client)(nil)
	_ push.Conditioned = (*Client)(nil)
)

// Condition implements [push.Conditioned]. What is wrong at one push service
// is the app's trouble only where it is our key: clients choose the services.
func (c *Client) Condition() push.Condition {
	var out push.Condition
	for _, o := range c.origins.all() {
		out.Connections += o.calls.connections() + o.notes.connections()
		o.mu.Lock()
		alarm := o.alarm
		o.mu.Unlock()
		if alarm != "" && (out.Trouble == nil || alarm < out.Trouble.Text) {
			out.Trouble = &push.Trouble{
				Kind: push.TroubleAuth, Text: alarm,
				Remedy: "was vapid_key replaced? Then apps must subscribe again. Else set this machine's clock: the token is good for twelve hours",
			}
		}
	}
	if t := c.proxyHealth.Get(); t != nil {
		out.Trouble = t
	}
	if t := c.keyHealth.Get(); t != nil {
		out.Trouble = t
	}
	return out
}

// Explain implements [push.Explainer].
func (c *Client) Explain(t push.Token, _ push.Channel) []push.Fact {
	_, at, err := c.policy.check(t.Value)
	if err != nil {
		return []push.Fact{{Name: "origin", Value: "none: " + err.Error()}}
	}
	content := "none: the client gave no key"
	if t.Key != "" && t.Auth != "" {
		content = "encrypted for the device"
	}
	facts := []push.Fact{
		{Name: "origin", Value: at.origin},
		{Name: "vapid", Value: c.VAPID()},
		{Name: "content", Value: content},
		{Name: "proxy", Value: push.ProxyName(c.proxy, at.url())},
	}
	o := c.origins.known(at.origin)
	if o == nil {
		return append(facts, push.Fact{Name: "connections", Value: "0"}, push.Fact{Name: "breaker", Value: "shut"})
	}
	if signed := o.intro.signedAt(); !signed.IsZero() {
		facts = append(facts,
			push.Fact{Name: "credential_issued", Value: signed.UTC().Format(time.RFC3339)},
			push.Fact{Name: "credential_age", Value: time.Since(signed).Round(time.Second).String()})
	}
	breaker := "shut"
	o.mu.Lock()
	if o.alarm != "" {
		breaker = "open for all but calls: " + o.alarm
	} else if o.quiet != "" {
		breaker = "open for all but calls: " + o.quiet
	}
	o.mu.Unlock()
	return append(facts,
		push.Fact{Name: "connections", Value: strconv.Itoa(o.calls.connections() + o.notes.connections())},
		push.Fact{Name: "breaker", Value: breaker})
}

// url is where a push service is reached.
func (t target) url() *url.URL {
	return &url.URL{Scheme: "https", Host: net.JoinHostPort(t.host, t.port)}
}

// via is the egress proxy on the way to a push service, nil for none.
func (c *Client) via(t target) *url.URL {
	if c.proxy == nil {
		return nil
	}
	via, _ := c.proxy(&http.Request{URL: t.url()})
	return via
}

// connections counts those that are open.
func (l *lane) connections() int {
	l.mu.Lock()
	p := l.cur
	l.mu.Unlock()
	if p == nil {
		return 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.conns)
}

func (i *introduction) signedAt() time.Time {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.signed
}

// known returns a push service without using it, nil when it is not known.
func (s *origins) known(name string) *origin {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e, ok := s.byName[name]; ok {
		return e.Value.(*origin)
	}
	return nil
}
