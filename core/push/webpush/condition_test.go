package webpush_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"sallyport/core/push"
	"sallyport/core/push/pushtest"
)

func facts(all []push.Fact) map[string]string {
	out := map[string]string{}
	for _, f := range all {
		out[f.Name] = f.Value
	}
	return out
}

// What `sallyport push test` shows: where a token leads and how that fares, and
// nothing secret.
func TestExplainSaysHowAPushWouldTravel(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		s, e := w.service("push.example", pushtest.WebPushConfig{}), w.egress()
		cfg := e.config()
		cfg.NoProxy = []string{"near.example"}
		c := w.client(cfg, nil, nil)
		token := s.subscribe(c.VAPID())
		want := func(name, value string, all map[string]string) {
			t.Helper()
			if !strings.Contains(all[name], value) || all[name] == "" {
				t.Errorf("%s is %q, want %q", name, all[name], value)
			}
		}
		got := facts(c.Explain(token, push.Message))
		want("origin", "https://push.example", got)
		want("vapid", c.VAPID(), got)
		want("content", "encrypted for the device", got)
		want("proxy", "http://"+egressAddr, got)
		want("connections", "0", got)
		want("breaker", "shut", got)
		if _, ok := got["credential_age"]; ok {
			t.Error("a credential that was never shown has an age")
		}

		wantOutcome(t, c.Send(t.Context(), tell(token)), push.Accepted)
		time.Sleep(time.Minute)
		got = facts(c.Explain(token, push.Message))
		want("connections", "1", got)
		want("credential_age", "1m0s", got)
		want("credential_issued", "2000-01-01T00:00:00Z", got)
		if n := c.Condition().Connections; n != 1 {
			t.Errorf("%d connections", n)
		}

		s.Inject(pushtest.Fault{Drop: true, Count: 2})
		if r := c.Send(t.Context(), tell(token)); r.Outcome != push.ProviderDown {
			t.Errorf("%+v", r)
		}
		want("breaker", "open for all but calls: push.example: no answer in time", facts(c.Explain(token, push.Message)))
		want("content", "none", facts(c.Explain(push.Token{Value: "https://push.example/x"}, push.VoIP)))
		want("proxy", "none", facts(c.Explain(push.Token{Value: "https://near.example/x"}, push.VoIP)))
		want("origin", "none: 10.0.0.1 is at 10.0.0.1, an address that is private", facts(c.Explain(push.Token{Value: "https://10.0.0.1/x"}, push.VoIP)))

		for _, f := range c.Explain(token, push.VoIP) {
			for _, secret := range []string{token.Value, token.Auth, token.Key, "secret"} {
				if strings.Contains(fmt.Sprint(f), secret) {
					t.Errorf("fact %s shows a secret", f.Name)
				}
			}
		}
	})
}
