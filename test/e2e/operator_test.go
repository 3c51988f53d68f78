package e2e

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sallyport/core/admin"
	corepush "sallyport/core/push"
	"sallyport/core/push/pushtest"
	"sallyport/core/trace"
	"sallyport/test/phone"
)

// keys are the names in a JSON object, sorted.
func keys(object any) []string {
	m, _ := object.(map[string]any)
	return slices.Sorted(maps.Keys(m))
}

func (s *scene) shape(what string, object any, want string) {
	s.t.Helper()
	if diff := cmp.Diff(strings.Fields(want), keys(object)); diff != "" {
		s.t.Errorf("%s: %s", what, diff)
	}
}

func TestTheStatusOfTheCore(t *testing.T) {
	at(t, PBXDomain, Config{}, func(s *scene) {
		s.online("bob")
		var raw map[string]any
		s.get("/api/v1/status", &raw)
		s.shape("status", raw, "domains push ready started store tunnels uptime version warnings")
		var st admin.Status
		s.get("/api/v1/status", &st)
		if len(st.Tunnels) != 1 || !st.Tunnels[0].Up || st.Tunnels[0].Flows != 1 || !st.Ready {
			s.t.Errorf("tunnels %+v, ready %v", st.Tunnels, st.Ready)
		}
		want := []admin.Domain{
			{Name: PBXDomain, Upstream: "sip:" + s.PBXSIP + ";transport=tcp", OK: true,
				Servers: []admin.Server{{Server: "tcp:" + s.PBXSIP, OK: true}}},
			{Name: Domain, OK: true},
		}
		for _, d := range st.Domains {
			for i, server := range d.Servers {
				if server.Since == nil {
					s.t.Errorf("nobody knows since when %s is reachable", server.Server)
				}
				d.Servers[i].Since = nil // a moment of no interest
			}
		}
		if diff := cmp.Diff(want, st.Domains); diff != "" {
			s.t.Errorf("domains: %s", diff)
		}
		wantPush := admin.Push{Enabled: true, Apps: []admin.App{{ID: App, Provider: "apns", OK: true}}}
		if diff := cmp.Diff(wantPush, st.Push); diff != "" {
			s.t.Errorf("push: %s", diff)
		}
		if !st.Store.OK || st.Store.Kind != "embedded" || len(st.Warnings) != 0 {
			s.t.Errorf("store %+v, warnings %q", st.Store, st.Warnings)
		}
	})
}

func TestTheClientsOfTheCore(t *testing.T) {
	everywhere(t, Config{}, func(s *scene) {
		alice, bob := s.caller("alice"), s.online("bob")
		var raw []any
		s.get("/api/v1/clients?aor=bob@"+s.domain, &raw)
		if len(raw) != 1 {
			s.t.Fatalf("%d clients, want bob: %v", len(raw), raw)
		}
		object := raw[0].(map[string]any)
		s.shape("client", object, "aor expires flow held instance last_wake state tokens")
		s.shape("flow", object["flow"], "edge id remote since transport")
		s.shape("token", object["tokens"].([]any)[0], "app encrypts kind last_error last_error_at last_ok note_miss note_ok provider registered state token wake_miss wake_ok")

		c, _ := s.client(bob)
		if c.State != "foreground" || c.Flow.Transport != string(s.transport) || c.Flow.Edge != "127.0.0.1" || c.Expires == nil || c.LastWake != nil {
			s.t.Errorf("awake: %+v, flow %+v", c, c.Flow)
		}
		tokens := []admin.Token{
			{Kind: "voip", Provider: "apns", App: App, State: "live", Token: corepush.Redact(Token("bob", "voip"))},
			{Kind: "alert", Provider: "apns", App: App, State: "live", Token: corepush.Redact(Token("bob", "alert"))},
		}
		for i := range c.Tokens {
			if r := c.Tokens[i].Registered; r == nil || time.Since(*r) > time.Minute {
				s.t.Errorf("token registered at %v", r)
			}
			c.Tokens[i].Registered = nil
		}
		if diff := cmp.Diff(tokens, c.Tokens); diff != "" {
			s.t.Errorf("tokens: %s", diff)
		}
		s.sleeps(bob)
		if c, _ := s.client(bob); c.State != "suspended" || c.Flow != nil {
			s.t.Errorf("asleep: %+v, flow %+v", c, c.Flow)
		}
		call := s.call(alice, "bob")
		s.until("bob is waking", func() bool { c, _ := s.client(bob); return c.State == "waking" })
		s.registers(bob, "bob")
		s.talks(bob, call)
		if c, _ := s.client(bob); c.LastWake == nil || time.Since(*c.LastWake) > time.Minute {
			s.t.Errorf("woken: %+v", c)
		}
	})
}

// traced is the newest trace of a user, once its call is over.
func (s *scene) traced(user string) (tr trace.Trace, steps []string) {
	s.t.Helper()
	s.until("the trace ends", func() bool {
		var all []trace.Trace
		s.get("/api/v1/traces?aor="+user+"@"+s.domain, &all)
		if len(all) > 0 {
			tr = all[0]
		}
		return tr.Outcome != ""
	})
	for _, step := range tr.Steps {
		steps = append(steps, step.Step)
	}
	if !slices.IsSortedFunc(tr.Steps, func(a, b trace.Step) int { return a.At.Compare(b.At) }) {
		s.t.Errorf("steps out of order: %+v", tr.Steps)
	}
	return tr, steps
}

func TestB24TheTraceOfAWokenCall(t *testing.T) {
	everywhere(t, Config{}, func(s *scene) {
		alice, bob := s.caller("alice"), s.asleep("bob")
		call := s.call(alice, "bob")
		s.pushed(1)
		s.until("Apple's answer is known", func() bool { return strings.Contains(string(s.http("GET", "/api/v1/traces", nil)), "push_accepted") })
		s.registers(bob, "bob")
		s.talks(bob, call)
		tr, steps := s.traced("bob")
		want := strings.Fields("invite state push_sent push_accepted registered invite_out ringing answered")
		if diff := cmp.Diff(want, steps); diff != "" {
			s.t.Errorf("steps: %s", diff)
		}
		if tr.CallID != call.CallID() || tr.AOR != s.uri("bob") || tr.From != s.uri("alice") ||
			tr.State != "suspended" || tr.Outcome != "answered" || tr.FailedStep != "" {
			s.t.Errorf("trace %+v", tr)
		}
		var raw []any
		s.get("/api/v1/traces?aor=bob@"+s.domain, &raw)
		s.shape("trace", raw[0], "aor call_id failed_step from outcome started state steps")
	})
}

func TestB24TheTraceOfACallThatDidNotRingNamesTheStep(t *testing.T) {
	stories := map[string]func(s *scene, alice *phone.Phone){
		"window_over": func(s *scene, alice *phone.Phone) { s.asleep("bob") },
		"push_refused": func(s *scene, alice *phone.Phone) {
			s.asleep("bob")
			s.APNs.Inject(pushtest.Fault{Count: 100, Status: 503, Reason: "ServiceUnavailable"})
		},
		"refused": func(s *scene, alice *phone.Phone) {
			bob := s.new("bob")
			s.registersAs(bob, phone.Registration{RegID: 1})
			s.sleeps(bob)
			s.until("bob is gone", func() bool { c, _ := s.client(bob); return c.State == "gone" })
		},
	}
	for failed, prepare := range stories {
		t.Run(failed, func(t *testing.T) {
			cfg := window(4 * time.Second)
			cfg.Core = both(cfg.Core, grace(10*time.Millisecond).Core)
			at(t, Domain, cfg, func(s *scene) {
				alice := s.caller("alice")
				prepare(s, alice)
				s.ends(s.call(alice, "bob"), 480)
				if tr, steps := s.traced("bob"); tr.FailedStep != failed || tr.Outcome == "answered" {
					s.t.Errorf("failed_step %q (%s) after %v, want %s", tr.FailedStep, tr.Outcome, steps, failed)
				}
			})
		})
	}
}

func both[C any](a, b func(*C)) func(*C) { return func(c *C) { a(c); b(c) } }

func TestATestPush(t *testing.T) {
	at(t, Domain, Config{}, func(s *scene) {
		s.asleep("bob")
		var answer admin.PushTestAnswer
		s.post("/api/v1/push/test", admin.PushTestRequest{AOR: "bob@" + s.domain}, &answer)
		if p := s.pushed(1); p.Channel != "message" || p.Token != Token("bob", "alert") {
			s.t.Errorf("pushed %+v", p)
		}
		var raw map[string]any
		s.post("/api/v1/push/test", admin.PushTestRequest{AOR: s.uri("bob")}, &raw)
		s.shape("result", raw["results"].([]any)[0], "app channel class id instance meaning outcome provider reason state status ways")
		if r := answer.Results[0]; r.Outcome != "accepted" || r.Channel != "message" || r.Provider != "apns" || r.App != App || r.Status != 200 || r.ID == "" {
			s.t.Errorf("result %+v", r)
		}

		s.APNs.Unregister(Token("bob", "alert"), time.Now())
		s.post("/api/v1/push/test", admin.PushTestRequest{AOR: s.uri("bob")}, &answer)
		if r := answer.Results[0]; r.Outcome != "dead_token" {
			s.t.Errorf("result %+v, want a dead token", r)
		}
		var clients []admin.Client
		s.get("/api/v1/clients?aor="+s.uri("bob"), &clients)
		if tokens, err := json.Marshal(clients[0].Tokens); err != nil || clients[0].Tokens[1].State != "dead" {
			s.t.Errorf("tokens %s: what a test finds out is kept (B19)", tokens)
		}
	})
}
