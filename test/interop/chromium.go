package interop

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"sallyport/test/process"
)

// Chromium is Debian's browser without a screen. It is driven by the DevTools
// protocol over a pair of pipes: JSON messages that end with a NUL.
type Chromium struct {
	*process.Process
	t testing.TB
	w *os.File // commands

	mu sync.Mutex
	// Guarded by mu.
	last    int
	replies map[int]chan devtools
	pages   map[string]*WebPage // by session
}

// devtools is a command, a reply or an event of the protocol.
type devtools struct {
	ID      int             `json:"id,omitempty"`
	Session string          `json:"sessionId,omitempty"`
	Method  string          `json:"method,omitempty"`
	Params  json.RawMessage `json:"params,omitempty"`
	Result  json.RawMessage `json:"result,omitempty"`
	Error   *struct {
		Message string `json:"message"`
	} `json:"error,omitempty"`
}

// StartChromium runs a browser with microphones made up and calls over loopback
// allowed. trusted are the public keys it takes certificates of (base64 of their
// SHA-256, RFC 7469 §2.4).
func StartChromium(t testing.TB, trusted string) *Chromium {
	t.Helper()
	path := needAny(t, "chromium-headless-shell", "chromium")
	c := &Chromium{t: t, replies: map[int]chan devtools{}, pages: map[string]*WebPage{}}
	commands, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r, told, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	c.w = w
	dir := process.TempDir(t)
	c.Process = process.Launch(t, process.Spec{
		Name: "chromium", Path: path, Dir: dir, Files: []*os.File{commands, told},
		Env: []string{"HOME=" + dir, "XDG_CONFIG_HOME=" + dir, "XDG_CACHE_HOME=" + dir},
		Args: []string{
			"--headless", "--remote-debugging-pipe", "--user-data-dir=" + filepath.Join(dir, "data"),
			"--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--no-proxy-server",
			"--disable-background-networking", "--disable-component-update", "--disable-extensions",
			"--ignore-certificate-errors-spki-list=" + trusted,
			"--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream", "--allow-loopback-in-peer-connection",
			"--disable-audio-output", "--autoplay-policy=no-user-gesture-required",
		},
	})
	commands.Close()
	told.Close()
	heard := make(chan struct{})
	go func() {
		defer close(heard)
		c.listen(r)
	}()
	t.Cleanup(func() {
		w.Close()
		c.End()
		<-heard
		r.Close()
	})
	return c
}

// needAny returns the path of the first of some programs that is there.
func needAny(t testing.TB, programs ...string) string {
	t.Helper()
	for _, name := range programs[:len(programs)-1] {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return process.Need(t, programs[len(programs)-1])
}

// listen hands out replies and what pages tell until the browser ends.
func (c *Chromium) listen(r *os.File) {
	in := bufio.NewReader(r)
	for {
		text, err := in.ReadBytes(0)
		if err != nil {
			return
		}
		var m devtools
		if json.Unmarshal(text[:len(text)-1], &m) != nil {
			continue
		}
		c.mu.Lock()
		reply, page := c.replies[m.ID], c.pages[m.Session]
		delete(c.replies, m.ID)
		c.mu.Unlock()
		switch {
		case reply != nil:
			reply <- m
		case page != nil:
			page.hear(m)
		}
	}
}

// do sends a command to a session ("" is the browser's own), and decodes its
// result into a value unless that is nil.
func (c *Chromium) do(session, method string, params, into any) error {
	text, err := json.Marshal(params)
	if err != nil {
		return err
	}
	reply := make(chan devtools, 1)
	c.mu.Lock()
	c.last++
	id := c.last
	c.replies[id] = reply
	text, err = json.Marshal(devtools{ID: id, Session: session, Method: method, Params: text})
	if err == nil {
		_, err = c.w.Write(append(text, 0))
	}
	c.mu.Unlock()
	if err != nil {
		return err
	}
	select {
	case m := <-reply:
		if m.Error != nil {
			return fmt.Errorf("%s: %s", method, m.Error.Message)
		}
		if into == nil {
			return nil
		}
		return json.Unmarshal(m.Result, into)
	case <-c.Exited():
		return errors.New(method + ": the browser has ended")
	case <-time.After(process.StartLimit):
		return errors.New(method + ": no reply")
	}
}

func (c *Chromium) must(session, method string, params, into any) {
	c.t.Helper()
	if err := c.do(session, method, params, into); err != nil {
		c.t.Fatalf("chromium: %v", err)
	}
}

// WebPage is a JsSIP client in a page of a browser.
type WebPage struct {
	*WebPhone
	browser *Chromium
	session string
	target  string
}

type fields = map[string]any

// Open opens a page; it connects and registers by itself.
func (c *Chromium) Open(url string, cfg WebPhoneConfig) *WebPage {
	c.t.Helper()
	var made struct{ TargetID, SessionID string }
	c.must("", "Target.createTarget", fields{"url": "about:blank"}, &made)
	c.must("", "Target.attachToTarget", fields{"targetId": made.TargetID, "flatten": true}, &made)
	p := &WebPage{
		WebPhone: &WebPhone{name: "page", events: newEvents(), over: c.Exited(), t: c.t},
		browser:  c, session: made.SessionID, target: made.TargetID,
	}
	p.send = func(command []byte) error {
		return c.do(p.session, "Runtime.evaluate", fields{"expression": "command(" + string(command) + "), 0"}, nil)
	}
	c.mu.Lock()
	c.pages[p.session] = p
	c.mu.Unlock()
	c.must(p.session, "Runtime.enable", fields{}, nil)
	c.must(p.session, "Page.enable", fields{}, nil)
	c.must(p.session, "Runtime.addBinding", fields{"name": "tell"}, nil)
	c.must(p.session, "Page.navigate", fields{"url": url}, nil)
	p.begin(cfg)
	return p
}

// hear takes an event of the protocol: what the page tells, and what its
// console shows, which goes to the log of a test that failed.
func (p *WebPage) hear(m devtools) {
	var said struct{ Name, Payload string }
	switch m.Method {
	case "Runtime.bindingCalled":
		if json.Unmarshal(m.Params, &said) == nil && said.Name == "tell" {
			_, _ = p.events.Write([]byte(said.Payload + "\n"))
		}
	case "Runtime.exceptionThrown", "Runtime.consoleAPICalled":
		p.browser.Notef("%s: %s\n", m.Method, m.Params)
	}
}

// Minimize puts the page into the background, where it still runs.
func (p *WebPage) Minimize() { p.window("minimized") }

// Show brings the page to the front.
func (p *WebPage) Show() { p.window("normal") }

func (p *WebPage) window(state string) {
	p.t.Helper()
	var window struct{ WindowID int }
	p.browser.must("", "Browser.getWindowForTarget", fields{"targetId": p.target}, &window)
	p.browser.must("", "Browser.setWindowBounds", fields{"windowId": window.WindowID, "bounds": fields{"windowState": state}}, nil)
}

// Freeze stops the page, as a browser does with one that is long in the
// background: nothing of it runs, though the browser still holds its socket.
func (p *WebPage) Freeze() { p.lifecycle("frozen") }

// Thaw lets the page go on.
func (p *WebPage) Thaw() { p.lifecycle("active") }

func (p *WebPage) lifecycle(state string) {
	p.t.Helper()
	p.browser.must(p.session, "Page.setWebLifecycleState", fields{"state": state}, nil)
}

// CloseTab closes the page as a user does.
func (p *WebPage) CloseTab() {
	p.t.Helper()
	p.browser.must("", "Target.closeTarget", fields{"targetId": p.target}, nil)
}
