package webpush_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"sallyport/core/push"
	"sallyport/core/push/webpush"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const app = "org.example.web"

func write(t testing.TB, name string, text []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// newKeyFile is the file of a key that was never used.
func newKeyFile(t testing.TB) string {
	t.Helper()
	text, _, err := webpush.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	return write(t, "vapid.pem", text)
}

// newClient is closed when the test ends.
func newClient(t testing.TB, cfg webpush.Config, reg prometheus.Registerer) *webpush.Client {
	t.Helper()
	c, err := webpush.New(cfg, slog.New(slog.NewTextHandler(t.Output(), nil)), reg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

var ids struct {
	sync.Mutex
	n int
}

func newID() string {
	ids.Lock()
	defer ids.Unlock()
	ids.n++
	return fmt.Sprintf("00000000-0000-4000-8000-%012x", ids.n)
}

// ring is the notification of a call that rings for 13 s.
func ring(t push.Token) push.Notification {
	return push.Notification{
		ID: newID(), Token: t, Channel: push.VoIP, App: app, Priority: 10, Urgent: true,
		Expiration: time.Now().Add(13 * time.Second), Payload: []byte(`{"event":"call"}`),
	}
}

// tell is the notification of a note.
func tell(t push.Token) push.Notification {
	return push.Notification{
		ID: newID(), Token: t, Channel: push.Message, App: app, Priority: 10,
		Expiration: time.Now().Add(time.Hour), Payload: []byte(`{"event":"missed"}`),
	}
}

func wantOutcome(t testing.TB, r push.Result, want push.Outcome) {
	t.Helper()
	if r.Outcome != want {
		t.Fatalf("outcome %s (%d %s), want %s", r.Outcome, r.Status, r.Reason, want)
	}
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
