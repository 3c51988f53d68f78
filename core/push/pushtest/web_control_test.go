package pushtest_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/core/push/pushtest"
)

// steer asks a control API and returns status and body.
func steer(h http.Handler, method, path, body string) (int, string) {
	r := httptest.NewRequest(method, "http://127.0.0.1:2198"+path, strings.NewReader(body))
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/json")
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

func TestWebControlRefusesWhatItCannotDo(t *testing.T) {
	withWebPush(t, pushtest.WebPushConfig{}, func(t *testing.T, a *appServer) {
		fcm := pushtest.NewFCM(pushtest.FCMConfig{})
		for _, tc := range []struct {
			sim  interface{ Control() http.Handler }
			path string
			body string
			want int
			says string
		}{
			{fcm, "/tokens", `{"token":"short"}`, 400, "token:"},
			{fcm, "/tokens", `{"tokn":"x"}`, 400, "tokn"},
			{fcm, "/shown", `{"token":"x","name":"y"}`, 404, "name:"},
			{fcm, "/faults", `{"action":"reboot"}`, 400, "black_hole, clear, disconnect, expire_tokens, goaway, rotate_certificate"},
			{fcm, "/faults", `{"retry_after":-1}`, 400, "retry_after"},
			{fcm, "/faults", `{"status":99}`, 400, "status:"},
			{fcm, "/faults", `{"latency":"fast"}`, 400, "latency:"},
			{fcm, "/faults", `{"after":3}`, 400, "after:"},
			{fcm, "/tokens", `{"token":"` + strings.Repeat("x", 70<<10) + `"}`, 400, "too large"},
			{a.sim, "/subscriptions", `{"key":"AAAA"}`, 400, "application server key"},
			{a.sim, "/subscriptions", `{"endpoint":"https://example.com/push/x","gone":410}`, 404, "endpoint:"},
			{a.sim, "/subscriptions", `{"endpoint":"https://example.com/push/x","offline":true}`, 404, "endpoint:"},
			{a.sim, "/subscriptions", `{"endpoint":"https://example.com/push/x","gone":500}`, 400, "gone:"},
			{a.sim, "/faults", `{"action":"expire_tokens"}`, 400, "black_hole, clear, disconnect, goaway, rotate_certificate"},
		} {
			status, body := steer(tc.sim.Control(), http.MethodPost, tc.path, tc.body)
			if status != tc.want || !strings.Contains(body, tc.says) {
				t.Errorf("POST %s %.60s: %d %s, want %d %s", tc.path, tc.body, status, body, tc.want, tc.says)
			}
		}
		for _, h := range []http.Handler{fcm.Control(), a.sim.Control()} {
			r := httptest.NewRequest(http.MethodGet, "http://rebound.example.com/pushes", nil)
			w := httptest.NewRecorder()
			if h.ServeHTTP(w, r); w.Code != http.StatusForbidden {
				t.Errorf("Host of a web page: %d", w.Code)
			}
			r = httptest.NewRequest(http.MethodPost, "http://127.0.0.1/faults", strings.NewReader(`{"status":500}`))
			w = httptest.NewRecorder()
			if h.ServeHTTP(w, r); w.Code != http.StatusUnsupportedMediaType {
				t.Errorf("a web page's form: %d", w.Code)
			}
		}
	})
}

func TestFCMControl(t *testing.T) {
	withFCM(t, pushtest.FCMConfig{}, func(t *testing.T, p *sender) {
		h := p.sim.Control()
		post := func(path, body string) {
			t.Helper()
			if status, text := steer(h, http.MethodPost, path, body); status != http.StatusNoContent {
				t.Errorf("POST %s %s: %d %s", path, body, status, text)
			}
		}
		phone := pushtest.NewFCMToken()
		post("/tokens", fmt.Sprintf(`{"token":%q,"doze":true}`, phone))
		post("/faults", `{"status":503,"retry_after":30,"delivered":true}`)
		if a := p.send(call(phone)); a.status != 503 || a.header.Get("Retry-After") != "30" {
			t.Errorf("%+v", a)
		}
		post("/faults", `{"oauth":true,"status":500,"reason":"internal_failure"}`)
		if _, fault := p.grant(jwtBearer, p.assertion(nil)); fault != "internal_failure" {
			t.Errorf("token endpoint: %q", fault)
		}
		post("/faults", `{"action":"disconnect","after":1}`)
		p.send(call(phone, "call", "a secret"))
		time.Sleep(time.Second)
		synctest.Wait()
		if opened, open := p.sim.Connections(); opened != 1 || open != 0 {
			t.Errorf("%d opened, %d open after the accepted push", opened, open)
		}
		post("/faults", `{"action":"expire_tokens"}`)
		if a := p.send(call(phone)); a.status != http.StatusUnauthorized {
			t.Errorf("%+v", a)
		}
		post("/shown", fmt.Sprintf(`{"token":%q,"name":%q}`, phone, p.sim.Accepted()[0].Name))

		_, pushes := steer(h, http.MethodGet, "/pushes", "")
		_, got := steer(h, http.MethodGet, "/deliveries?token="+url.QueryEscape(phone), "")
		for what, text := range map[string]string{"pushes": pushes, "deliveries": got} {
			if strings.Contains(text, phone) || strings.Contains(text, "a secret") || !strings.Contains(text, phone[len(phone)-6:]) {
				t.Errorf("%s shown as %s", what, text)
			}
		}
		if n := strings.Count(pushes, `"status"`); n != 3 || strings.Count(got, `"status"`) != 2 {
			t.Errorf("pushes %s\ndeliveries %s", pushes, got)
		}
		_, stats := steer(h, http.MethodGet, "/stats", "")
		if stats != `{"connections":2,"open":1,"token_requests":1}`+"\n" {
			t.Errorf("stats %s", stats)
		}
		if _, violations := steer(h, http.MethodGet, "/violations", ""); violations != "[]\n" {
			t.Errorf("violations %s", violations)
		}
	})
}

func TestWebPushControl(t *testing.T) {
	withWebPush(t, pushtest.WebPushConfig{}, func(t *testing.T, a *appServer) {
		h := a.sim.Control()
		status, text := steer(h, http.MethodPost, "/subscriptions", fmt.Sprintf(`{"key":%q}`, publicKey(t, a.key)))
		var made struct {
			Endpoint string
			Keys     struct{ P256dh, Auth string }
		}
		if err := json.Unmarshal([]byte(text), &made); err != nil || status != http.StatusOK {
			t.Fatalf("%d %s: %v", status, text, err)
		}
		sub := pushtest.Subscription{Endpoint: made.Endpoint, P256dh: made.Keys.P256dh, Auth: made.Keys.Auth}
		push := func() int {
			t.Helper()
			status, _, _ := a.send(a.message(sub, "a secret", nil))
			return status
		}
		post := func(path, body string) {
			t.Helper()
			if status, text := steer(h, http.MethodPost, path, body); status != http.StatusNoContent {
				t.Errorf("POST %s %s: %d %s", path, body, status, text)
			}
		}
		post("/subscriptions", fmt.Sprintf(`{"endpoint":%q,"offline":true}`, sub.Endpoint))
		if push(); len(a.sim.Delivered(sub.Endpoint)) != 0 {
			t.Error("an offline user agent received a message")
		}
		post("/faults", `{"location":"https://10.0.0.1/"}`)
		if status := push(); status != http.StatusTemporaryRedirect {
			t.Errorf("redirect: %d", status)
		}
		post("/subscriptions", fmt.Sprintf(`{"endpoint":%q,"gone":410}`, sub.Endpoint))
		if status := push(); status != http.StatusGone {
			t.Errorf("gone: %d", status)
		}
		_, pushes := steer(h, http.MethodGet, "/pushes", "")
		if strings.Contains(pushes, sub.Endpoint) || strings.Contains(pushes, "a secret") || strings.Count(pushes, `"status"`) != 3 {
			t.Errorf("pushes %s", pushes)
		}
		if _, stats := steer(h, http.MethodGet, "/stats", ""); stats != `{"connections":1,"open":1}`+"\n" {
			t.Errorf("stats %s", stats)
		}
	})
}
