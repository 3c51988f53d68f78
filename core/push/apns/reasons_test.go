package apns_test

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/core/push"
	"sallyport/core/push/apns"
	"sallyport/core/push/pushtest"
)

// Who sends a push again at once, on a connection of its own.
const (
	nobody = iota
	calls
	both
)

// action is what follows from an answer of APNs.
type action struct {
	status  int
	again   int          // nobody, calls or both
	outcome push.Outcome // where the answer is the same again, or nobody asks
	retry   time.Duration
	suspect bool
	quiet   bool // it says nothing of other pushes: health stays good
}

// The actions of facts/push.md §1.3.
var (
	drop       = action{status: 410, outcome: push.DeadToken, quiet: true}
	quarantine = action{status: 400, outcome: push.Refused, suspect: true, quiet: true}
	bug        = action{status: 400, outcome: push.Refused}
	connection = action{status: 400, again: both, outcome: push.ProviderDown, retry: 5 * time.Second}
	config     = action{status: 403, outcome: push.ProviderDown, retry: 5 * time.Second} // when the breaker lets one try
	server     = action{status: 500, again: calls, outcome: push.ProviderDown, retry: 15 * time.Minute}
)

func (a action) with(status int) action { a.status = status; return a }

var actions = map[string]action{
	"Unregistered":                drop,
	"ExpiredToken":                drop,
	"BadDeviceToken":              quarantine,
	"DeviceTokenNotForTopic":      quarantine,
	"BadTopic":                    bug,
	"MissingTopic":                bug,
	"TopicDisallowed":             bug,
	"InvalidPushType":             bug,
	"BadPriority":                 bug,
	"BadCollapseId":               bug,
	"BadExpirationDate":           bug,
	"BadMessageId":                bug,
	"DuplicateHeaders":            bug,
	"MissingDeviceToken":          bug,
	"PayloadEmpty":                bug,
	"BadPath":                     bug.with(404),
	"MethodNotAllowed":            bug.with(405),
	"PayloadTooLarge":             bug.with(413),
	"IdleTimeout":                 connection,
	"Shutdown":                    connection.with(503),
	"ExpiredProviderToken":        {status: 403, again: both, outcome: push.ProviderDown, retry: 5 * time.Second},
	"InvalidProviderToken":        config,
	"MissingProviderToken":        config,
	"UnrelatedKeyIdInToken":       config,
	"BadEnvironmentKeyIdInToken":  config,
	"BadEnvironmentKeyInToken":    config,
	"BadCertificate":              config,
	"BadCertificateEnvironment":   config,
	"Forbidden":                   config,
	"TooManyProviderTokenUpdates": {status: 429, again: both, outcome: push.ProviderDown, retry: 20 * time.Minute},
	"TooManyRequests":             {status: 429, outcome: push.Refused, retry: 30 * time.Second, quiet: true},
	"InternalServerError":         server,
	"ServiceUnavailable":          server.with(503),
}

// invented are reasons that Apple does not have yet: their status decides.
var invented = map[string]action{
	"InventedTomorrow": bug.with(422),
	"GoneSomehow":      drop,
	"BusySomehow":      server.with(507),
}

func TestP10_EachReasonHasItsAction(t *testing.T) {
	if known, tested := apns.Reasons(), slices.Sorted(maps.Keys(actions)); !slices.Equal(known, tested) {
		t.Errorf("reasons known\n%v\nand tested\n%v", known, tested)
	}
	a := newApple(t, pushtest.APNsConfig{})
	voip, alert := a.phone(push.KindVoIP), a.phone(push.KindAlert)
	every := maps.Clone(actions)
	maps.Copy(every, invented)
	for reason, want := range every {
		t.Run(reason+"/call", func(t *testing.T) {
			a.acts(t, reason, want, want.again != nobody, ring(voip))
		})
		t.Run(reason+"/note", func(t *testing.T) {
			a.acts(t, reason, want, want.again == both, tell(alert))
		})
	}
}

// acts pushes n to an APNs that gives an answer once, and to one that goes on
// giving it.
func (a *apple) acts(t *testing.T, reason string, want action, again bool, n push.Notification) {
	requests, outcome := 1, want.outcome
	if again {
		requests, outcome = 2, push.Accepted
	}
	once := a.client(a.config())
	a.Inject(pushtest.Fault{Status: want.status, Reason: reason})
	r := a.sends(t, once, n, requests)
	wantOutcome(t, r, outcome)

	always := a.client(a.config())
	a.Inject(pushtest.Fault{Status: want.status, Reason: reason, Count: -1})
	r = a.sends(t, always, n, requests)
	a.ClearFaults()
	wantOutcome(t, r, want.outcome)
	if r.Status != want.status || r.Reason != reason || r.Suspect != want.suspect {
		t.Errorf("result %+v, want status %d, reason %s, suspect %v", r, want.status, reason, want.suspect)
	}
	if r.Retry != want.retry && (want.retry != 5*time.Second || r.Retry > want.retry || r.Retry < 4*time.Second) {
		t.Errorf("retry %v, want %v", r.Retry, want.retry)
	}
	if ok, last := always.Health(); ok != want.quiet || !ok && !strings.HasPrefix(last, reason) {
		t.Errorf("health %v %q, want %v", ok, last, want.quiet)
	}
}

// sends counts what a push costs: each attempt has a connection of its own.
func (a *apple) sends(t *testing.T, c *apns.Client, n push.Notification, requests int) push.Result {
	t.Helper()
	seen, conns := len(a.Pushes()), a.Stats().Connections
	n.ID = newID()
	r := c.Send(callContext(t), n)
	if got := len(a.Pushes()) - seen; got != requests {
		t.Errorf("%d requests, want %d", got, requests)
	}
	if got := a.Stats().Connections - conns; got != requests {
		t.Errorf("%d connections, want %d", got, requests)
	}
	return r
}

// A note that was not sent because of an earlier answer costs Apple nothing,
// and waits until one is let through.
func TestP10_WhatTheBreakerHoldsBackMayBeSentLater(t *testing.T) {
	inBubble(t, pushtest.APNsConfig{}, func(t *testing.T, a *apple, l *pushtest.Listener) {
		cfg := a.config()
		cfg.Dial = l.Dial
		c := a.client(cfg)
		alert := a.phone(push.KindAlert)
		a.Inject(pushtest.Fault{Status: 403, Reason: "InvalidProviderToken"})
		wantOutcome(t, c.Send(t.Context(), tell(alert)), push.ProviderDown)
		time.Sleep(2 * time.Second)
		r := c.Send(t.Context(), tell(alert))
		wantOutcome(t, r, push.ProviderDown)
		if r.Retry != 3*time.Second || r.Status != 0 {
			t.Errorf("held back with %+v", r)
		}
		time.Sleep(r.Retry)
		wantOutcome(t, c.Send(t.Context(), tell(alert)), push.Accepted)
	})
}

// Two environments, and an app that has builds for both.
func TestP10_BadDeviceTokenIsTriedInTheOtherEnvironmentOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lp, ls := pushtest.NewListener(), pushtest.NewListener()
		production := newAppleOn(t, pushtest.APNsConfig{}, lp)
		sandbox := newAppleOn(t, pushtest.APNsConfig{Environment: pushtest.Sandbox}, ls)
		c := production.inBothEnvironments(sandbox, lp, ls)
		// A development build whose client said apns for apns.dev.
		astray := sandbox.phone(push.KindVoIP)
		r := c.Send(callContext(t), ring(astray))
		wantOutcome(t, r, push.Refused)
		if !r.Suspect || len(sandbox.Pushes()) != 0 {
			t.Errorf("an app that is not known to have dev builds: %+v, %d pushes to the sandbox", r, len(sandbox.Pushes()))
		}

		dev := sandbox.phone(push.KindVoIP)
		dev.Sandbox = true
		wantOutcome(t, c.Send(callContext(t), ring(dev)), push.Accepted)
		wantOutcome(t, c.Send(callContext(t), ring(astray)), push.Accepted)
		wantOutcome(t, c.Send(callContext(t), ring(astray)), push.Accepted)
		if p, s := len(production.Pushes()), len(sandbox.Pushes()); p != 2 || s != 3 {
			t.Errorf("%d pushes to production and %d to the sandbox, want 2 and 3: the token's place is remembered", p, s)
		}

		sandbox.Unregister(astray.Value, time.Now().Add(-time.Hour))
		wantOutcome(t, c.Send(callContext(t), ring(astray)), push.DeadToken)
		nowhere := push.Token{Value: pushtest.NewToken()}
		for range 2 {
			r = c.Send(callContext(t), ring(nowhere))
			wantOutcome(t, r, push.Refused)
			if !r.Suspect {
				t.Errorf("a token that nobody knows: %+v", r)
			}
		}
		if ok, last := c.Health(); !ok {
			t.Errorf("health: %s", last)
		}
	})
}

func TestP10_CredentialErrorStopsFurtherPushes(t *testing.T) {
	a := newApple(t, pushtest.APNsConfig{})
	c := a.client(a.config())
	phone := a.phone(push.KindVoIP)
	a.Inject(pushtest.Fault{Status: 403, Reason: "InvalidProviderToken", Count: 100})
	for range 20 {
		wantOutcome(t, c.Send(callContext(t), ring(phone)), push.ProviderDown)
	}
	if n := len(a.Pushes()); n != 1 {
		t.Errorf("%d requests with refused credentials, want 1", n)
	}
}

func TestP10_NoteIsNotResentOn503(t *testing.T) {
	a := newApple(t, pushtest.APNsConfig{})
	c := a.client(a.config())
	a.Inject(pushtest.Fault{Status: 503, Reason: "ServiceUnavailable"})
	wantOutcome(t, c.Send(t.Context(), tell(a.phone(push.KindAlert))), push.ProviderDown)
	if n := len(a.Pushes()); n != 1 {
		t.Errorf("%d requests, want 1: Apple asks for a quarter of an hour", n)
	}
}

func TestP10_PageOfAProxyKeepsItsStatus(t *testing.T) {
	a := newApple(t, pushtest.APNsConfig{})
	c := a.client(a.config())
	phone := a.phone(push.KindVoIP)
	a.Inject(pushtest.Fault{HTML: true, Count: 2})
	r := c.Send(callContext(t), ring(phone))
	if r.Outcome != push.ProviderDown || r.Status != http.StatusBadGateway || r.Reason != "HTTP status 502" {
		t.Errorf("got %+v", r)
	}
	a.Inject(pushtest.Fault{Reset: true})
	wantOutcome(t, c.Send(callContext(t), ring(phone)), push.Accepted)
}
