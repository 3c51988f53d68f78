package interop

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"sallyport/test/process"
)

// WebPhoneConfig says who a SIP over WebSocket client is.
type WebPhoneConfig struct {
	URL      string // wss://HOST:PORT/ws
	AOR      string // sip:user@domain
	Password string
	CAFile   string            // PEM that the server's certificate is checked against; a browser has its own
	Instance string            // a UUID without urn:uuid:; empty means one of the library's own
	Push     map[string]string // URI parameters of the contact, pn-*
}

// WebPhone is a SIP over WebSocket client: a library under Node.js, or in a
// page of a browser. All of them know the same commands and tell the same events.
type WebPhone struct {
	name   string
	events *events
	over   <-chan struct{}      // closed when it cannot tell anything any more
	send   func(p []byte) error // takes one command
	t      testing.TB
}

// StartJsSIP runs JsSIP under Node.js; it connects and registers by itself.
func StartJsSIP(t testing.TB, cfg WebPhoneConfig) *WebPhone {
	t.Helper()
	return startNode(t, "jssip", "jssip", cfg)
}

// StartSIPJS runs SIP.js under Node.js; it connects and registers by itself.
// It sends a CRLF keep-alive each second and tells "pong" when one is answered.
func StartSIPJS(t testing.TB, cfg WebPhoneConfig) *WebPhone {
	t.Helper()
	return startNode(t, "sipjs", "sip.js", cfg)
}

// startNode runs client.js in dir, which needs a module there.
func startNode(t testing.TB, dir, module string, cfg WebPhoneConfig) *WebPhone {
	t.Helper()
	node := process.Need(t, "node")
	needModule(t, dir, module)
	w := &WebPhone{name: dir, events: newEvents(), t: t}
	p := process.Launch(t, process.Spec{Name: dir, Path: node, Args: []string{"client.js"}, Dir: dir, Stdin: true, Stdout: w.events})
	w.over = p.Exited()
	w.send = func(line []byte) error {
		_, err := p.Stdin().Write(append(line, '\n'))
		return err
	}
	w.begin(cfg)
	return w
}

// needModule ends the test where npm has not installed a module.
func needModule(t testing.TB, dir, module string) {
	t.Helper()
	if _, err := os.Stat(filepath.Join(dir, "node_modules", module)); err != nil {
		process.Lack(t, module+" is not installed; test/interop/setup installs it")
	}
}

// begin waits until the client hears commands, and gives the first.
func (w *WebPhone) begin(cfg WebPhoneConfig) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), process.StartLimit)
	defer cancel()
	w.Expect(ctx, "ready")
	start := map[string]any{
		"do": "start", "url": cfg.URL, "uri": cfg.AOR, "password": cfg.Password, "cafile": cfg.CAFile,
	}
	if cfg.Instance != "" {
		start["instance"] = cfg.Instance
	}
	if cfg.Push != nil {
		start["push"] = cfg.Push
	}
	w.Do(start)
}

// Do sends one command.
func (w *WebPhone) Do(command map[string]any) {
	w.t.Helper()
	line, err := json.Marshal(command)
	if err == nil {
		err = w.send(line)
	}
	if err != nil {
		w.t.Fatalf("%s: %v: %v", w.name, command["do"], err)
	}
}

// Tell sends a command that needs no more than its name.
func (w *WebPhone) Tell(command string) {
	w.t.Helper()
	w.Do(map[string]any{"do": command})
}

// Call calls a SIP URI.
func (w *WebPhone) Call(to string) {
	w.t.Helper()
	w.Do(map[string]any{"do": "call", "to": to})
}

// Expect waits for the next event of that name.
func (w *WebPhone) Expect(ctx context.Context, name string) Event {
	w.t.Helper()
	ev, err := w.events.expect(ctx, name, w.over, "error")
	if err != nil {
		w.t.Fatalf("%s: %v", w.name, err)
	}
	return ev
}

// Count returns how often an event of that name was told.
func (w *WebPhone) Count(name string) int { return w.events.count(name) }
