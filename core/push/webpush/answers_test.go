package webpush_test

import (
	"bytes"
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"sallyport/core/push"
	"sallyport/core/push/pushtest"
	"sallyport/core/push/webpush"
)

// Each answer of a push service has its action, and only those that name the
// subscription end it.
func TestEachAnswerHasItsAction(t *testing.T) {
	for name, c := range map[string]struct {
		fault   pushtest.Fault
		want    push.Outcome
		retry   time.Duration
		suspect bool
		reason  string
	}{
		"accepted":              {pushtest.Fault{}, push.Accepted, 0, false, ""},
		"200, by other servers": {pushtest.Fault{Status: 200}, push.Accepted, 0, false, ""},
		"202, for receipts":     {pushtest.Fault{Status: 202}, push.Accepted, 0, false, ""},
		"no such subscription":  {pushtest.Fault{Status: 404}, push.DeadToken, 0, false, "no such subscription"},
		"gone":                  {pushtest.Fault{Status: 410}, push.DeadToken, 0, false, "gone"},
		"bad request":           {pushtest.Fault{Status: 400}, push.Refused, 0, false, "refuses the push"},
		"unauthorized":          {pushtest.Fault{Status: 401}, push.Refused, 0, true, "VAPID key"},
		"another's key":         {pushtest.Fault{Status: 403}, push.Refused, 0, true, "VAPID key"},
		"too large":             {pushtest.Fault{Status: 413}, push.Refused, 0, false, "too large"},
		"too many":              {pushtest.Fault{Status: 429, RetryAfter: 7}, push.Refused, 7 * time.Second, false, "too many"},
		"too many, no time":     {pushtest.Fault{Status: 429}, push.Refused, time.Minute, false, "too many"},
		"error":                 {pushtest.Fault{Status: 500}, push.ProviderDown, 30 * time.Second, false, "fails"},
		"overload":              {pushtest.Fault{Status: 503, RetryAfter: 120}, push.ProviderDown, 2 * time.Minute, false, "fails"},
		"a page of a proxy's":   {pushtest.Fault{HTML: true}, push.ProviderDown, 30 * time.Second, false, "fails"},
		"gone, but come again":  {pushtest.Fault{Status: 410, RetryAfter: 7}, push.DeadToken, 0, false, "gone"},
		"a status of its own":   {pushtest.Fault{Status: 599}, push.ProviderDown, 30 * time.Second, false, "fails"},
		"cut off in the middle": {pushtest.Fault{Status: 201, Reset: true}, push.Accepted, 0, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				s, client := w.one(pushtest.WebPushConfig{})
				token := s.subscribe(client.VAPID())
				if c.fault != (pushtest.Fault{}) {
					s.Inject(c.fault)
				}
				r := client.Send(t.Context(), tell(token))
				if r.Outcome != c.want || r.Retry != c.retry || r.Suspect != c.suspect || !strings.Contains(r.Reason, c.reason) {
					t.Errorf("%+v, want %s, again in %v, suspect %v, %q", r, c.want, c.retry, c.suspect, c.reason)
				}
				if n := len(s.Pushes()); n != 1 {
					t.Errorf("%d requests, want 1: what was answered is not sent again", n)
				}
				if ok, last := client.Health(); !ok {
					t.Errorf("one answer makes the app unwell: %s", last)
				}
				wantOutcome(t, client.Send(t.Context(), tell(s.subscribe(client.VAPID()))), push.Accepted)
				s.clean()
			})
		})
	}
}

// A push service that sends us on is not followed, wherever it points, and what
// it says is not read.
func TestP31_RedirectsAreNotFollowed(t *testing.T) {
	for _, to := range []string{"https://169.254.169.254/latest/", "https://other.example/x", "/push/elsewhere", "http://10.0.0.1/"} {
		inWorld(t, func(t *testing.T, w *world) {
			other := w.service("other.example", pushtest.WebPushConfig{})
			s, c := w.one(pushtest.WebPushConfig{})
			token := s.subscribe(c.VAPID())
			for _, status := range []int{301, 302, 303, 307, 308} {
				s.Inject(pushtest.Fault{Status: status, Location: to})
				r := c.Send(t.Context(), ring(token))
				if r.Outcome != push.Refused || r.Status != status || !strings.Contains(r.Reason, "redirects are not followed") {
					t.Errorf("%d to %s: %+v", status, to, r)
				}
			}
			opened, _ := other.Connections()
			if n := len(s.Pushes()); n != 5 || opened != 0 {
				t.Errorf("%d requests where the token led, %d connections elsewhere; want 5 and none", n, opened)
			}
		})
	}
}

// Subscriptions of another key are each one's own trouble; once several are
// refused it is ours: an alarm, and no pushes but one now and then to see.
// Nothing is called dead, other push services go on, and the right key in the
// file makes it all good.
func TestARefusedKeyIsAnAlarmAndDeletesNothing(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		other := w.service("other.example", pushtest.WebPushConfig{})
		s := w.service("push.example", pushtest.WebPushConfig{})
		cfg := w.config()
		right, err := os.ReadFile(cfg.KeyFile)
		if err != nil {
			t.Fatal(err)
		}
		wrong, _, err := webpush.GenerateKey()
		if err != nil {
			t.Fatal(err)
		}
		public, err := webpush.PublicKey(cfg.KeyFile)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(cfg.KeyFile, wrong, 0o600); err != nil {
			t.Fatal(err)
		}
		c := w.client(cfg, nil, nil)
		tokens := []push.Token{s.subscribe(public), s.subscribe(public), s.subscribe(public), s.subscribe(public)}
		for i := range 5 { // one token is no alarm, however often
			if r := c.Send(t.Context(), tell(tokens[0])); r.Outcome != push.Refused || !r.Suspect || r.Status != 403 {
				t.Fatalf("push %d: %+v", i, r)
			}
		}
		if ok, last := c.Health(); !ok {
			t.Errorf("one subscription of another key is an alarm: %s", last)
		}
		for _, token := range tokens[1:] {
			c.Send(t.Context(), tell(token))
		}
		ok, last := c.Health()
		if ok || !strings.Contains(last, "https://push.example refuses our VAPID key (403)") || !strings.Contains(last, "was vapid_key replaced?") {
			t.Errorf("health: %v, %q", ok, last)
		}
		before := len(s.Pushes())
		for range 10 {
			if r := c.Send(t.Context(), tell(tokens[0])); r.Outcome != push.ProviderDown || r.Suspect {
				t.Errorf("while the key is known to be wrong: %+v", r)
			}
		}
		if n := len(s.Pushes()); n != before {
			t.Errorf("%d pushes were sent all the same", n-before)
		}
		if r := c.Send(t.Context(), ring(tokens[0])); r.Outcome != push.Refused || r.Status != 403 {
			t.Errorf("a call, which cannot come again later: %+v", r)
		}
		wantOutcome(t, c.Send(t.Context(), ring(other.subscribe(c.VAPID()))), push.Accepted)

		time.Sleep(6 * time.Second) // one may try
		if r := c.Send(t.Context(), tell(tokens[1])); r.Status != 403 {
			t.Errorf("the one that tries: %+v", r)
		}
		if r := c.Send(t.Context(), tell(tokens[1])); r.Status != 0 || r.Outcome != push.ProviderDown {
			t.Errorf("the one after it: %+v", r)
		}
		if err := os.WriteFile(cfg.KeyFile, right, 0o600); err != nil {
			t.Fatal(err)
		}
		time.Sleep(6 * time.Second)
		for _, token := range tokens {
			wantOutcome(t, c.Send(t.Context(), ring(token)), push.Accepted)
		}
		if ok, last := c.Health(); !ok || c.VAPID() != public {
			t.Errorf("with the right key: %s, %s", last, c.VAPID())
		}
	})
}

// A key file that is broken while we run is an alarm, and the key stays in use.
func TestABrokenKeyFileKeepsTheKey(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		s := w.service("push.example", pushtest.WebPushConfig{})
		cfg := w.config()
		c := w.client(cfg, nil, nil)
		token, text := s.subscribe(c.VAPID()), must(os.ReadFile(cfg.KeyFile))(t)
		if err := os.WriteFile(cfg.KeyFile, []byte("oops"), 0o600); err != nil {
			t.Fatal(err)
		}
		time.Sleep(6 * time.Second)
		if ok, last := c.Health(); ok || !strings.Contains(last, "vapid_key: "+cfg.KeyFile) {
			t.Errorf("health %v, %q", ok, last)
		}
		wantOutcome(t, c.Send(t.Context(), ring(token)), push.Accepted)
		if err := os.WriteFile(cfg.KeyFile, text, 0o600); err != nil {
			t.Fatal(err)
		}
		time.Sleep(6 * time.Second)
		if ok, last := c.Health(); !ok {
			t.Errorf("after the repair: %s", last)
		}
	})
}

func must[T any](v T, err error) func(t *testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// P28 for Web Push: neither the URL, which is the secret of a subscription, nor
// keys nor what was said are in the log, whatever goes wrong.
func TestP28_LogNamesNoSubscription(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		var l logs
		s := w.service("push.example", pushtest.WebPushConfig{})
		c := w.client(w.config(), l.logger(), nil)
		svc := push.New(push.Config{Enabled: true}, []push.App{{ID: app, Provider: push.ProviderWebPush, Sender: c}}, l.logger(), nil)
		token := s.subscribe(c.VAPID())
		bad := token
		bad.Key = strings.Repeat("Q", 87)
		call := push.Call{CallID: "c1", To: "sip:bob@example.com", FromName: "Carol Hush", RingUntil: time.Now().Add(13 * time.Second)}
		outside := push.Token{Provider: push.ProviderWebPush, Value: "https://push.example:444" + token.Value[len("https://push.example"):]}
		inside := push.Token{Provider: push.ProviderWebPush, Value: "https://10.0.0.1" + token.Value[len("https://push.example"):]}
		for _, status := range []int{0, 403, 410, 500, 307} {
			if status != 0 {
				s.Inject(pushtest.Fault{Status: status, Count: 2})
			}
			for _, t := range []push.Token{token, bad, outside, inside} {
				svc.Call(w.ctx, push.Target{Tokens: []push.Token{t}}, call)
			}
		}
		gone, cancel := context.WithCancel(w.ctx)
		cancel()
		svc.Call(gone, push.Target{Tokens: []push.Token{token}}, call)
		text := l.String()
		path := token.Value[strings.LastIndex(token.Value, "/")+1:]
		for what, secret := range map[string]string{"the URL": path, "the key": token.Key, "the secret": token.Auth, "the caller": "Carol", "a key that is none": bad.Key} {
			if strings.Contains(text, secret) {
				t.Errorf("the log holds %s", what)
			}
		}
		if !strings.Contains(text, "push without content") || bytes.Count([]byte(text), []byte("outcome=")) < 21 {
			t.Errorf("the log is too short:\n%s", text)
		}
	})
}
