package apns_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sallyport/core/push"
	"sallyport/core/push/apns"
	"sallyport/core/push/pushtest"
)

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		if err := serveRemote(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

const bundle = "org.example.phone"

// apple is a simulator that serves until the test ends.
type apple struct {
	*pushtest.APNs
	t     *testing.T
	files string
}

func newApple(t *testing.T, cfg pushtest.APNsConfig) *apple {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return newAppleOn(t, cfg, l)
}

func newAppleOn(t *testing.T, cfg pushtest.APNsConfig, l net.Listener) *apple {
	t.Helper()
	sim := pushtest.NewAPNs(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := sim.Serve(ctx, l); err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	<-sim.Ready()
	a := &apple{APNs: sim, t: t, files: t.TempDir()}
	a.write("ca.pem", sim.CA())
	return a
}

func (a *apple) write(name string, text []byte) string {
	a.t.Helper()
	path := filepath.Join(a.files, name)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		a.t.Fatal(err)
	}
	return path
}

// config is that of an app whose key the simulator knows.
func (a *apple) config() apns.Config {
	p8, kid, team := a.NewKey()
	return apns.Config{
		BundleID: bundle, TeamID: team, KeyID: kid, KeyFile: a.write(kid+".p8", p8),
		Endpoint: a.URL(), CAFile: filepath.Join(a.files, "ca.pem"),
	}
}

// client is closed when the test ends.
func (a *apple) client(cfg apns.Config) *apns.Client {
	a.t.Helper()
	c, err := apns.New(cfg, testLog(a.t), nil)
	if err != nil {
		a.t.Fatal(err)
	}
	a.t.Cleanup(c.Close)
	return c
}

// phone registers a token for a channel and returns it.
func (a *apple) phone(kind string) push.Token {
	topic := bundle
	if kind == push.KindVoIP {
		topic += ".voip"
	}
	value := pushtest.NewToken()
	a.Register(value, pushtest.Device{Topic: topic})
	return push.Token{Provider: push.ProviderAPNs, Kind: kind, Param: "ABCDE12345." + bundle, Value: value}
}

// inBothEnvironments is a client of two simulators that know its key, at
// Apple's own names.
func (a *apple) inBothEnvironments(sandbox *apple, production, dev *pushtest.Listener) *apns.Client {
	a.t.Helper()
	p8, public, err := pushtest.GenerateKey()
	if err != nil {
		a.t.Fatal(err)
	}
	for _, one := range []*apple{a, sandbox} {
		one.AddKey("BOTHKEY001", pushtest.Key{Team: pushtest.Team, Public: public})
	}
	return a.client(apns.Config{
		BundleID: bundle, TeamID: pushtest.Team, KeyID: "BOTHKEY001", KeyFile: a.write("both.p8", p8),
		CAFile: a.write("both.pem", append(a.CA(), sandbox.CA()...)),
		Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			if strings.HasPrefix(addr, "api.sandbox.") {
				return dev.Dial(ctx, network, addr)
			}
			return production.Dial(ctx, network, addr)
		},
	})
}

// clean fails the test for each rule of Apple's that was broken.
func (a *apple) clean() {
	a.t.Helper()
	for _, v := range a.Violations() {
		a.t.Errorf("rule of Apple's broken: %s", v)
	}
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

// ring is the notification of a call.
func ring(t push.Token) push.Notification {
	return push.Notification{
		ID: newID(), Token: t, Channel: push.VoIP, App: bundle, Priority: 10, Urgent: true,
		Payload: []byte(`{"aps":{}}`),
	}
}

// tell is the notification of a note.
func tell(t push.Token) push.Notification {
	return push.Notification{
		ID: newID(), Token: t, Channel: push.Message, App: bundle, Priority: 10,
		Expiration: time.Now().Add(time.Hour), Payload: []byte(`{"aps":{"alert":{"title":"Missed call"}}}`),
	}
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
