package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"sallyport/core/push"
	"sallyport/core/push/apns"
	"sallyport/core/push/pushtest"
)

// startSim runs `sallyport apns-sim` with flags until the test ends it.
func startSim(t *testing.T, flags ...string) *runningSim {
	t.Helper()
	return startCommand(t, &apnsSimCmd{}, flags...)
}

// client is an app set up by what the simulator printed.
func (s *runningSim) client() *apns.Client {
	s.t.Helper()
	c, err := apns.New(apns.Config{
		BundleID: "org.example.phone", TeamID: s.got["team_id"], KeyID: s.got["key_id"], KeyFile: s.got["key_file"],
		Endpoint: s.got["endpoint"], CAFile: s.got["ca_file"],
	}, nil, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(c.Close)
	return c
}

// push sends a call, or a note, and returns the outcome with the lines printed
// for it.
func (s *runningSim) push(c *apns.Client, token string, call bool, lines int) (push.Result, string) {
	s.t.Helper()
	n := push.Notification{ID: "00000000-0000-4000-8000-000000000001", Token: push.Token{Value: token}, Payload: []byte(`{"aps":{}}`)}
	if call {
		n.Channel, n.Urgent = push.VoIP, true
	}
	sent := make(chan push.Result, 1)
	go func() { sent <- c.Send(s.ctx, n) }()
	var printed []string
	for range lines {
		if !s.lines.Scan() {
			s.t.Fatal("no line for the push")
		}
		printed = append(printed, s.lines.Text())
	}
	return <-sent, strings.Join(printed, "\n")
}

// The simulator's output is enough to set up an app that pushes to it.
func TestApnsSimTakesPushesOfAnAppSetUpByItsOutput(t *testing.T) {
	dir := t.TempDir()
	s := startSim(t, "--dir="+dir)
	if info, err := os.Stat(s.got["key_file"]); err != nil || info.Mode().Perm() != 0o600 || filepath.Dir(s.got["key_file"]) != dir {
		t.Errorf("key file %v, %v", info, err)
	}
	token := pushtest.NewToken()
	r, line := s.push(s.client(), token, true, 1)
	if r.Outcome != push.Accepted {
		t.Fatalf("outcome %+v", r)
	}
	if !strings.Contains(line, "status=200") || !strings.Contains(line, token[len(token)-6:]) || strings.Contains(line, token) {
		t.Errorf("line %q", line)
	}
	if body := s.get("/pushes"); !strings.Contains(body, "00000000-0000-4000-8000-000000000001") || strings.Contains(body, token) {
		t.Errorf("GET /pushes: %s", body)
	}
	if rest := s.end(); rest != "" {
		t.Errorf("a good client's end: %q", rest)
	}
}

func TestApnsSimFailsAsItsFlagsSay(t *testing.T) {
	s := startSim(t, "--dir="+t.TempDir(), "--latency=1ms", "--handshake-delay=1ms", "--goaway-after=1",
		"--status=503", "--reason=ServiceUnavailable", "--every=2", "--fault-count=1", "--max-streams=50", "--conn-rate=1")
	c, token := s.client(), pushtest.NewToken()
	for i, want := range []struct {
		outcome push.Outcome
		line    string
	}{
		{push.Accepted, "status=200"},
		{push.ProviderDown, "status=503 reason=ServiceUnavailable"},
		{push.Accepted, "status=200"},
	} {
		if r, line := s.push(c, token, false, 1); r.Outcome != want.outcome || !strings.Contains(line, want.line) {
			t.Errorf("push %d: %s %s, line %q", i+1, r.Outcome, r.Reason, line)
		}
	}
	if body := s.get("/stats"); !strings.HasPrefix(body, `{"connections":2,`) {
		t.Errorf("after GOAWAY: %s", body)
	}
	if rest := s.end(); !strings.Contains(rest, "# violation: connection 2: more than 1 connections") {
		t.Errorf("the end: %q", rest)
	}
}

func TestApnsSimRefusesFlagsThatMakeNoSense(t *testing.T) {
	for want, flag := range map[string]string{
		"--status": "--status=20", "--every": "--every=0", "--fault-count": "--fault-count=-1",
		"--latency": "--latency=-1s", "--goaway-after": "--goaway-after=-1",
	} {
		parser, err := kong.New(&apnsSimCmd{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parser.Parse([]string{"--dir=x", flag}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", flag, err)
		}
	}
}
