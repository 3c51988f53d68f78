package fcm_test

import (
	"strings"
	"testing"
	"time"

	"sallyport/core/push"
	"sallyport/core/push/pushtest"
)

// action is what must follow from an answer.
type action struct {
	outcome push.Outcome
	suspect bool
	retry   time.Duration // of a note
	healthy bool
	stops   bool // the breaker opens: nothing leaves for a while
}

var (
	lost     = action{outcome: push.DeadToken, healthy: true}
	doubtful = action{outcome: push.Refused, suspect: true, healthy: true}
	slowDown = action{outcome: push.Refused, retry: time.Minute, healthy: true}
	trouble  = action{outcome: push.ProviderDown, retry: 10 * time.Second}
	elsewhat = action{outcome: push.ProviderDown, retry: 5 * time.Minute}
	wrong    = action{outcome: push.ProviderDown, retry: 5 * time.Minute, stops: true}
	revoked  = action{outcome: push.ProviderDown, retry: 10 * time.Second, stops: true}
	misused  = action{outcome: push.Refused}
)

func (a action) after(d time.Duration) action { a.retry = d; return a }

// answers are all of Google's, and those of what stands between.
var answers = map[string]struct {
	fault pushtest.Fault
	action
	remedy string // a part of it
}{
	"UNREGISTERED":           {fault: pushtest.Fault{Status: 404, Reason: "UNREGISTERED"}, action: lost},
	"SENDER_ID_MISMATCH":     {fault: pushtest.Fault{Status: 403, Reason: "SENDER_ID_MISMATCH"}, action: doubtful},
	"QUOTA_EXCEEDED":         {fault: pushtest.Fault{Status: 429, Reason: "QUOTA_EXCEEDED"}, action: slowDown},
	"429 for 90 s":           {fault: pushtest.Fault{Status: 429, Reason: "QUOTA_EXCEEDED", RetryAfter: 90}, action: slowDown.after(90 * time.Second)},
	"429 for 1 s":            {fault: pushtest.Fault{Status: 429, RetryAfter: 1}, action: slowDown.after(10 * time.Second)},
	"429 of a proxy":         {fault: pushtest.Fault{Status: 429, HTML: true}, action: slowDown},
	"INTERNAL":               {fault: pushtest.Fault{Status: 500, Reason: "INTERNAL"}, action: trouble},
	"UNAVAILABLE":            {fault: pushtest.Fault{Status: 503, Reason: "UNAVAILABLE"}, action: trouble},
	"503 for 1 s":            {fault: pushtest.Fault{Status: 503, Reason: "UNAVAILABLE", RetryAfter: 1}, action: trouble},
	"503 for an hour":        {fault: pushtest.Fault{Status: 503, RetryAfter: 3600}, action: trouble.after(time.Hour)},
	"502 of a proxy":         {fault: pushtest.Fault{HTML: true}, action: trouble},
	"504 without words":      {fault: pushtest.Fault{Status: 504}, action: trouble},
	"THIRD_PARTY_AUTH_ERROR": {fault: pushtest.Fault{Status: 401, Reason: "THIRD_PARTY_AUTH_ERROR"}, action: elsewhat, remedy: "give Firebase a valid APNs"},
	"UNAUTHENTICATED":        {fault: pushtest.Fault{Status: 401}, action: revoked, remedy: "is the service account's key still valid?"},
	"PERMISSION_DENIED":      {fault: pushtest.Fault{Status: 403}, action: wrong, remedy: "give the service account the role"},
	"403 of a proxy":         {fault: pushtest.Fault{Status: 403, HTML: true}, action: wrong, remedy: "does the service account belong"},
	"NOT_FOUND":              {fault: pushtest.Fault{Status: 404}, action: wrong, remedy: "is project the id"},
	"404 with a page":        {fault: pushtest.Fault{Status: 404, HTML: true}, action: wrong, remedy: "are project and endpoint right?"},
	"a redirection":          {fault: pushtest.Fault{Status: 302, HTML: true}, action: wrong},
	"200 with a page":        {fault: pushtest.Fault{Status: 203, HTML: true}, action: wrong},
	"405":                    {fault: pushtest.Fault{Status: 405, HTML: true}, action: misused},
	"a code of tomorrow":     {fault: pushtest.Fault{Status: 409, Reason: "INVENTED_TOMORROW"}, action: misused},
}

func TestEachAnswerHasItsAction(t *testing.T) {
	g := newGoogle(t, pushtest.FCMConfig{})
	for name, want := range answers {
		t.Run(name, func(t *testing.T) {
			for _, n := range []push.Notification{ring(g.phone()), tell(g.phone())} {
				g.ClearFaults()
				c := g.client(g.config())
				seen := len(g.Pushes())
				g.Inject(want.fault)
				r := c.Send(t.Context(), n)
				if r.Outcome != want.outcome || r.Suspect != want.suspect || r.Retry != want.retry || r.Status == 0 || r.Reason == "" {
					t.Errorf("%+v, want %+v", r, want.action)
				}
				ok, last := c.Health()
				if ok != want.healthy || !strings.Contains(last, want.remedy) || !ok && !strings.HasPrefix(last, r.Reason) {
					t.Errorf("health %v %q", ok, last)
				}
				r = c.Send(t.Context(), n)
				if sent := len(g.Pushes()) - seen; want.stops != (sent == 1) || want.stops != (r.Outcome == push.ProviderDown) {
					t.Errorf("then %+v, %d requests in all", r, sent)
				}
			}
		})
	}
}

func TestP20_InvalidArgumentNeverDeletesAndUnregisteredDoes(t *testing.T) {
	inBubble(t, pushtest.FCMConfig{}, func(t *testing.T, g *google) {
		c := g.client(g.config())
		bad := push.Token{Provider: push.ProviderFCM, Value: "nonsense"} // which FCM calls no token at all
		r := c.Send(callContext(t), ring(bad))
		if r.Outcome != push.Refused || r.Suspect || r.Reason != "INVALID_ARGUMENT" || r.Retry != 0 {
			t.Errorf("a call: %+v", r)
		}
		if r = c.Send(t.Context(), tell(bad)); r.Outcome != push.Refused || !r.Suspect {
			t.Errorf("a note, after FCM was asked about the token alone: %+v", r)
		}
		if ok, last := c.Health(); !ok {
			t.Errorf("one client's token stops the app: %s", last)
		}

		time.Sleep(7 * time.Second)
		good := g.phone()
		g.Inject(pushtest.Fault{Status: 400, Reason: "INVALID_ARGUMENT"})
		if r = c.Send(t.Context(), tell(good)); r.Outcome != push.Refused || r.Suspect {
			t.Errorf("a payload that FCM does not take: %+v", r)
		}
		if ok, last := c.Health(); ok || !strings.Contains(last, "not this payload") {
			t.Errorf("health %v %q, though the payload is at fault", ok, last)
		}
		wantOutcome(t, c.Send(t.Context(), tell(good)), push.Accepted)
		g.Unregister(good.Value)
		wantOutcome(t, c.Send(callContext(t), ring(good)), push.DeadToken)
		wantOutcome(t, c.Send(t.Context(), tell(good)), push.DeadToken)
		if n := len(g.Delivered(good.Value)); n != 1 {
			t.Errorf("%d delivered, want the one that was accepted", n)
		}
		g.clean()
	})
}

// Whoever registers can hand over what is no token, as often as they like.
func TestP20_FCMIsSeldomAskedAboutBadTokens(t *testing.T) {
	inBubble(t, pushtest.FCMConfig{}, func(t *testing.T, g *google) {
		c := g.client(g.config())
		start := time.Now()
		for time.Since(start) < time.Minute {
			r := c.Send(t.Context(), tell(push.Token{Value: "nonsense"}))
			wantOutcome(t, r, push.Refused)
			time.Sleep(100 * time.Millisecond)
		}
		probes := 0
		for _, m := range g.Pushes() {
			if m.ValidateOnly {
				probes++
			}
		}
		if probes == 0 || probes > 11 {
			t.Errorf("%d probes in a minute", probes)
		}
	})
}

// Google's client would send again after 0, 1, 2 and 4 seconds, whatever the
// provider says.
func TestP19_OneCallOneRequestWhateverIsAnswered(t *testing.T) {
	for name, fault := range map[string]pushtest.Fault{
		"503":                 {Status: 503, Reason: "UNAVAILABLE"},
		"503 but delivered":   {Status: 503, Reason: "UNAVAILABLE", Delivered: true},
		"503 for 1 s":         {Status: 503, RetryAfter: 1},
		"503 with a page":     {Status: 503, HTML: true},
		"500":                 {Status: 500},
		"429":                 {Status: 429},
		"429 for 30 s":        {Status: 429, RetryAfter: 30},
		"200 with a page":     {Status: 203, HTML: true},
		"204 without content": {Status: 204},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, pushtest.FCMConfig{}, func(t *testing.T, g *google) {
				c := g.client(g.config())
				g.Inject(fault)
				start := time.Now()
				r := c.Send(callContext(t), ring(g.phone()))
				if r.Outcome == push.Accepted || r.Status == 0 {
					t.Errorf("%+v", r)
				}
				if took := time.Since(start); took != 0 {
					t.Errorf("took %v after the answer", took)
				}
				note := tell(g.phone())
				g.ClearFaults()
				g.Inject(fault)
				time.Sleep(6 * time.Second) // the breaker
				r = c.Send(t.Context(), note)
				time.Sleep(r.Retry)
				wantOutcome(t, c.Send(t.Context(), note), push.Accepted)
				if n := len(g.Pushes()); n != 3 {
					t.Errorf("%d requests, want 3", n)
				}
				g.clean() // with the retry meter
			})
		})
	}
}

// The network fails after FCM has taken the push: nobody knows whether the
// phone rings, and one more attempt is all there may be.
func TestP19_AtMostOneMoreAttemptWhereNothingIsAnswered(t *testing.T) {
	for name, fault := range map[string]pushtest.Fault{
		"broken answers": {Reset: true, Count: 10},
		"no answers":     {Drop: true, Count: 10},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, pushtest.FCMConfig{}, func(t *testing.T, g *google) {
				c := g.client(g.config())
				wantOutcome(t, c.Send(callContext(t), ring(g.phone())), push.Accepted)
				for _, n := range []push.Notification{ring(g.phone()), tell(g.phone())} {
					seen, start := len(g.Pushes()), time.Now()
					g.Inject(fault)
					r := c.Send(t.Context(), n)
					if r.Outcome != push.ProviderDown || r.Retry != 10*time.Second {
						t.Errorf("%+v", r)
					}
					if sent := len(g.Pushes()) - seen; sent != 2 {
						t.Errorf("%d requests, want 2", sent)
					}
					if took := time.Since(start); took > push.CallTimeout && n.Urgent || took > 30*time.Second {
						t.Errorf("took %v", took)
					}
					g.ClearFaults()
				}
			})
		})
	}
}
