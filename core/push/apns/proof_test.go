package apns_test

import (
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"sallyport/core/push"
	"sallyport/core/push/apns"
	"sallyport/core/push/pushtest"
)

// An answer about a token proves the credentials: whoever registers tokens that
// are dead must not keep a breaker open.
func TestADeadTokenShutsTheBreaker(t *testing.T) {
	for _, reason := range []string{"Unregistered", "BadDeviceToken"} {
		inBubble(t, pushtest.APNsConfig{}, func(t *testing.T, a *apple, l *pushtest.Listener) {
			cfg := a.config()
			cfg.Dial = l.Dial
			c := a.client(cfg)
			phone := a.phone(push.KindVoIP)
			a.Inject(pushtest.Fault{Status: 403, Reason: "InvalidProviderToken"})
			wantOutcome(t, c.Send(callContext(t), ring(phone)), push.ProviderDown)
			time.Sleep(5 * time.Second)
			dead := push.Token{Value: pushtest.NewToken()}
			if reason == "Unregistered" {
				dead = a.phone(push.KindVoIP)
				a.Unregister(dead.Value, time.Now().Add(-time.Hour))
			}
			if r := c.Send(callContext(t), ring(dead)); r.Reason != reason {
				t.Fatalf("the one that tries: %+v", r)
			}
			wantOutcome(t, c.Send(callContext(t), ring(phone)), push.Accepted)
		})
	}
}

// A key file that cannot be read stays an alarm while pushes go with the old
// key, is told once, and is well when what it held is back.
func TestP14_AnUnreadableKeyFileIsToldOnceAndUntilItIsRepaired(t *testing.T) {
	inBubble(t, pushtest.APNsConfig{}, func(t *testing.T, a *apple, l *pushtest.Listener) {
		cfg := a.config()
		cfg.Dial = l.Dial
		c, stop := a.running(cfg)
		defer stop()
		text, err := os.ReadFile(cfg.KeyFile)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(cfg.KeyFile, []byte("half a fi"), 0o600); err != nil {
			t.Fatal(err)
		}
		time.Sleep(6 * time.Second)
		wantOutcome(t, c.Send(callContext(t), ring(a.phone(push.KindVoIP))), push.Accepted)
		if ok, _ := c.Health(); ok {
			t.Error("a push with the old key ends the alarm")
		}
		if err := os.WriteFile(cfg.KeyFile, text, 0o600); err != nil {
			t.Fatal(err)
		}
		time.Sleep(6 * time.Second)
		if ok, last := c.Health(); !ok {
			t.Errorf("the file is repaired: %s", last)
		}
	})
}

// What was answered, in whatever words, must not look like no answer: that
// would be sent again.
func TestABodyThatIsNotApplesKeepsTheStatus(t *testing.T) {
	for _, body := range []string{`{"reason":`, `{"reason":"Unregistered","timestamp":"soon"}`, `[]`, `<html>`, ``, `{"reason":5}`} {
		resp := &http.Response{ContentLength: -1, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(body))}
		if err := apns.ReadWhole(resp); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(resp.Body); err != nil || string(got) != "{}" {
			t.Errorf("%s: %s, %v", body, got, err)
		}
	}
}
