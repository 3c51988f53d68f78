package boot_test

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sallyport/cmd/internal/boot"
	"sallyport/tunnel/unit"
)

func TestLayersAreDefaultsFileEnvironment(t *testing.T) {
	path := file(t, "[tunnel]\nedges = [\"c:3\"]\n[wake]\ntries = 5\nwindow = \"20s\"\n[[sip.domain]]\nname = \"example.com\"\nupstream = [\"sip:a\", \"sip:b\"]\n")
	got, err := boot.Load(defaults, path, []string{
		"SALLYPORT_WAKE_WINDOW=30s", "SALLYPORT_WAKE_CALL_PUSH_IN_FOREGROUND=true", "SALLYPORT_TUNNEL_MAX=1MiB",
		"SALLYPORT_SOAK=1", "HOME=/root",
	})
	if err != nil {
		t.Fatal(err)
	}
	want := defaults()
	want.Tunnel.Edges, want.Tunnel.Max = []string{"c:3"}, 1<<20
	want.Wake.Tries, want.Wake.Window, want.Wake.InFront = 5, unit.Duration{Duration: 30e9}, true
	want.SIP.Domains = append(want.SIP.Domains, struct {
		Name     string `toml:"name"`
		Upstream any    `toml:"upstream,omitempty"`
	}{"example.com", []any{"sip:a", "sip:b"}})
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("config (-want +got):\n%s", diff)
	}
}

func TestEnvironmentListsAreSeparatedByCommas(t *testing.T) {
	got, err := boot.Load(defaults, "", []string{"SALLYPORT_TUNNEL_EDGES=x:1, y:2"})
	if diff := cmp.Diff([]string{"x:1", "y:2"}, got.Tunnel.Edges); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	if got, _ = boot.Load(defaults, "", []string{"SALLYPORT_TUNNEL_EDGES="}); len(got.Tunnel.Edges) != 0 {
		t.Errorf("an empty variable leaves %q", got.Tunnel.Edges)
	}
}

// Each error names file, line and key, decoding errors stand first, and none
// hides another.
func TestEveryFaultIsReported(t *testing.T) {
	path := file(t, `[tunnel]
listen = 5
edgse = ["x"]
edges = [
  "a",
  1,
]
max = 64
[wake]
window = 13
tries = -1
call_push_in_foreground = "yes"
[bar]
x = 1
y = 2
[[sip.domain]]
nam = "x"
[[log]]
level = "info"
`)
	_, err := boot.Load(defaults, path, []string{"SALLYPORT_TUNNEL_LISTNE=x", "SALLYPORT_SIP_DOMAIN=x"})
	want := []string{
		path + `:2: tunnel.listen: must be text in quotes (got 5)`,
		path + `:3: tunnel.edgse: unknown key, perhaps "edges" is meant`,
		path + `:4: tunnel.edges: must be text in quotes (got 1)`,
		path + `:8: tunnel.max: must be a size, such as "64KiB" in quotes (got 64)`,
		path + `:10: wake.window: must be a duration, such as "13s" in quotes (got 13)`,
		path + `:12: wake.call_push_in_foreground: must be true or false (got "yes")`,
		path + `:13: bar: unknown key`,
		path + `:17: sip.domain.nam: unknown key, perhaps "name" is meant`,
		path + `:18: log: is one table: write [log]`,
		`SALLYPORT_SIP_DOMAIN: is a list of tables, which no variable can hold: set it in the file`,
		`SALLYPORT_TUNNEL_LISTNE: sets no key of the config, perhaps SALLYPORT_TUNNEL_LISTEN is meant`,
		path + `: wake.tries: must be positive (got -1)`,
	}
	if diff := cmp.Diff(want, strings.Split(err.Error(), "\n")); diff != "" {
		t.Errorf("faults (-want +got):\n%s", diff)
	}
}

func TestOneFaultOfEachKind(t *testing.T) {
	for text, want := range map[string]string{
		"[tunnel":                           ":1: expected ']' to close table name",
		"[wake]\ntries = 1\ntries = 2":      ":3: tries: key tries is already defined",
		"[wake]\nwindow = \"13\"":           `:2: wake.window: duration "13" has no unit`,
		"[sip.domain]\nname = \"x\"":        ":1: sip.domain: is a list of tables: write [[sip.domain]]",
		"wake = 1":                          ":1: wake: must be a table (got 1)",
		"wake = { trise = 1 }":              `:1: wake.trise: unknown key, perhaps "tries" is meant`,
		"[wake]\ntries = 99999999999999999": "",
		"[wake]\ntries = 1.5":               ":2: wake.tries: must be a whole number (got 1.5)",
		"[wake]\ntries.x = 1":               ":2: wake.tries.x: unknown key",
		"[wake.tries]\nx = 1":               ":1: wake.tries: is no table, but a whole number",
		"[tunnel]\nedges = \"a\"":           `:2: tunnel.edges: must be a list, such as ["a", "b"] (got "a")`,
		"[wake]\nwindow = \"0s\"":           ": wake.window: must be 1s to 60s (got 0s)",
	} {
		path := file(t, text)
		_, err := boot.Load(defaults, path, nil)
		if want == "" {
			if err != nil {
				t.Errorf("%q: %v", text, err)
			}
			continue
		}
		if err == nil || !strings.HasPrefix(err.Error(), path+want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q:\n got %v\nwant %s", text, err, path+want)
		}
	}
	_, err := boot.Load(defaults, "", []string{"SALLYPORT_WAKE_TRIES=0"})
	if err == nil || err.Error() != "SALLYPORT_WAKE_TRIES: wake.tries: must be positive (got 0)" {
		t.Errorf("a fault that a variable brought: %v", err)
	}
	_, err = boot.Load(defaults, "/nonexistent/edge.toml", nil)
	if !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "/nonexistent/edge.toml") {
		t.Errorf("no such file: %v", err)
	}
}

func TestCheckPrintsTheEffectiveConfigAndExits(t *testing.T) {
	s := newServer()
	r := start(t, s, []string{"SALLYPORT_WAKE_TRIES=7"}, "-check", "-config", file(t, "[wake]\nwindow = \"24h\"\n"))
	if code := <-r.code; code != 0 {
		t.Fatalf("exit %d: %s", code, r.stderr.String())
	}
	contains(t, "-check", r.stdout.String(), "[wake]\nwindow = '24h'\n", "tries = 7\n", "max = '64KiB'")
	again, err := boot.Load(defaults, file(t, r.stdout.String()), nil)
	if err != nil || again.Wake.Tries != 7 {
		t.Errorf("what -check prints cannot be read again: %v", err)
	}
	select {
	case <-s.started:
		t.Error("-check ran the server")
	default:
	}
}

func TestFlags(t *testing.T) {
	for _, test := range []struct {
		args           string
		code           int
		stdout, stderr string
	}{
		{"-version", 0, "sallyport-edge 1.2.3\n", ""},
		{"-help", 0, "", "-config FILE"},
		{"-verbose", 2, "", "flag provided but not defined: -verbose"},
		{"edge.toml", 2, "", `unexpected argument "edge.toml"`},
		{"-check -config " + file(t, "[log]\nlevel = \"loud\"\n"), 2, "", `log.level: must be debug, info, warn or error (got "loud")`},
	} {
		r := start(t, newServer(), nil, strings.Fields(test.args)...)
		if code := <-r.code; code != test.code {
			t.Errorf("%s: exit %d, want %d", test.args, code, test.code)
		}
		contains(t, test.args, r.stdout.String(), test.stdout)
		contains(t, test.args, r.stderr.String(), test.stderr)
	}
}

func TestTheFirstSignalDrains(t *testing.T) {
	s := newServer()
	r := start(t, s, nil)
	<-s.started
	r.signals <- syscall.SIGTERM
	if code := <-r.code; code != 0 {
		t.Errorf("exit %d after a drain", code)
	}
}

func TestTheSecondSignalEndsAtOnce(t *testing.T) {
	s := newServer()
	s.ignoresDrain = true
	r := start(t, s, nil)
	<-s.started
	r.signals <- syscall.SIGINT
	<-s.drain
	r.signals <- syscall.SIGTERM
	if code := <-r.code; code != 1 {
		t.Errorf("exit %d after a second signal, want 1", code)
	}
}

func TestAServerThatFailsIsNamedAndExitsWithOne(t *testing.T) {
	s := newServer()
	s.fail = errors.New("listen tcp :443: address in use")
	r := start(t, s, nil)
	if code := <-r.code; code != 1 {
		t.Errorf("exit %d", code)
	}
	contains(t, "log", r.stderr.String(), `"err":"listen tcp :443: address in use"`)
}

func TestSIGHUPReloadsAndABadFileChangesNothing(t *testing.T) {
	path := file(t, "[wake]\ntries = 4\n")
	s := newServer()
	r := start(t, s, nil, "-config", path)
	<-s.started
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("[wake]\ntries = \"x\"\n")
	r.signals <- syscall.SIGHUP
	r.stderr.await("not reloaded")
	write("[wake]\ntries = 9\n[log]\nlevel = \"error\"\n")
	r.signals <- syscall.SIGHUP
	<-s.reloads
	r.signals <- syscall.SIGTERM
	<-r.code
	if len(s.reloaded) != 1 || s.reloaded[0].Wake.Tries != 9 {
		t.Errorf("reloaded with %+v", s.reloaded)
	}
	contains(t, "log", r.stderr.String(), "config not reloaded, the old one stays", "edge.toml:2: wake.tries: must be a whole number")
	if strings.Contains(r.stderr.String(), "draining") {
		t.Error("the new log level was not taken")
	}
}

func TestAdminListenerAnswersForTheServer(t *testing.T) {
	addr := freeAddr(t)
	s := newServer()
	s.ignoresDrain = true
	r := start(t, s, []string{"SALLYPORT_ADMIN_LISTEN=" + addr})
	<-s.started
	get := func(path string) (int, string) {
		resp, err := http.Get("http://" + addr + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(body)
	}
	defer http.DefaultClient.CloseIdleConnections()
	if code, _ := get("/healthz"); code != 200 {
		t.Errorf("/healthz: %d", code)
	}
	if code, body := get("/readyz"); code != 200 || body != "ready\na certificate ends soon\n" {
		t.Errorf("/readyz: %d %q", code, body)
	}
	if code, body := get("/metrics"); code != 200 || !strings.Contains(body, `sallyport_build_info{version="1.2.3"} 1`) {
		t.Errorf("/metrics: %d %s", code, body)
	}
	if code, _ := get("/debug/pprof/"); code != 404 {
		t.Errorf("/debug/pprof/: %d", code)
	}
	r.signals <- syscall.SIGTERM
	<-s.drain
	if code, body := get("/readyz"); code != 503 || body != "not ready\ndraining\na certificate ends soon\n" {
		t.Errorf("/readyz while draining: %d %q, want 503", code, body)
	}
	r.signals <- syscall.SIGTERM
	<-r.code
}

func TestAnAdminAddressInUseIsNamed(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	r := start(t, newServer(), []string{"SALLYPORT_ADMIN_LISTEN=" + l.Addr().String()})
	if code := <-r.code; code != 1 {
		t.Errorf("exit %d", code)
	}
	contains(t, "log", r.stderr.String(), "admin.listen: listen tcp "+l.Addr().String())
}

// freeAddr is an address to listen on. Its port is below those that systems
// give to outgoing connections, so that none of these gets it meanwhile.
func freeAddr(t *testing.T) string {
	const low, high, tries = 10_000, 32_000, 100
	for range tries {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", low+rand.IntN(high-low)))
		if err == nil {
			defer l.Close()
			return l.Addr().String()
		}
	}
	t.Fatal("no port is free")
	return ""
}
