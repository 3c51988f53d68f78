package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"

	"sallyport/cmd/internal/boot"
	"sallyport/core"
	"sallyport/core/push"
	"sallyport/core/push/fcm"
	"sallyport/core/push/pushtest"
	"sallyport/core/push/webpush"
)

// runningSim is the command of a simulator with what it printed.
type runningSim struct {
	t       *testing.T
	ctx     context.Context
	got     map[string]string // the settings it printed, and "control"
	printed string            // all of it, without the marks of comments
	lines   *bufio.Scanner
	end     func() (rest string)
}

// simCommand is a command that runs a simulator.
type simCommand interface {
	serve(ctx context.Context, out io.Writer) error
}

// startCommand runs the command with flags until the test ends it.
func startCommand(t *testing.T, sim simCommand, flags ...string) *runningSim {
	t.Helper()
	parser, err := kong.New(sim)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parser.Parse(append([]string{"--listen=127.0.0.1:0", "--control=127.0.0.1:0"}, flags...)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- sim.serve(ctx, w); w.Close() }()
	s := &runningSim{t: t, ctx: ctx, got: map[string]string{}, lines: bufio.NewScanner(r)}
	ended := false
	s.end = func() string {
		if ended {
			return ""
		}
		ended = true
		cancel()
		rest, _ := io.ReadAll(r)
		if err := <-done; err != nil {
			t.Error(err)
		}
		return string(rest)
	}
	t.Cleanup(func() { s.end() })
	for s.got["ca_file"] == "" && s.lines.Scan() {
		line := strings.TrimPrefix(s.lines.Text(), "# ")
		s.printed += s.lines.Text() + "\n" // as it is pasted
		if key, value, ok := strings.Cut(line, " = "); ok {
			s.got[key] = strings.Trim(value, `"`)
		}
		if api, ok := strings.CutPrefix(line, "control API: "); ok {
			s.got["control"], _, _ = strings.Cut(api, " ")
		}
	}
	return s
}

func (s *runningSim) get(path string) string {
	s.t.Helper()
	client := http.Client{Timeout: 5 * time.Second}
	defer client.CloseIdleConnections()
	resp, err := client.Get(s.got["control"] + path)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(body)
}

// app is the only [[push.app]] of what the simulator printed, as a core reads
// it.
func (s *runningSim) app() core.AppConfig {
	s.t.Helper()
	_, section, ok := strings.Cut(s.printed, "for core.toml:\n")
	if !ok {
		s.t.Fatalf("no section in %q", s.printed)
	}
	file := filepath.Join(s.t.TempDir(), "core.toml")
	config := "[tunnel]\nedges = [\"edge.example.com:7443\"]\nidentity = \"core.pem\"\n" +
		"[sip]\nlisten = [\"tcp:127.0.0.1:5060\"]\nadvertise = \"127.0.0.1:5060\"\n" +
		"[[sip.domain]]\nname = \"example.com\"\nusers_file = \"users\"\n" + section
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		s.t.Fatal(err)
	}
	cfg, err := boot.Load(core.DefaultConfig, file, nil)
	if err != nil {
		s.t.Fatalf("%v\n%s", err, config)
	}
	if len(cfg.Push.Apps) != 1 {
		s.t.Fatalf("%d apps", len(cfg.Push.Apps))
	}
	return cfg.Push.Apps[0]
}

// send pushes n and returns the outcome with the line printed for it.
func (s *runningSim) send(sender push.Sender, n push.Notification) (push.Result, string) {
	s.t.Helper()
	n.ID = "00000000-0000-4000-8000-000000000001"
	sent := make(chan push.Result, 1)
	go func() { sent <- sender.Send(s.ctx, n) }()
	if !s.lines.Scan() {
		s.t.Fatal("no line for the push")
	}
	return <-sent, s.lines.Text()
}

func (s *runningSim) fcm() *fcm.Client {
	s.t.Helper()
	a := s.app()
	c, err := fcm.New(fcm.Config{
		Package: a.ID, ServiceAccount: a.ServiceAccount, Project: a.Project, Endpoint: a.Endpoint, CAFile: a.CAFile,
	}, nil, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(c.Close)
	return c
}

func (s *runningSim) webpush() *webpush.Client {
	s.t.Helper()
	a := s.app()
	c, err := webpush.New(webpush.Config{
		App: a.ID, KeyFile: a.VAPIDKey, Subject: a.Subject, Allow: a.Allow, CAFile: a.CAFile,
	}, nil, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(c.Close)
	return c
}

// isPrivate checks that a file is in dir and its owner's alone.
func isPrivate(t *testing.T, dir, file string) {
	t.Helper()
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 || filepath.Dir(file) != dir {
		t.Errorf("%s: %v, %v", file, info, err)
	}
}

// The simulator's output is enough to set up an app that pushes to it.
func TestFcmSimTakesPushesOfAnAppSetUpByItsOutput(t *testing.T) {
	dir := t.TempDir()
	s := startCommand(t, &fcmSimCmd{}, "--dir="+dir, "--status=404", "--reason=UNREGISTERED", "--every=2", "--fault-count=1")
	c := s.fcm()
	isPrivate(t, dir, s.got["service_account"])
	token := pushtest.NewFCMToken()
	n := push.Notification{
		Token: push.Token{Provider: push.ProviderFCM, Value: token}, Data: map[string]string{"event": "a secret"}, Urgent: true, Priority: 10,
	}
	for i, want := range []struct {
		outcome push.Outcome
		line    string
	}{
		{push.Accepted, "status=200"}, {push.DeadToken, "status=404 reason=UNREGISTERED"}, {push.Accepted, "status=200"},
	} {
		r, line := s.send(c, n)
		if r.Outcome != want.outcome || !strings.Contains(line, want.line) {
			t.Errorf("push %d: %+v, line %q", i+1, r, line)
		}
		if strings.Contains(line, token) || !strings.Contains(line, token[len(token)-6:]) || strings.Contains(line, "a secret") {
			t.Errorf("line %q", line)
		}
	}
	if body := s.get("/pushes"); strings.Count(body, `"ttl":"0s"`) != 3 || strings.Contains(body, token) {
		t.Errorf("GET /pushes: %s", body)
	}
	if rest := s.end(); rest != "" {
		t.Errorf("a good client's end: %q", rest)
	}
}

func TestWebpushSimTakesPushesOfAnAppSetUpByItsOutput(t *testing.T) {
	dir := t.TempDir()
	s := startCommand(t, &webpushSimCmd{}, "--dir="+dir, "--status=429", "--retry-after=17s", "--every=2", "--fault-count=1")
	c := s.webpush()
	isPrivate(t, dir, s.got["vapid_key"])
	isPrivate(t, dir, filepath.Join(dir, "subscription.json"))
	text, err := os.ReadFile(filepath.Join(dir, "subscription.json"))
	if err != nil {
		t.Fatal(err)
	}
	var sub struct {
		Endpoint string
		Keys     struct{ P256dh, Auth string }
	}
	if err := json.Unmarshal(text, &sub); err != nil {
		t.Fatal(err)
	}
	n := push.Notification{
		Token:   push.Token{Provider: push.ProviderWebPush, Value: sub.Endpoint, Key: sub.Keys.P256dh, Auth: sub.Keys.Auth},
		Payload: []byte(`{"event":"a secret"}`), Urgent: true, Priority: 10,
	}
	if r, line := s.send(c, n); r.Outcome != push.Accepted || !strings.Contains(line, "status=201") ||
		strings.Contains(line, sub.Endpoint) || strings.Contains(line, "a secret") || strings.Contains(line, "sealed") {
		t.Errorf("%+v, line %q", r, line)
	}
	if r, line := s.send(c, n); r.Retry < 17*time.Second || !strings.Contains(line, "status=429") {
		t.Errorf("%+v, line %q", r, line)
	}
	if body := s.get("/pushes"); strings.Count(body, `"subject":"mailto:ops@example.com"`) != 2 || strings.Contains(body, sub.Endpoint) {
		t.Errorf("GET /pushes: %s", body)
	}
	if rest := s.end(); rest != "" {
		t.Errorf("a good client's end: %q", rest)
	}
}

func TestSimsRefuseFlagsThatMakeNoSense(t *testing.T) {
	for flag, sim := range map[string]any{
		"--status=20":        &fcmSimCmd{},
		"--max-streams=0":    &fcmSimCmd{},
		"--per-minute=0":     &fcmSimCmd{},
		"--token-life=0s":    &fcmSimCmd{},
		"--retry-after=-1s":  &fcmSimCmd{},
		"--oauth-status=200": &fcmSimCmd{},
		"--every=0":          &webpushSimCmd{},
		"--max-body=4095":    &webpushSimCmd{},
		"--max-ttl=0s":       &webpushSimCmd{},
		"--conn-requests=-1": &webpushSimCmd{},
		"--redirect=inside":  &webpushSimCmd{},
	} {
		parser, err := kong.New(sim)
		if err != nil {
			t.Fatal(err)
		}
		name, _, _ := strings.Cut(flag, "=")
		if _, err := parser.Parse([]string{"--dir=x", flag}); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", flag, err)
		}
	}
}

// A directory that cannot be made ends the command with a word about it.
func TestSimsSayWhatTheyCannotWrite(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, sim := range []simCommand{&fcmSimCmd{}, &webpushSimCmd{}} {
		parser, err := kong.New(sim)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parser.Parse([]string{"--listen=127.0.0.1:0", "--dir=" + file}); err != nil {
			t.Fatal(err)
		}
		if err := sim.serve(t.Context(), io.Discard); err == nil || !strings.Contains(err.Error(), "--dir") {
			t.Errorf("%T: %v", sim, err)
		}
	}
}
