package apns

import (
	"cmp"
	"context"
	"errors"
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

// remedies are what an operator does about a reason.
var remedies = map[string]string{
	"ExpiredProviderToken":       "is this machine's clock right?",
	"InvalidProviderToken":       "do team_id, key_id and key_file belong together?",
	"MissingProviderToken":       "do team_id, key_id and key_file belong together?",
	"UnrelatedKeyIdInToken":      "is the key of the same team, and valid for this app?",
	"BadEnvironmentKeyIdInToken": "the key is for Apple's other environment",
	"BadEnvironmentKeyInToken":   "the key is for Apple's other environment",
	"TopicDisallowed":            "is id the bundle id of an app of this team?",
	"BadTopic":                   "is id the bundle id of an app of this team?",
}

// trouble is what an answer says of more than one push.
func trouble(v verdict, a answer) *push.Trouble {
	t := &push.Trouble{Text: a.String(), Remedy: remedies[a.reason]}
	var refused *proxyError
	var op *net.OpError
	switch {
	case v.remint:
		t.Kind = push.TroubleClock
	case v.trip, v.hold:
		t.Kind = push.TroubleAuth
	case errors.As(a.err, &refused):
		t.Kind, t.Remedy = push.TroubleProxy, "does the proxy let this machine reach APNs?"
		if refused.status == http.StatusProxyAuthRequired {
			t.Remedy = "are user and password in push.proxy right?"
		}
	case errors.As(a.err, &op) && op.Op == "proxyconnect":
		t.Kind, t.Remedy = push.TroubleProxy, "is push.proxy the address of a proxy that runs?"
	case a.err != nil:
		t.Kind = push.TroubleNetwork
	case v.outcome == push.ProviderDown:
		t.Kind = push.TroubleServer
	default:
		t.Kind = push.TroubleConfig
	}
	return t
}

// note draws the consequences of the final verdict for the pushes to come.
func (c *Client) note(ctx context.Context, e *endpoint, v verdict, a answer) {
	switch {
	case v.outcome == push.Accepted:
		e.proven.Store(true)
		e.breaker.Reset()
		if c.state.Set(nil) {
			c.log.Info("push works again")
		}
	case errors.Is(ctx.Err(), context.Canceled), errors.Is(a.err, errClosed):
		// who asked for the push wants it no more: this says nothing of Apple
	case v.outcome == push.DeadToken, v.suspect:
		e.breaker.Reset() // it looked at the token, and so took our credentials
	case v.trip:
		e.breaker.Trip(a.String(), time.Now())
		fallthrough
	case v.alarm, v.outcome == push.ProviderDown:
		if t := trouble(v, a); c.state.Set(t) {
			c.log.Warn("push fails", "status", a.status, "reason", t.Text, "remedy", t.Remedy)
		}
	}
}

// trouble is the first of what is wrong, nil when all is well.
func (c *Client) trouble() *push.Trouble {
	if t := c.state.Get(); t != nil {
		return t
	}
	return c.file.Get()
}

// Health reports whether pushes can be expected to be accepted, and if not the
// last error with what to do about it.
func (c *Client) Health() (ok bool, lastError string) { return c.trouble().Health() }

// Condition implements [push.Conditioned].
func (c *Client) Condition() push.Condition {
	out := push.Condition{Trouble: c.trouble(), Connections: int(c.open.Load())}
	for _, e := range c.endpoints {
		reason, _ := e.breaker.State(time.Now())
		out.Open = out.Open || reason != ""
		for _, l := range []*lane{e.calls, e.notes} {
			if at := l.issued(); out.CredentialIssued.IsZero() || !at.IsZero() && at.Before(out.CredentialIssued) {
				out.CredentialIssued = at
			}
		}
	}
	return out
}

// Explain implements [push.Explainer].
func (c *Client) Explain(t push.Token, channel push.Channel) []push.Fact {
	e := c.endpoint(t)
	to, _ := url.Parse(e.host) // as the configuration has it, checked
	l := e.lane(channel == push.VoIP)
	c.keyMu.Lock()
	id := c.key.signer.keyID
	c.keyMu.Unlock()
	facts := []push.Fact{
		{Name: "host", Value: e.host},
		{Name: "topic", Value: c.topic(channel)},
		{Name: "environment", Value: c.environment(e)},
		{Name: "key_id", Value: id},
	}
	if at := l.issued(); !at.IsZero() {
		facts = append(facts,
			push.Fact{Name: "credential_issued", Value: at.UTC().Format(time.RFC3339)},
			push.Fact{Name: "credential_age", Value: time.Since(at).Round(time.Second).String()})
	}
	return append(facts,
		push.Fact{Name: "proxy", Value: push.ProxyName(c.proxy, to)},
		push.Fact{Name: "connections", Value: strconv.FormatInt(c.open.Load(), 10)},
		push.Fact{Name: "breaker", Value: e.breaker.String()})
}

// environment names the one that e is of; another endpoint is of the one that
// is configured.
func (c *Client) environment(e *endpoint) string {
	if e.host == hosts[Sandbox] {
		return Sandbox
	}
	return cmp.Or(c.cfg.Environment, Production)
}
