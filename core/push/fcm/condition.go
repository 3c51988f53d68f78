package fcm

import (
	"context"
	"errors"
	"fmt"
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

// remedies are what an operator does about an answer, by its code, its detail,
// its kind or its status.
var remedies = map[string]string{
	"INVALID_ARGUMENT":       "FCM takes the token, but not this payload: please report it as a defect",
	"THIRD_PARTY_AUTH_ERROR": "give Firebase a valid APNs or web push key, or let those apps register with apns or webpush",
	"SERVICE_DISABLED":       "enable the Firebase Cloud Messaging API of the project in the Google Cloud console",
	"ACCESS_TOKEN_EXPIRED":   "is this machine's clock right?",
	"UNAUTHENTICATED":        "is the service account's key still valid?",
	"PERMISSION_DENIED":      "give the service account the role Firebase Cloud Messaging API Admin in this project",
	"NOT_FOUND":              "is project the id of the app's Firebase project?",
	"401":                    "is the service account's key still valid?",
	"403":                    "does the service account belong to this project?",
	"404":                    "are project and endpoint right?",
}

// trouble is what an answer says of more than one push.
func trouble(v verdict, a answer) *push.Trouble {
	t := &push.Trouble{Kind: push.TroubleConfig, Text: a.String()}
	switch {
	case a.err != nil:
		t.Kind, t.Remedy = unreached(a.err)
	case v.outcome == push.ProviderDown && !v.trip && a.status >= 500:
		t.Kind = push.TroubleServer
	case a.status == http.StatusUnauthorized, a.status == http.StatusForbidden:
		t.Kind = push.TroubleAuth
	}
	for _, word := range []string{a.code, a.detail, a.kind, strconv.Itoa(a.status)} {
		if t.Remedy == "" {
			t.Remedy = remedies[word]
		}
	}
	return t
}

// unreached says whose fault it is that nobody was reached.
func unreached(err error) (kind, remedy string) {
	var refused proxyError
	var op *net.OpError
	switch {
	case errors.As(err, &refused) && refused == http.StatusProxyAuthRequired:
		return push.TroubleProxy, "are user and password in push.proxy right?"
	case errors.As(err, &refused):
		return push.TroubleProxy, "does the proxy let this machine reach FCM and its OAuth?"
	case errors.As(err, &op) && op.Op == "proxyconnect":
		return push.TroubleProxy, "is push.proxy the address of a proxy that runs?"
	}
	return push.TroubleNetwork, ""
}

// conclude draws the consequences of the final verdict for the pushes to come.
func (c *Client) conclude(ctx context.Context, v verdict, a answer, access string) {
	switch {
	case v.outcome == push.Accepted:
		c.breaker.Reset()
		if c.sending.Set(nil) {
			c.log.Info("push works again")
		}
		return
	case errors.Is(ctx.Err(), context.Canceled), errors.Is(a.err, errClosed):
		return // who asked for the push wants it no more: this says nothing of FCM
	case v.outcome == push.DeadToken, v.suspect:
		c.breaker.Reset() // it looked at the token, and so took our credentials
	}
	if v.drop {
		c.keeper.drop(access)
	}
	if v.trip {
		c.breaker.Trip(a.String(), time.Now())
		c.reload()
	}
	if !v.alarm {
		return
	}
	if t := trouble(v, a); c.sending.Set(t) {
		c.log.Warn("push fails", "status", a.status, "reason", t.Text, "remedy", t.Remedy)
	}
}

// maxSkew is by how much this machine's clock may differ from Google's before
// that is worth an alarm: the assertion that an access token is asked for with
// is good for an hour, and refused when it comes from the future.
const maxSkew = 2 * time.Minute

// fetched notes what became of a fetch of an access token.
func (c *Client) fetched(f fetched) {
	switch {
	case errors.Is(f.err, context.Canceled), errors.Is(f.err, errClosed):
		return
	case f.err == nil:
		c.metrics.fetches.WithLabelValues("fetched").Inc()
		if c.oauth.Set(nil) {
			c.log.Info("access tokens work again")
		}
	default:
		c.metrics.fetches.WithLabelValues("failed").Inc()
		if t := tokenTrouble(f.err); c.oauth.Set(t) {
			c.log.Warn("access token not fetched", "reason", t.Text, "remedy", t.Remedy)
		}
	}
	if f.date.IsZero() {
		return
	}
	var t *push.Trouble
	if skew := time.Since(f.date).Round(time.Second); skew.Abs() > maxSkew {
		how := "ahead of"
		if skew < 0 {
			how = "behind"
		}
		t = &push.Trouble{
			Kind: push.TroubleClock, Text: fmt.Sprintf("this machine's clock is %v %s Google's", skew.Abs().Round(time.Minute), how),
			Remedy: "let it keep time (NTP)",
		}
	}
	if c.clock.Set(t) && t != nil {
		c.log.Warn("clock differs from Google's", "reason", t.Text, "remedy", t.Remedy)
	}
}

func tokenTrouble(err error) *push.Trouble {
	t := &push.Trouble{Text: answer{err: err}.String()}
	var r *refusal
	switch {
	case !errors.As(err, &r):
		t.Kind, t.Remedy = unreached(err)
	case r.code == "invalid_grant":
		t.Kind, t.Remedy = push.TroubleAuth, "is the key in service_account still valid, and this machine's clock right?"
	case r.status/100 == 5:
		t.Kind = push.TroubleServer
	default:
		t.Kind, t.Remedy = push.TroubleAuth, "is service_account a key as the Google Cloud console made it?"
	}
	return t
}

// trouble is the first of what is wrong, nil when all is well. A clock that is
// wrong explains what follows from it.
func (c *Client) trouble() *push.Trouble {
	for _, a := range []*push.Health{&c.clock, &c.file, &c.oauth, &c.sending} {
		if t := a.Get(); t != nil {
			return t
		}
	}
	return nil
}

// Health reports whether pushes can be expected to be accepted, and if not the
// last error with what to do about it.
func (c *Client) Health() (ok bool, lastError string) { return c.trouble().Health() }

// Condition implements [push.Conditioned].
func (c *Client) Condition() push.Condition {
	reason, _ := c.breaker.State(time.Now())
	issued, _ := c.keeper.state()
	return push.Condition{Trouble: c.trouble(), Open: reason != "", Connections: int(c.open.Load()), CredentialIssued: issued}
}

// Explain implements [push.Explainer].
func (c *Client) Explain(push.Token, push.Channel) []push.Fact {
	issued, email := c.keeper.state()
	to, _ := url.Parse(c.cfg.Endpoint) // checked
	facts := []push.Fact{
		{Name: "host", Value: c.cfg.Endpoint},
		{Name: "project", Value: c.project},
		{Name: "service_account", Value: email},
	}
	if !issued.IsZero() {
		facts = append(facts,
			push.Fact{Name: "credential_issued", Value: issued.UTC().Format(time.RFC3339)},
			push.Fact{Name: "credential_age", Value: time.Since(issued).Round(time.Second).String()})
	}
	return append(facts,
		push.Fact{Name: "proxy", Value: push.ProxyName(c.proxy, to)},
		push.Fact{Name: "connections", Value: strconv.FormatInt(c.open.Load(), 10)},
		push.Fact{Name: "breaker", Value: c.breaker.String()})
}
