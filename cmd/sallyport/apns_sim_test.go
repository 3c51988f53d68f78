package main

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/core/push"
	"sallyport/core/push/apns"
	"sallyport/core/push/pushtest"
)

// The simulator's output is enough to set up an app that pushes to it.
func TestApnsSimTakesPushesOfAnAppSetUpByItsOutput(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	done := make(chan error, 1)
	sim := &apnsSimCmd{Listen: "127.0.0.1:0", Dir: dir, Control: "127.0.0.1:0", Environment: "production"}
	go func() { done <- sim.serve(ctx, w); w.Close() }()

	lines := bufio.NewScanner(r)
	got := map[string]string{}
	for got["ca_file"] == "" && lines.Scan() {
		line := strings.TrimPrefix(lines.Text(), "# ")
		if key, value, ok := strings.Cut(line, " = "); ok {
			got[key] = strings.Trim(value, `"`)
		}
		if api, ok := strings.CutPrefix(line, "control API: "); ok {
			got["control"], _, _ = strings.Cut(api, " ")
		}
	}
	c, err := apns.New(apns.Config{
		BundleID: "org.example.phone", TeamID: got["team_id"], KeyID: got["key_id"], KeyFile: got["key_file"],
		Endpoint: got["endpoint"], CAFile: got["ca_file"],
	}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if info, err := os.Stat(got["key_file"]); err != nil || info.Mode().Perm() != 0o600 || filepath.Dir(got["key_file"]) != dir {
		t.Errorf("key file %v, %v", info, err)
	}
	token := pushtest.NewToken()
	n := push.Notification{
		ID: "00000000-0000-4000-8000-000000000001", Token: push.Token{Value: token},
		Channel: push.VoIP, Urgent: true, Payload: []byte(`{"aps":{}}`),
	}
	sent := make(chan push.Result, 1)
	go func() { sent <- c.Send(ctx, n) }()
	if !lines.Scan() {
		t.Fatal("no line for the push")
	}
	line := lines.Text()
	if res := <-sent; res.Outcome != push.Accepted {
		t.Fatalf("outcome %+v", res)
	}
	if !strings.Contains(line, "status=200") || !strings.Contains(line, token[len(token)-6:]) || strings.Contains(line, token) {
		t.Errorf("line %q", line)
	}
	client := http.Client{Timeout: 5 * time.Second}
	resp, err := client.Get(got["control"] + "/pushes")
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	client.CloseIdleConnections()
	if !strings.Contains(string(body), n.ID) || strings.Contains(string(body), token) {
		t.Errorf("GET /pushes: %s", body)
	}
	cancel()
	go func() { _, _ = io.Copy(io.Discard, r) }()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
