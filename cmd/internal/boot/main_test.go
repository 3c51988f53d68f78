package boot_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"sallyport/cmd/internal/boot"
	"sallyport/tunnel/unit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// config has one field of each kind that real configs have.
type config struct {
	Tunnel struct {
		Listen string    `toml:"listen"`
		Edges  []string  `toml:"edges"`
		Max    unit.Size `toml:"max"`
	} `toml:"tunnel"`
	Wake struct {
		Window  unit.Duration `toml:"window"`
		InFront bool          `toml:"call_push_in_foreground"`
		Tries   int           `toml:"tries"`
	} `toml:"wake"`
	SIP struct {
		Domains []struct {
			Name     string `toml:"name"`
			Upstream any    `toml:"upstream,omitempty"`
		} `toml:"domain"`
	} `toml:"sip"`
	Admin struct {
		Listen string `toml:"listen"`
	} `toml:"admin"`
	Log struct {
		Level  string `toml:"level"`
		Format string `toml:"format"`
	} `toml:"log"`
}

func defaults() config {
	var c config
	c.Tunnel.Edges = []string{"a:1", "b:2"}
	c.Tunnel.Max = 64 << 10
	c.Wake.Window = unit.Duration{Duration: 13e9}
	c.Wake.Tries = 3
	c.Log.Level, c.Log.Format = "info", "json"
	return c
}

func (c *config) Validate() error {
	var faults []error
	if c.Wake.Window.Seconds() < 1 {
		faults = append(faults, fmt.Errorf("wake.window: must be 1s to 60s (got %s)", c.Wake.Window))
	}
	if c.Wake.Tries < 1 {
		faults = append(faults, fmt.Errorf("wake.tries: must be positive (got %d)", c.Wake.Tries))
	}
	return errors.Join(faults...)
}

// server is a service that records what happens to it.
type server struct {
	drain, started chan struct{}
	ready          bool
	ignoresDrain   bool
	fail           error

	mu       sync.Mutex
	reloaded []config
	reloads  chan struct{}
}

func newServer() *server {
	return &server{drain: make(chan struct{}), started: make(chan struct{}), reloads: make(chan struct{}, 4), ready: true}
}

func (s *server) Run(ctx context.Context) error {
	close(s.started)
	if s.fail != nil {
		return s.fail
	}
	drained := s.drain
	if s.ignoresDrain {
		drained = nil
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-drained:
		return nil
	}
}

func (s *server) Drain()          { close(s.drain) }
func (s *server) Ready() bool     { return s.ready }
func (s *server) Notes() []string { return []string{"a certificate ends soon"} }

func (s *server) Reload(c config) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reloaded = append(s.reloaded, c)
	s.reloads <- struct{}{}
	return nil
}

// run is one execution of a service under test.
type run struct {
	stdout, stderr syncBuffer
	signals        chan os.Signal
	code           chan int
}

func program(s *server) boot.Program[config] {
	return boot.Program[config]{
		Name: "edge", Version: "1.2.3", Defaults: defaults,
		New:   func(config, boot.Deps) (boot.Server, error) { return s, nil },
		Log:   func(c *config) boot.Log { return boot.Log{Level: c.Log.Level, Format: c.Log.Format, Redact: true} },
		Admin: func(c *config) string { return c.Admin.Listen },
	}
}

func start(t *testing.T, s *server, env []string, args ...string) *run {
	t.Helper()
	r := &run{signals: make(chan os.Signal), code: make(chan int, 1)}
	r.stderr.wrote = make(chan struct{}, 100)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.code <- program(s).Execute(ctx, boot.Process{
			Args: args, Env: env, Stdout: &r.stdout, Stderr: &r.stderr, Signals: r.signals,
		})
	}()
	t.Cleanup(func() { cancel(); <-done })
	return r
}

// file writes a config and returns its path.
func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "edge.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// syncBuffer is a buffer that the service writes while the test reads.
type syncBuffer struct {
	mu    sync.Mutex
	buf   bytes.Buffer
	wrote chan struct{} // told of each write, where it is not nil
}

// await returns once the text has been written.
func (b *syncBuffer) await(text string) {
	for !strings.Contains(b.String(), text) {
		<-b.wrote
	}
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case b.wrote <- struct{}{}:
	default:
	}
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func contains(t *testing.T, what, text string, wants ...string) {
	t.Helper()
	for _, want := range wants {
		if !strings.Contains(text, want) {
			t.Errorf("%s: want %q in\n%s", what, want, text)
		}
	}
}
