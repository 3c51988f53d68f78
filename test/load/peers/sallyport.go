package main

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"sallyport/certs"
	"sallyport/certs/ca"
	"sallyport/core/push/pushtest"
	"sallyport/test/load/loadgen"
)

//go:embed profile.go.txt
var profileSource string

// app is the bundle id of the app that phones run.
const app = "org.example.phone"

// The limits let a few addresses play all clients; all else is as shipped.
const edgeConfig = `[public]
hostname = "127.0.0.1"
https = "%[1]s"
sips = "%[2]s"
xmpps = ""
[tls]
acme = false
cert = "%[3]s"
key = "%[3]s"
[tunnel]
listen = "%[4]s"
identity = "%[3]s"
[limits]
flows_per_ip = 100000
new_flows_per_second = 100000
new_flows_per_ip_per_second = 100000
[admin]
listen = "%[5]s"
`

const coreConfig = `[tunnel]
edges = ["%[1]s"]
identity = "%[2]s"
[sip]
listen = ["tcp:%[3]s"]
advertise = "%[3]s"
[[sip.domain]]
name = "` + domain + `"
upstream = "sip:%[4]s;transport=tcp"
[[push.app]]
id = "` + app + `"
provider = "apns"
team_id = "%[5]s"
key_id = "%[6]s"
key_file = "%[7]s"
endpoint = "https://%[8]s"
ca_file = "%[9]s"
[store]
dir = "%[10]s"
[admin]
listen = "%[11]s"
`

// sallyport is an edge and a core.
type sallyport struct {
	dir, profiles string
	turn          int
}

func newSallyport(ctx context.Context, dir, profiles string) (system, error) {
	s := &sallyport{dir: filepath.Join(dir, "s"), profiles: profiles}
	if err := os.Mkdir(s.dir, 0o700); err != nil {
		return nil, err
	}
	return s, s.build(ctx)
}

func (*sallyport) name() string { return "sallyport" }

// build makes the two programs as they are shipped; with the means to profile
// them, when that is asked for.
func (s *sallyport) build(ctx context.Context) error {
	args := []string{"build", "-trimpath", "-ldflags", "-s -w", "-o", s.dir + "/"}
	if s.profiles != "" {
		if err := os.MkdirAll(s.profiles, 0o755); err != nil {
			return err
		}
		overlay, err := s.overlay(ctx)
		if err != nil {
			return err
		}
		args = append(args, "-overlay", overlay)
	}
	cmd := exec.CommandContext(ctx, "go", append(args, "sallyport/cmd/sallyport-edge", "sallyport/cmd/sallyport-core")...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	return nil
}

// overlay writes what adds the profiler to both programs.
func (s *sallyport) overlay(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "sallyport").Output()
	if err != nil {
		return "", fmt.Errorf("go list: %w", err)
	}
	module := string(out[:len(out)-1])
	source := filepath.Join(s.dir, "profile.go")
	if err := os.WriteFile(source, []byte(profileSource), 0o600); err != nil {
		return "", err
	}
	replace := make(map[string]string)
	for _, name := range []string{"sallyport-edge", "sallyport-core"} {
		replace[filepath.Join(module, "cmd", name, "profile.go")] = source
	}
	text, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	file := filepath.Join(s.dir, "overlay.json")
	return file, os.WriteFile(file, text, 0o600)
}

func (s *sallyport) start(ctx context.Context, pbx string, pushed func(string, time.Time)) (*running, error) {
	addrs, err := freeAddrs(7)
	if err != nil {
		return nil, err
	}
	s.turn++
	dir := filepath.Join(s.dir, fmt.Sprint(s.turn)) // a fresh store each time
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	https, sips, tunnel, sip := addrs[0], addrs[1], addrs[2], addrs[3]
	r := &running{sips: sips, https: https, core: sip, path: "/ws", profiles: s.profiles, sleep: loadgen.Sleep{Known: true, Settle: 500 * time.Millisecond}}
	apns, stop, err := startAPNs(addrs[4], pushed)
	if err != nil {
		return nil, err
	}
	r.stops = append(r.stops, stop)
	pushCA, key, keyID, team, err := apns.WriteFiles(filepath.Join(dir, "apns"))
	if err != nil {
		r.close()
		return nil, err
	}
	r.push = func(user string) string {
		voip, alert := sha256.Sum256([]byte("voip"+user)), sha256.Sum256([]byte("alert"+user))
		return fmt.Sprintf(";pn-provider=apns;pn-param=%s.%s.voip&remote;pn-prid=%x:voip&%x:remote", team, app, voip, alert)
	}
	bundles, err := issue(filepath.Join(dir, "ca"))
	if err != nil {
		r.close()
		return nil, err
	}
	for _, one := range []struct{ name, config, admin string }{
		{"edge", fmt.Sprintf(edgeConfig, https, sips, bundles[0], tunnel, addrs[5]), ""},
		{"core", fmt.Sprintf(coreConfig, tunnel, bundles[1], sip, pbx, team, keyID, key, addrs[4], pushCA, filepath.Join(dir, "store"), addrs[6]), addrs[6]},
	} {
		if err := s.part(ctx, r, dir, one.name, one.config, one.admin); err != nil {
			r.close()
			return nil, err
		}
	}
	return r, nil
}

// part runs one half and waits for it, the core until it has a tunnel.
func (s *sallyport) part(ctx context.Context, r *running, dir, name, config, admin string) error {
	file := filepath.Join(dir, name+".toml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return err
	}
	p, err := launch(name, dir, filepath.Join(s.dir, "sallyport-"+name), "-config", file)
	if err != nil {
		return err
	}
	r.parts = append(r.parts, p)
	return p.until(ctx, func() error {
		if admin == "" {
			return accepts(r.sips)
		}
		resp, err := http.Get("http://" + admin + "/readyz")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("readyz: %s", resp.Status)
		}
		return nil
	})
}

// issue makes the bundles of edge and core.
func issue(dir string) (bundles [2]string, err error) {
	if err = ca.Init(dir); err != nil {
		return bundles, err
	}
	if bundles[0], err = ca.Issue(dir, certs.RoleEdge, "127.0.0.1", 30); err != nil {
		return bundles, err
	}
	bundles[1], err = ca.Issue(dir, certs.RoleCore, "core1", 30)
	return bundles, err
}

// startAPNs runs Apple's push service as simulated.
func startAPNs(addr string, pushed func(string, time.Time)) (*pushtest.APNs, func(), error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, nil, err
	}
	apns := pushtest.NewAPNs(pushtest.APNsConfig{AnyToken: true})
	apns.OnPush = func(p pushtest.Push) {
		var says struct {
			CallID string `json:"call_id"`
		}
		if json.Unmarshal(p.Payload, &says) == nil {
			pushed(says.CallID, p.At)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = apns.Serve(ctx, l)
	}()
	return apns, func() { cancel(); <-done }, nil
}
