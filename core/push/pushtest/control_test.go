package pushtest_test

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"sallyport/core/push/pushtest"
)

func TestControl(t *testing.T) {
	sim := pushtest.NewAPNs(pushtest.APNsConfig{})
	for _, c := range []struct{ method, path, host, kind, body, want string }{
		{"GET", "/pushes", "127.0.0.1:1", "", "", "200 []"},
		{"GET", "/violations", "localhost", "", "", "200 []"},
		{"GET", "/pushes", "rebound.example.com", "", "", `403 Host "rebound.example.com"`},
		{"GET", "/else", "[::1]:1", "", "", "404"},
		{"POST", "/tokens", "localhost:1", "application/json", `{"token":"ab","topic":"t","env":"sandbox"}`, "204"},
		{"POST", "/tokens", "localhost:1", "application/json", `{}`, "400 token: must"},
		{"POST", "/tokens", "localhost:1", "application/json", `{"tokn":"ab"}`, `400 json: unknown field "tokn"`},
		{"POST", "/tokens", "localhost:1", "text/plain", `{"token":"ab"}`, "415"},
		{"POST", "/tokens", "localhost:1", "application/json", strings.Repeat(" ", 100_000), "400 http: request body too large"},
		{"POST", "/faults", "localhost:1", "application/json", `{"status":503,"reason":"ServiceUnavailable","count":3}`, "204"},
		{"POST", "/faults", "localhost:1", "application/json", `{"latency":"50ms"}`, "204"},
		{"POST", "/faults", "localhost:1", "application/json", `{"latency":"soon"}`, "400 latency: must"},
		{"POST", "/faults", "localhost:1", "application/json", `{"action":"black_hole"}`, "204"},
		{"POST", "/faults", "localhost:1", "application/json", `{"action":"explode"}`, "400 action: must"},
		{"POST", "/faults", "localhost:1", "application/json", `{"status":20}`, "400 status: must"},
		{"POST", "/faults", "localhost:1", "application/json", `{"action":"goaway","after":3}`, "204"},
		{"POST", "/faults", "localhost:1", "application/json", `{"after":3}`, "400 after: must"},
		{"POST", "/faults", "localhost:1", "application/json", `{"handshake_delay":"1s"}`, "204"},
		{"POST", "/faults", "localhost:1", "application/json", `{"handshake_delay":"-1s"}`, "400 handshake_delay: must"},
		{"POST", "/faults", "localhost:1", "application/json", `{"action":"rotate_certificate"}`, "204"},
		{"POST", "/faults", "localhost:1", "application/json", `{"action":"clear"}`, "204"},
		{"POST", "/tokens", "localhost:1", "application/json", `{"token":"ab","offline":true,"phone":"p"}`, "204"},
		{"POST", "/calls", "localhost:1", "application/json", `{"call":"c","event":"finished"}`, "204"},
		{"POST", "/calls", "localhost:1", "application/json", `{"token":"ab","call":"c","event":"reported"}`, "404 call: no such"},
		{"POST", "/calls", "localhost:1", "application/json", `{"call":"c","event":"hummed"}`, "400 event: must"},
		{"GET", "/deliveries", "127.0.0.1:1", "", "", "200 []"},
		{"GET", "/warnings", "127.0.0.1:1", "", "", "200 []"},
		{"GET", "/stats", "127.0.0.1:1", "", "", `200 {"connections":0,`},
	} {
		r, err := http.NewRequestWithContext(t.Context(), c.method, "http://"+c.host+c.path, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", c.kind)
		w := &recorder{header: http.Header{}, status: 200}
		sim.Control().ServeHTTP(w, r)
		if got := fmt.Sprintf("%d %s", w.status, w.body.String()); !strings.HasPrefix(got, c.want) {
			t.Errorf("%s %s %q: %q, want %q", c.method, c.path, c.body, got, c.want)
		}
	}
}

// recorder keeps a response.
type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (r *recorder) Header() http.Header         { return r.header }
func (r *recorder) WriteHeader(status int)      { r.status = status }
func (r *recorder) Write(p []byte) (int, error) { return r.body.Write(p) }
