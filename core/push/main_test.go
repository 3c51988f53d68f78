package push_test

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"unicode/utf8"

	"go.uber.org/goleak"

	"sallyport/core/push"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	bundle = "org.example.phone"
	team   = "ABCDE12345"
)

// fake is a Sender that keeps what it is given.
type fake struct {
	answer func(push.Notification) push.Result // nil accepts

	mu   sync.Mutex
	sent []push.Notification // guarded by mu
}

func (f *fake) Send(_ context.Context, n push.Notification) push.Result {
	f.mu.Lock()
	f.sent = append(f.sent, n)
	f.mu.Unlock()
	if f.answer != nil {
		return f.answer(n)
	}
	return push.Result{Outcome: push.Accepted, Status: 200}
}

func (f *fake) all() []push.Notification {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]push.Notification(nil), f.sent...)
}

// last returns the newest notification and its payload.
func (f *fake) last(t *testing.T) (push.Notification, map[string]any) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.sent) == 0 {
		t.Fatal("nothing was sent")
	}
	n := f.sent[len(f.sent)-1]
	return n, decode(t, n.Payload)
}

func decode(t *testing.T, payload []byte) map[string]any {
	t.Helper()
	if !utf8.Valid(payload) {
		t.Fatalf("payload is not UTF-8: %q", payload)
	}
	var m map[string]any
	if err := json.Unmarshal(payload, &m); err != nil {
		t.Fatalf("payload is not JSON: %v: %q", err, payload)
	}
	if aps, ok := m["aps"]; ok {
		if _, ok := aps.(map[string]any); !ok {
			t.Fatalf("aps is no object: %q", payload)
		}
	}
	return m
}

// service has an app for each provider at one fake.
func service(f *fake) *push.Service {
	return push.New(push.Config{Enabled: true}, apps(f), nil, nil)
}

func apps(f *fake) []push.App {
	return []push.App{
		{ID: "org.example.other", Provider: push.ProviderAPNs, TeamID: team, Sender: f},
		{ID: bundle, Provider: push.ProviderAPNs, TeamID: team, Sender: f},
		{ID: bundle, Provider: push.ProviderFCM, Project: "example-project", Sender: f},
		{ID: "web", Provider: push.ProviderWebPush, Sender: f},
	}
}

func apnsToken(kind, name string) push.Token {
	return push.Token{
		Provider: push.ProviderAPNs, Kind: kind, App: bundle, Param: team + "." + bundle + ".voip&remote",
		Value: fmt.Sprintf("%x", name+"-token-of-some-length"),
	}
}

func fcmToken(kind string) push.Token {
	return push.Token{Provider: push.ProviderFCM, Kind: kind, Param: "example-project", Value: "fcm-token-of-some-length"}
}

var carol = push.Call{
	CallID: "a84b4c76e66710", FromURI: "sip:carol@example.com", FromName: "Carol", Number: "carol", To: "sip:bob@example.com",
}

func wantOutcome(t *testing.T, r push.Result, want push.Outcome) {
	t.Helper()
	if r.Outcome != want {
		t.Fatalf("outcome %s (%s), want %s", r.Outcome, r.Reason, want)
	}
}
