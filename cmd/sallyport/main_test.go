package main

import (
	"bytes"
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"sallyport/certs"
	"sallyport/core/admin"
	"sallyport/core/trace"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(int) { http.DefaultClient.CloseIdleConnections() }))
}

// sallyport runs the tool and returns exit code, standard output and error.
func sallyport(t *testing.T, stdin string, args ...string) (int, string, string) {
	t.Helper()
	var out, errs bytes.Buffer
	code := run(args, &console{ctx: t.Context(), in: strings.NewReader(stdin), out: &out, err: &errs, zone: time.UTC})
	return code, out.String(), errs.String()
}

func golden(t *testing.T, what, got, want string) {
	t.Helper()
	if diff := cmp.Diff(strings.TrimPrefix(want, "\n"), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func TestCertsInitAndIssueMakeBundles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	if code, _, errs := sallyport(t, "", "certs", "init", "--dir", dir); code != 0 {
		t.Fatal(errs)
	}
	for _, test := range []struct {
		flag, name string
		role       certs.Role
	}{{"--edge", "edge1.example.com", certs.RoleEdge}, {"--core", "core1", certs.RoleCore}} {
		code, out, errs := sallyport(t, "", "certs", "issue", "--dir", dir, test.flag, test.name)
		if code != 0 {
			t.Fatal(errs)
		}
		path := filepath.Join(dir, test.name+".pem")
		if !strings.HasPrefix(out, "issued "+path+" for "+string(test.role)+" "+test.name+", valid until ") {
			t.Errorf("output: %s", out)
		}
		b, err := certs.LoadBundle(path)
		if err != nil || b.Role() != test.role || b.Name() != test.name {
			t.Fatalf("%s: %v", path, err)
		}
		if days := time.Until(b.NotAfter()).Hours() / 24; days < 396 || days > 397 {
			t.Errorf("valid for %.1f days, want 397", days)
		}
	}
	code, _, errs := sallyport(t, "", "certs", "init", "--dir", dir)
	if code != 1 || !strings.Contains(errs, "there is a CA already; it is not overwritten") {
		t.Errorf("a second init: %d %s", code, errs)
	}
}

func TestUsageErrorsSayWhatIsMissing(t *testing.T) {
	for args, want := range map[string]string{
		"":                                      "expected one of",
		"certs issue --dir d":                   "name whom the bundle is for: --edge NAME or --core NAME",
		"certs issue --dir d --edge a --core b": "--edge and --core can't be used together",
		"certs issue --edge a":                  "missing flags: --dir",
		"certs issue --dir /nonexistent --edge a": "there is no CA: make one with `sallyport certs init --dir /nonexistent`",
		"users add --file f --domain d alice":     "missing flags: --password-stdin",
		"trace":                                   `expected "<aor>"`,
		"check":                                   "name what to check: --edge FILE, --core FILE or both",
		"status --core localhost:9462":            "--core: must be like http://127.0.0.1:9462",
		"bogus":                                   "unexpected argument bogus",
	} {
		code, _, errs := sallyport(t, "", strings.Fields(args)...)
		if code == 0 || !strings.Contains(errs, want) {
			t.Errorf("%q: exit %d, want %q in: %s", args, code, want, errs)
		}
	}
	if code, out, _ := sallyport(t, "", "--version"); code != 0 || out != "sallyport dev\n" {
		t.Errorf("--version: %d %q", code, out)
	}
	if code, out, _ := sallyport(t, "", "--help"); code != 0 || !strings.Contains(out, "why did the phone not ring?") {
		t.Errorf("--help: %d %q", code, out)
	}
}

func TestUsersAddReadsThePasswordFromStandardInput(t *testing.T) {
	file := filepath.Join(t.TempDir(), "users")
	code, out, errs := sallyport(t, "secret\n", "users", "add", "--file", file, "--domain", "demo.example", "--password-stdin", "alice")
	if code != 0 || strings.Contains(out+errs, "secret") {
		t.Fatalf("%d %s%s", code, out, errs)
	}
	text, err := os.ReadFile(file)
	if err != nil || strings.Count(string(text), "alice:demo.example:") != 2 {
		t.Errorf("%v %s", err, text)
	}
	info, _ := os.Stat(file)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	if code, _, errs = sallyport(t, strings.Repeat("x", 2000), "users", "add", "--file", file, "--domain", "demo.example", "--password-stdin", "bob"); code != 1 || !strings.Contains(errs, "longer than 1024") {
		t.Errorf("a long password: %d %s", code, errs)
	}
}

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// serveAPI runs a core's API and returns its URL.
func serveAPI(t *testing.T, cfg admin.Config, src admin.Sources) string {
	t.Helper()
	cfg.Listen = "127.0.0.1:0"
	a, err := admin.New(cfg, src, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	<-a.Opened()
	return "http://" + a.Addr().String()
}

func TestStatusIsReadable(t *testing.T) {
	src := admin.Sources{Status: func() admin.Status {
		return admin.Status{
			Version: "1.2.3", Started: noon, Uptime: 3723,
			Tunnels: []admin.Tunnel{
				{Edge: "edge1.example.com:7443", Up: true, Since: admin.At(noon), Flows: 12,
					Notices: []string{"the certificate of edge.example.com ends in 9 days"}},
				{Edge: "edge2.example.com:7443", LastError: "dial tcp: connection refused"},
			},
			Domains: []admin.Domain{
				{Name: "example.com", Upstream: "sip:pbx.example.com", LastError: "i/o timeout"},
				{Name: "demo.example", OK: true},
			},
			Push:     admin.Push{Enabled: true, Apps: []admin.App{{ID: "org.example.phone", Provider: "apns", OK: true}}},
			Store:    admin.Store{Kind: "embedded", OK: true},
			Warnings: []string{"the certificate in /etc/sallyport/core1.pem ends in 12 days"},
		}
	}}
	url := serveAPI(t, admin.Config{}, src)
	code, out, errs := sallyport(t, "", "status", "--core", url)
	if code != 0 {
		t.Fatal(errs)
	}
	golden(t, "status", out, `
sallyport-core 1.2.3, up 1h2m3s, ready

TUNNEL                  STATE  SINCE                FLOWS  LAST ERROR
edge1.example.com:7443  up     2026-03-01 12:00:00  12     -
edge2.example.com:7443  DOWN   -                    0      dial tcp: connection refused

DOMAIN        UPSTREAM             STATE        LAST ERROR
example.com   sip:pbx.example.com  UNREACHABLE  i/o timeout
demo.example  stand-alone          ok           -

PUSH APP           PROVIDER  STATE  LAST ERROR
org.example.phone  apns      ok     -

STORE     STATE  LAST ERROR
embedded  ok     -

WARNINGS
- the certificate in /etc/sallyport/core1.pem ends in 12 days
- edge1.example.com:7443: the certificate of edge.example.com ends in 9 days
`)
	code, out, _ = sallyport(t, "", "status", "--core", url, "--json")
	if code != 0 || !strings.HasPrefix(out, "{\n  \"version\": \"1.2.3\",") {
		t.Errorf("--json: %d %s", code, out)
	}
}

func TestClientsAreReadableAndHostileTextIsHarmless(t *testing.T) {
	url := serveAPI(t, admin.Config{}, admin.Sources{Clients: func(aor string) []admin.Client {
		if aor != "" && aor != "sip:alice@example.com" {
			return nil
		}
		return []admin.Client{
			{
				AOR: "sip:alice@example.com", Instance: "<urn:uuid:1>", State: "foreground",
				Flow:    &admin.Flow{ID: "x", Edge: "edge1", Transport: "wss", Remote: "192.0.2.1:5060", Since: noon},
				Tokens:  []admin.Token{{Kind: "voip", Provider: "apns", State: "live"}, {Kind: "alert", Provider: "apns", State: "dead"}},
				Expires: admin.At(noon), LastWake: admin.At(noon),
			},
			{AOR: "sip:alice@example.com", Instance: "\x1b[2Jevil", State: "gone", Held: 3},
		}
	}})
	_, out, _ := sallyport(t, "", "clients", "--core", url, "alice@example.com")
	golden(t, "clients", out, `
ADDRESS                STATE       VIA        FROM            PUSH                          EXPIRES              LAST WAKE            HELD  INSTANCE
sip:alice@example.com  foreground  wss edge1  192.0.2.1:5060  apns voip, apns alert (dead)  2026-03-01 12:00:00  2026-03-01 12:00:00  0     <urn:uuid:1>
sip:alice@example.com  gone        -          -               -                             -                    -                    3     ?[2Jevil
`)
	if _, out, _ = sallyport(t, "", "clients", "--core", url, "bob@example.com"); !strings.HasPrefix(out, "no device of bob@example.com is known") {
		t.Errorf("nobody: %s", out)
	}
}

func TestTraceNamesTheStepThatFailed(t *testing.T) {
	at := func(ms int) time.Time { return noon.Add(time.Duration(ms) * time.Millisecond) }
	url := serveAPI(t, admin.Config{}, admin.Sources{Traces: func(aor string) []trace.Trace {
		if aor != "sip:alice@example.com" {
			return nil
		}
		return []trace.Trace{
			{
				CallID: "c2", AOR: aor, From: "sip:bob@example.com", Started: noon, State: "suspended", Outcome: "480", FailedStep: "window_over",
				Steps: []trace.Step{
					{At: at(0), Step: "invite"}, {At: at(3), Step: "push_sent", Detail: "apns voip"},
					{At: at(250), Step: "push_accepted"}, {At: at(13003), Step: "window_over", Detail: "the device did not register"},
				},
			},
			{CallID: "c1", AOR: aor, From: "sip:bob@example.com", Started: noon, State: "foreground"},
		}
	}})
	_, out, _ := sallyport(t, "", "trace", "--core", url, "alice@example.com")
	golden(t, "trace", out, `
2026-03-01 12:00:00  sip:bob@example.com called sip:alice@example.com, which was suspended
  Call-ID c2
     +0.000 s  invite
     +0.003 s  push_sent     apns voip
     +0.250 s  push_accepted
    +13.003 s  window_over   the device did not register  <-- failed
  outcome: 480; the step that failed: window_over

2026-03-01 12:00:00  sip:bob@example.com called sip:alice@example.com, which was foreground
  Call-ID c1
  still under way
`)
	_, out, _ = sallyport(t, "", "trace", "--core", url, "--json", "--last", "1", "alice@example.com")
	if strings.Count(out, "call_id") != 1 {
		t.Errorf("--last 1: %s", out)
	}
	if _, out, _ = sallyport(t, "", "trace", "--core", url, "carol@example.com"); !strings.HasPrefix(out, "no call to carol@example.com reached this core") {
		t.Errorf("no trace: %s", out)
	}
}

func TestPushTestFailsUnlessAPushWasAccepted(t *testing.T) {
	results := []admin.PushResult{{Instance: "<urn:uuid:1>", Provider: "apns", App: "org.example.phone", Channel: "message", Outcome: "refused", Status: 403, Reason: "InvalidProviderToken"}}
	url := serveAPI(t, admin.Config{}, admin.Sources{PushTest: func(context.Context, string, time.Duration) ([]admin.PushResult, error) { return results, nil }})
	code, out, _ := sallyport(t, "", "push", "test", "--core", url, "alice@example.com")
	golden(t, "push test", out, `
PROVIDER  APP                CHANNEL  OUTCOME  STATUS  REASON                INSTANCE
apns      org.example.phone  message  refused  403     InvalidProviderToken  <urn:uuid:1>
refused: look at key_id, team_id, environment and the app's id
`)
	if code != 1 {
		t.Errorf("exit %d", code)
	}
	results = append(results, admin.PushResult{Outcome: "accepted"})
	if code, _, _ = sallyport(t, "", "push", "test", "--core", url, "alice@example.com"); code != 0 {
		t.Errorf("exit %d though one was accepted", code)
	}
}

func TestTheTokenIsReadFromAFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("0123456789abcdef\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	url := serveAPI(t, admin.Config{TokenFile: file}, admin.Sources{Clients: func(string) []admin.Client { return nil }})
	if code, _, errs := sallyport(t, "", "clients", "--core", url); code != 1 || !strings.Contains(errs, "give it with --token-file FILE") {
		t.Errorf("no token: %d %s", code, errs)
	}
	if code, out, errs := sallyport(t, "", "clients", "--core", url, "--token-file", file); code != 0 || out != "no device is known\n" {
		t.Errorf("with the token: %d %s%s", code, out, errs)
	}
}

func TestNoCoreIsSaidWithItsRemedy(t *testing.T) {
	code, _, errs := sallyport(t, "", "status", "--core", "http://127.0.0.1:1")
	if code != 1 || !strings.Contains(errs, "no answer from http://127.0.0.1:1: ") || !strings.Contains(errs, "is sallyport-core running there") {
		t.Errorf("%d %s", code, errs)
	}
}
