package interop

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// JsSIPConfig says who a JsSIP client is.
type JsSIPConfig struct {
	URL      string // wss://HOST:PORT/ws
	AOR      string // sip:user@domain
	Password string
	CAFile   string            // PEM that the server's certificate is checked against
	Instance string            // a UUID without urn:uuid:; empty means JsSIP's own
	Push     map[string]string // URI parameters of the contact, pn-*
}

// JsSIP is a SIP over WebSocket client as a web page would be one.
type JsSIP struct {
	*Process
	events *events
	t      testing.TB
}

// StartJsSIP runs the client; it connects and registers by itself.
func StartJsSIP(t testing.TB, cfg JsSIPConfig) *JsSIP {
	t.Helper()
	node := Need(t, "node")
	if _, err := os.Stat(filepath.Join("jssip", "node_modules", "jssip")); err != nil {
		lack(t, "JsSIP is not installed; test/interop/setup installs it")
	}
	j := &JsSIP{events: newEvents(), t: t}
	j.Process = launch(t, spec{name: "jssip", path: node, args: []string{"client.js"}, dir: "jssip", stdin: true, stdout: j.events})
	ctx, cancel := context.WithTimeout(t.Context(), startLimit)
	defer cancel()
	j.Expect(ctx, "ready")
	start := map[string]any{
		"do": "start", "url": cfg.URL, "uri": cfg.AOR, "password": cfg.Password, "cafile": cfg.CAFile,
	}
	if cfg.Instance != "" {
		start["instance"] = cfg.Instance
	}
	if cfg.Push != nil {
		start["push"] = cfg.Push
	}
	j.Do(start)
	return j
}

// Do sends one command of client.js.
func (j *JsSIP) Do(command map[string]any) {
	j.t.Helper()
	line, err := json.Marshal(command)
	if err == nil {
		_, err = j.stdin.Write(append(line, '\n'))
	}
	if err != nil {
		j.t.Fatalf("jssip: %v: %v", command["do"], err)
	}
}

// Tell sends a command that needs no more than its name.
func (j *JsSIP) Tell(command string) {
	j.t.Helper()
	j.Do(map[string]any{"do": command})
}

// Call calls a SIP URI.
func (j *JsSIP) Call(to string) {
	j.t.Helper()
	j.Do(map[string]any{"do": "call", "to": to})
}

// Expect waits for the next event of that name.
func (j *JsSIP) Expect(ctx context.Context, name string) Event {
	j.t.Helper()
	ev, err := j.events.expect(ctx, name, j.exited, "error")
	if err != nil {
		j.t.Fatalf("jssip: %v", err)
	}
	return ev
}

// Count returns how often an event of that name was told.
func (j *JsSIP) Count(name string) int { return j.events.count(name) }
