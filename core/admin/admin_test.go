package admin_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"sallyport/core/admin"
	"sallyport/core/trace"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(int) { http.DefaultClient.CloseIdleConnections() }))
}

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func sources() admin.Sources {
	return admin.Sources{
		Status: func() admin.Status {
			return admin.Status{
				Version: "1.2.3", Started: noon, Uptime: 60,
				Tunnels:  []admin.Tunnel{{Edge: "edge1.example.com:7443", Up: true, Since: admin.At(noon), Flows: 2}},
				Domains:  []admin.Domain{{Name: "example.com", Upstream: "sip:pbx.example.com", LastError: "connection refused"}},
				Push:     admin.Push{Enabled: true, Apps: []admin.App{{ID: "org.example.phone", Provider: "apns", OK: true}}},
				Store:    admin.Store{Kind: "embedded", OK: true},
				Warnings: nil,
			}
		},
		Clients: func(aor string) []admin.Client {
			if aor != "sip:alice@example.com" {
				return nil
			}
			return []admin.Client{
				{
					AOR: aor, Instance: "<urn:uuid:1>", State: "foreground", Expires: admin.At(noon), LastWake: admin.At(noon),
					Flow:   &admin.Flow{ID: "e/1/2", Edge: "edge1", Transport: "wss", Remote: "192.0.2.1:5", Since: noon},
					Tokens: []admin.Token{{Kind: "voip", Provider: "apns", App: "org.example.phone", State: admin.TokenLive}},
				},
				{AOR: aor, Instance: "<urn:uuid:2>", State: "gone", Expires: admin.At(time.Time{})},
			}
		},
		Traces: func(aor string) []trace.Trace {
			return []trace.Trace{{CallID: "c<1>", AOR: aor, Started: noon}}
		},
		PushTest: func(_ context.Context, aor string, _ time.Duration) ([]admin.PushResult, error) {
			if aor != "sip:alice@example.com" {
				return nil, admin.ErrNoDevice
			}
			return []admin.PushResult{{Instance: "<urn:uuid:1>", Provider: "apns", App: "org.example.phone", Channel: "message", Outcome: "accepted", Status: 200, ID: "X"}}, nil
		},
		Ready: func() bool { return true },
	}
}

// start serves an API until the test ends.
func start(t *testing.T, cfg admin.Config, src admin.Sources) *admin.Admin {
	t.Helper()
	reg := prometheus.NewRegistry()
	reg.MustRegister(prometheus.NewGauge(prometheus.GaugeOpts{Name: "sallyport_test", Help: "A gauge."}))
	a, err := admin.New(cfg, src, nil, reg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	<-a.Opened()
	return a
}

type request struct {
	method, path, body string
	header             map[string]string // Host too
}

func (r request) do(t *testing.T, addr net.Addr) (int, string) {
	t.Helper()
	method := r.method
	if method == "" {
		method = "GET"
	}
	req, err := http.NewRequest(method, "http://"+addr.String()+r.path, strings.NewReader(r.body))
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range r.header {
		req.Header.Set(k, v)
		if k == "Host" {
			req.Host = v
		}
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

var asJSON = map[string]string{"Content-Type": "application/json"}

func with(header map[string]string, more ...string) map[string]string {
	h := map[string]string{}
	for k, v := range header {
		h[k] = v
	}
	for i := 0; i < len(more); i += 2 {
		h[more[i]] = more[i+1]
	}
	return h
}

func TestAnswersHaveTheShapeOfTheContract(t *testing.T) {
	a := start(t, admin.Config{Listen: "127.0.0.1:0"}, sources())
	for _, test := range []struct {
		req  request
		want string
	}{
		{request{path: "/api/v1/status"}, `{"version":"1.2.3","started":"2026-03-01T12:00:00Z","uptime":60,"ready":true,` +
			`"tunnels":[{"edge":"edge1.example.com:7443","up":true,"since":"2026-03-01T12:00:00Z","flows":2,"last_error":"","notices":[]}],` +
			`"domains":[{"name":"example.com","upstream":"sip:pbx.example.com","ok":false,"last_error":"connection refused"}],` +
			`"push":{"enabled":true,"apps":[{"id":"org.example.phone","provider":"apns","ok":true,"last_error":""}]},` +
			`"store":{"kind":"embedded","ok":true,"last_error":""},"warnings":[]}`},
		{request{path: "/api/v1/clients?aor=alice@EXAMPLE.com"}, `[{"aor":"sip:alice@example.com","instance":"<urn:uuid:1>","state":"foreground",` +
			`"flow":{"id":"e/1/2","edge":"edge1","transport":"wss","remote":"192.0.2.1:5","since":"2026-03-01T12:00:00Z"},` +
			`"tokens":[{"kind":"voip","provider":"apns","app":"org.example.phone","state":"live","token":"","encrypts":false,"registered":null,` +
			`"last_ok":null,"last_error":"","last_error_at":null,"wake_ok":0,"wake_miss":0,"note_ok":0,"note_miss":0}],` +
			`"expires":"2026-03-01T12:00:00Z","last_wake":"2026-03-01T12:00:00Z","held":0},` +
			`{"aor":"sip:alice@example.com","instance":"<urn:uuid:2>","state":"gone","flow":null,"tokens":[],"expires":null,"last_wake":null,"held":0}]`},
		{request{path: "/api/v1/clients?aor=bob@example.com"}, `[]`},
		{request{path: "/api/v1/traces?aor=sip:bob@example.com"}, `[{"call_id":"c<1>","aor":"sip:bob@example.com","from":"","started":"2026-03-01T12:00:00Z","state":"","outcome":"","failed_step":"","steps":[]}]`},
		{request{method: "POST", path: "/api/v1/push/test", body: `{"aor":"alice@example.com"}`, header: asJSON},
			`{"results":[{"instance":"<urn:uuid:1>","provider":"apns","app":"org.example.phone","channel":"message","outcome":"accepted","status":200,"reason":"","id":"X"}]}`},
	} {
		code, body := test.req.do(t, a.Addr())
		if code != 200 || body != test.want+"\n" {
			t.Errorf("%s: %d\n got %s\nwant %s", test.req.path, code, body, test.want)
		}
	}
}

func TestBadRequestsAreRefusedWithTheReason(t *testing.T) {
	src := sources()
	a := start(t, admin.Config{Listen: "127.0.0.1:0", Hosts: []string{"Core.Example.com"}}, src)
	post := request{method: "POST", path: "/api/v1/push/test", body: `{"aor":"sip:alice@example.com"}`, header: asJSON}
	changed := func(change func(*request)) request {
		r := post
		change(&r)
		return r
	}
	for what, test := range map[string]struct {
		req  request
		code int
		want string
	}{
		"Host of another": {request{path: "/api/v1/status", header: map[string]string{"Host": "evil.example"}}, 421, `Host \"evil.example\"`},
		"another address": {request{path: "/api/v1/status", header: map[string]string{"Host": "192.0.2.1:9462"}}, 421, "Host"},
		"listed Host":     {request{path: "/api/v1/status", header: map[string]string{"Host": "core.example.com:9462"}}, 200, "version"},
		"localhost":       {request{path: "/api/v1/status", header: map[string]string{"Host": "localhost:9462"}}, 200, "version"},
		"IPv6 loopback":   {request{path: "/api/v1/status", header: map[string]string{"Host": "[::1]:9462"}}, 200, "version"},
		"form":            {changed(func(r *request) { r.header = map[string]string{"Content-Type": "text/plain"} }), 415, "application/json"},
		"no type":         {changed(func(r *request) { r.header = nil }), 415, "application/json"},
		"other origin":    {changed(func(r *request) { r.header = with(asJSON, "Origin", "https://evil.example") }), 403, "origin"},
		"null origin":     {changed(func(r *request) { r.header = with(asJSON, "Origin", "null") }), 403, "origin"},
		"cross site":      {changed(func(r *request) { r.header = with(asJSON, "Sec-Fetch-Site", "cross-site") }), 403, "origin"},
		"own origin":      {changed(func(r *request) { r.header = with(asJSON, "Origin", "http://"+a.Addr().String()) }), 200, "results"},
		"charset":         {changed(func(r *request) { r.header = map[string]string{"Content-Type": "application/json; charset=utf-8"} }), 200, "results"},
		"unknown key":     {changed(func(r *request) { r.body = `{"aor":"sip:a@b","x":1}` }), 400, `unknown field \"x\"`},
		"two objects":     {changed(func(r *request) { r.body += r.body }), 400, "more than one object"},
		"no object":       {changed(func(r *request) { r.body = "hello" }), 400, "must be an object"},
		"no aor":          {changed(func(r *request) { r.body = "{}" }), 400, "aor: must be like"},
		"large body":      {changed(func(r *request) { r.body = `{"aor":"` + strings.Repeat("a", 5000) + `"}` }), 413, "larger than 4096 bytes"},
		"unknown device":  {changed(func(r *request) { r.body = `{"aor":"sip:nobody@example.com"}` }), 404, "sip:nobody@example.com: no device"},
		"GET a POST":      {request{path: "/api/v1/push/test"}, 404, "no such page"},
		"no such page":    {request{path: "/api/v2/status"}, 404, "no such page"},
		"aor with spaces": {request{path: "/api/v1/clients?aor=a%0ab@c"}, 400, "aor: must be like"},
		"long aor":        {request{path: "/api/v1/traces?aor=" + strings.Repeat("a", 300) + "@b"}, 400, "aor: must be like"},
		"aor of no user":  {request{path: "/api/v1/traces?aor=sip:example.com"}, 400, "aor: must be like"},
	} {
		code, body := test.req.do(t, a.Addr())
		if code != test.code || !strings.Contains(body, test.want) {
			t.Errorf("%s: %d %s, want %d and %q", what, code, body, test.code, test.want)
		}
		if code >= 400 && !strings.HasPrefix(body, `{"error":"`) {
			t.Errorf("%s: the reason is no JSON: %s", what, body)
		}
	}
}

func TestOffLoopbackATokenIsNeeded(t *testing.T) {
	for listen, refused := range map[string]bool{
		"127.0.0.1:1": false, "[::1]:1": false, "localhost:1": false, "127.0.0.2:1": false,
		"10.0.0.5:1": true, ":9462": true, "0.0.0.0:1": true, "[::]:1": true, "core.example.com:1": true,
	} {
		_, err := admin.New(admin.Config{Listen: listen}, sources(), nil, nil)
		if (err != nil) != refused {
			t.Errorf("%s: %v", listen, err)
		}
		if refused && !strings.HasPrefix(err.Error(), "admin.token_file: is needed since admin.listen") {
			t.Errorf("%s: the error does not say what to do: %v", listen, err)
		}
	}
	if _, err := admin.New(admin.Config{Listen: "x", MetricsListen: "y"}, sources(), nil, nil); err == nil || strings.Count(err.Error(), "must be host:port") != 2 {
		t.Errorf("two bad addresses: %v", err)
	}
}

func TestTheTokenGuardsTheAPIAndNothingElse(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("0123456789abcdef\n")
	a := start(t, admin.Config{Listen: "127.0.0.1:0", TokenFile: file}, sources())
	status := func(auth string) int {
		r := request{path: "/api/v1/status"}
		if auth != "" {
			r.header = map[string]string{"Authorization": auth}
		}
		code, _ := r.do(t, a.Addr())
		return code
	}
	for auth, want := range map[string]int{
		"": 401, "Bearer wrong": 401, "Basic 0123456789abcdef": 401, "0123456789abcdef": 401,
		"Bearer 0123456789abcdef": 200, "bearer 0123456789abcdef": 200,
	} {
		if got := status(auth); got != want {
			t.Errorf("Authorization %q: %d, want %d", auth, got, want)
		}
	}
	for _, page := range []string{"/metrics", "/healthz", "/readyz"} {
		if code, _ := (request{path: page}).do(t, a.Addr()); code != 200 {
			t.Errorf("%s wants a token: %d", page, code)
		}
	}
	write("short")
	if err := a.Reload(); err == nil || !strings.Contains(err.Error(), "admin.token_file: "+file) {
		t.Errorf("a short token: %v", err)
	}
	if status("Bearer 0123456789abcdef") != 200 {
		t.Error("a broken token file took the old token away")
	}
	write("fedcba9876543210")
	if err := a.Reload(); err != nil || status("Bearer fedcba9876543210") != 200 || status("Bearer 0123456789abcdef") != 401 {
		t.Errorf("the new token is not taken: %v", err)
	}
}

func TestMetricsListenServesPagesButNoAPI(t *testing.T) {
	src := sources()
	ready := false
	src.Ready = func() bool { return ready }
	a := start(t, admin.Config{Listen: "127.0.0.1:0", MetricsListen: "127.0.0.1:0"}, src)
	for _, addr := range []net.Addr{a.Addr(), a.MetricsAddr()} {
		if code, body := (request{path: "/metrics"}).do(t, addr); code != 200 || !strings.Contains(body, "sallyport_test 0") {
			t.Errorf("/metrics: %d %s", code, body)
		}
		if code, _ := (request{path: "/healthz"}).do(t, addr); code != 200 {
			t.Errorf("/healthz: %d", code)
		}
		if code, body := (request{path: "/readyz"}).do(t, addr); code != 503 || !strings.Contains(body, "no tunnel") {
			t.Errorf("/readyz: %d %s", code, body)
		}
	}
	if code, _ := (request{path: "/api/v1/status"}).do(t, a.MetricsAddr()); code != 404 {
		t.Errorf("the API answers on metrics_listen: %d", code)
	}
}

func TestOnePushTestAtATime(t *testing.T) {
	src := sources()
	began, end := make(chan struct{}), make(chan struct{})
	src.PushTest = func(context.Context, string, time.Duration) ([]admin.PushResult, error) {
		close(began)
		<-end
		return nil, nil
	}
	a := start(t, admin.Config{Listen: "127.0.0.1:0"}, src)
	post := request{method: "POST", path: "/api/v1/push/test", body: `{"aor":"sip:alice@example.com"}`, header: asJSON}
	first := make(chan string, 1)
	go func() { _, body := post.do(t, a.Addr()); first <- body }()
	<-began
	if code, _ := post.do(t, a.Addr()); code != 429 {
		t.Errorf("a second test: %d", code)
	}
	close(end)
	if body := <-first; body != "{\"results\":[]}\n" {
		t.Errorf("the first test: %s", body)
	}
}

func TestRunNamesTheKeyOfAnAddressInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err := admin.New(admin.Config{Listen: "127.0.0.1:0", MetricsListen: l.Addr().String()}, sources(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Run(t.Context()); err == nil || !strings.HasPrefix(err.Error(), "admin.metrics_listen: ") {
		t.Errorf("Run: %v", err)
	}
	a, _ = admin.New(admin.Config{Listen: "127.0.0.1:0", TokenFile: "/nonexistent"}, sources(), nil, nil)
	if err := a.Run(t.Context()); !errors.Is(err, os.ErrNotExist) || !strings.HasPrefix(err.Error(), "admin.token_file: ") {
		t.Errorf("Run: %v", err)
	}
}

// A client that sends its header drop by drop is cut off, and one that sends
// none does not keep the core from ending.
func TestASilentClientDoesNotKeepRunFromEnding(t *testing.T) {
	a := start(t, admin.Config{Listen: "127.0.0.1:0"}, sources())
	c, err := net.Dial("tcp", a.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.Copy(c, bytes.NewBufferString("GET /api/v1/status HTTP/1.1\r\nHo"))
}
