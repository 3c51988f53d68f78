package fcm_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"sallyport/core/push"
	"sallyport/core/push/fcm"
	"sallyport/core/push/pushtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const pkg = "org.example.phone"

// google is a simulator that serves until the test ends.
type google struct {
	*pushtest.FCM
	t     *testing.T
	files string
	dial  func(ctx context.Context, network, addr string) (net.Conn, error) // nil: the network
}

// newGoogle serves on a port of loopback.
func newGoogle(t *testing.T, cfg pushtest.FCMConfig) *google {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return newGoogleOn(t, cfg, l)
}

func newGoogleOn(t *testing.T, cfg pushtest.FCMConfig, l net.Listener) *google {
	t.Helper()
	g := &google{FCM: pushtest.NewFCM(cfg), t: t, files: t.TempDir()}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := g.Serve(ctx, l); err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	<-g.Ready()
	return g
}

// inBubble runs f in fake time, with a simulator that is reached without a
// network.
func inBubble(t *testing.T, cfg pushtest.FCMConfig, f func(t *testing.T, g *google)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := pushtest.NewListener()
		g := newGoogleOn(t, cfg, l)
		g.dial = l.Dial
		f(t, g)
	})
}

// config is that of an app whose service account the simulator knows.
func (g *google) config() fcm.Config {
	g.t.Helper()
	ca, account, err := g.WriteFiles(g.files)
	if err != nil {
		g.t.Fatal(err)
	}
	return fcm.Config{Package: pkg, ServiceAccount: account, Endpoint: g.URL(), CAFile: ca, Dial: g.dial}
}

// client is closed when the test ends.
func (g *google) client(cfg fcm.Config) *fcm.Client {
	g.t.Helper()
	c, err := fcm.New(cfg, testLog(g.t), nil)
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(c.Close)
	return c
}

// running is a client whose Run runs until the test ends.
func (g *google) running(cfg fcm.Config) *fcm.Client {
	g.t.Helper()
	c := g.client(cfg)
	ctx, cancel := context.WithCancel(g.t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = c.Run(ctx) })
	g.t.Cleanup(func() { cancel(); wg.Wait() })
	return c
}

// phone registers a token.
func (g *google) phone() push.Token {
	value := pushtest.NewFCMToken()
	g.Register(value, pushtest.FCMApp{})
	return push.Token{Provider: push.ProviderFCM, Param: g.project(), Value: value}
}

func (g *google) project() string { return pushtest.DefaultProject }

// clean fails the test for each rule of Google's that was broken.
func (g *google) clean() {
	g.t.Helper()
	for _, v := range g.Violations() {
		g.t.Errorf("rule of Google's broken: %s", v)
	}
}

// ring is the notification of a call.
func ring(t push.Token) push.Notification {
	return push.Notification{
		ID: "00000000-0000-4000-8000-000000000001", Token: t, Channel: push.VoIP, App: pkg, Priority: 10, Urgent: true,
		Data: map[string]string{"v": "1", "channel": "voip", "event": "call", "call_id": fmt.Sprint("call-", serial())},
	}
}

// tell is the notification of a note.
func tell(t push.Token) push.Notification {
	return push.Notification{
		ID: "00000000-0000-4000-8000-000000000002", Token: t, Channel: push.Message, App: pkg, Priority: 10,
		Expiration: time.Now().Add(time.Hour),
		Data:       map[string]string{"v": "1", "channel": "message", "event": "message", "call_id": fmt.Sprint("note-", serial())},
	}
}

var ids struct {
	sync.Mutex
	n int
}

func serial() int {
	ids.Lock()
	defer ids.Unlock()
	ids.n++
	return ids.n
}

func callContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), push.CallTimeout)
	t.Cleanup(cancel)
	return ctx
}

func wantOutcome(t *testing.T, r push.Result, want push.Outcome) {
	t.Helper()
	if r.Outcome != want {
		t.Fatalf("outcome %s (%d %s), want %s", r.Outcome, r.Status, r.Reason, want)
	}
}

func write(t *testing.T, name string, text []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// logs is a log that a test can read.
type logs struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *logs) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func testLog(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), nil))
}

// expired is a context that lives for d.
func expired(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}
