package jetstream_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/core/jetstream"
	"sallyport/core/push"
	"sallyport/core/push/apns"
	"sallyport/core/push/pushtest"
	"sallyport/core/vault"
)

// pushEnv makes the test binary a core that sends pushes: its value is the
// directory of its files.
const pushEnv = "SALLYPORT_TEST_PUSHING_CORE"

const (
	manyDevices = 1000
	bundle      = "org.example.phone"
	secret      = "the horse eats no cucumber salad"
)

// files are what one life of a core leaves to the next.
type files struct{ dir string }

func (f files) path(name string) string { return filepath.Join(f.dir, name) }

func (f files) read(name string) string {
	text, err := os.ReadFile(f.path(name))
	if err != nil {
		return ""
	}
	return string(text)
}

// pusher is one life of a core: its store, and its push service.
type pusher struct {
	store *jetstream.Store
	push  *push.Service
}

// tokenOf is the token of a device on a channel.
func tokenOf(device int, kind string) string {
	return fmt.Sprintf("%062x%02x", device, kind[0])
}

func newPusher(f files) (*pusher, error) {
	s, err := jetstream.Open(context.Background(), jetstream.Config{Dir: f.path("store")}, nil)
	if err != nil {
		return nil, err
	}
	v, _, err := vault.LoadOrMake(f.path("key"))
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	app := strings.Fields(f.read("app"))
	c, err := apns.New(apns.Config{
		BundleID: bundle, KeyFile: app[0], KeyID: app[1], TeamID: app[2], CAFile: app[3], Endpoint: app[4],
	}, nil, nil)
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return &pusher{store: s, push: push.New(push.Config{
		Enabled: true, Outbox: s.Outbox(), Sealer: v, Targets: func(device string) (push.Target, bool) {
			var i int
			_, err := fmt.Sscanf(device, "device%d", &i)
			return targetOf(i, app[2]), err == nil
		},
	}, []push.App{{ID: bundle, Provider: push.ProviderAPNs, TeamID: app[2], Sender: c, Run: c.Run}}, nil, nil)}, nil
}

func targetOf(i int, team string) push.Target {
	t := push.Target{Device: fmt.Sprintf("device%d", i), Class: push.ClassSplit}
	for _, kind := range []string{push.KindVoIP, push.KindAlert} {
		t.Tokens = append(t.Tokens, push.Token{Provider: push.ProviderAPNs, Kind: kind, Param: team + "." + bundle, Value: tokenOf(i, kind)})
	}
	return t
}

// pushForever is what the core does that gets killed: it queues a note for each
// of many devices, says so, and sends them and as many calls.
func pushForever(dir string) error {
	f := files{dir}
	l, err := newPusher(f)
	if err != nil {
		return err
	}
	team := strings.Fields(f.read("app"))[2]
	var wg sync.WaitGroup
	for start := range 8 {
		wg.Go(func() {
			for i := start; i < manyDevices; i += 8 {
				if err := l.push.Enqueue(context.Background(), targetOf(i, team), push.Note{
					Event: push.EventMessage, ID: fmt.Sprint("message", i), Conversation: "sip:carol@example.com",
					FromURI: "sip:carol@example.com", FromName: "Carol", To: "sip:bob@example.com", Text: secret,
				}); err != nil {
					fmt.Fprintln(os.Stderr, err)
				}
			}
		})
	}
	wg.Wait()
	fmt.Println("queued")
	for i := range manyDevices {
		go l.push.Call(context.Background(), targetOf(i, team), push.Call{
			CallID: fmt.Sprint("call", i), FromURI: "sip:carol@example.com", To: "sip:bob@example.com",
			RingUntil: time.Now().Add(time.Minute),
		})
	}
	return l.push.Run(context.Background())
}

// simulator is an APNs whose devices are those of the tests here.
func simulator(t *testing.T, f files) *pushtest.APNs {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	sim := pushtest.NewAPNs(pushtest.APNsConfig{AnyToken: true})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := sim.Serve(ctx, l); err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	<-sim.Ready()
	ca, key, kid, team, err := sim.WriteFiles(f.dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(f.path("app"), []byte(strings.Join([]string{key, kid, team, ca, sim.URL()}, " ")), 0o600); err != nil {
		t.Fatal(err)
	}
	return sim
}

// accepted counts the accepted pushes of a type by token.
func accepted(sim *pushtest.APNs, kind string) map[string][]string {
	ids := map[string][]string{}
	for _, p := range sim.Accepted() {
		if p.PushType == kind {
			ids[p.Token] = append(ids[p.Token], p.ID)
		}
	}
	return ids
}

// until waits until ok, which is asked every few milliseconds.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	late := time.After(25 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("too long until %s", what)
		}
	}
}

func TestP16_KillNineLosesNoQueuedNoteAndSendsNoQueuedCall(t *testing.T) {
	f := files{t.TempDir()}
	sim := simulator(t, f)
	sim.SetLatency(50 * time.Millisecond)
	core := exec.Command(os.Args[0])
	core.Env = append(os.Environ(), pushEnv+"="+f.dir)
	var said bytes.Buffer
	core.Stderr = &said
	out, err := core.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := core.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	if !lines.Scan() || lines.Text() != "queued" {
		_ = core.Process.Kill()
		_ = core.Wait()
		t.Fatalf("the core said %q: %s", lines.Text(), said.Bytes())
	}
	nothingInClear(t, f)
	until(t, "some are sent", func() bool { return len(accepted(sim, "alert")) >= manyDevices/10 })
	if err := core.Process.Kill(); err != nil { // SIGKILL
		t.Fatal(err)
	}
	_ = core.Wait()
	before, rang := accepted(sim, "alert"), len(accepted(sim, "voip"))
	connections := sim.Stats().Connections
	if n := len(before); n == manyDevices || said.Len() > 0 {
		t.Fatalf("the core had sent %d of %d notes when it was killed, and said: %s", n, manyDevices, said.Bytes())
	}

	sim.SetLatency(0)
	l, err := newPusher(f)
	if err != nil {
		t.Fatal(err)
	}
	stop := l.run(t)
	until(t, "all are sent", func() bool { return len(accepted(sim, "alert")) == manyDevices })
	stop()
	twice := 0
	for token, ids := range accepted(sim, "alert") {
		if len(ids) > 1 {
			twice++
		}
		for _, id := range ids {
			if id != ids[0] {
				t.Errorf("token %s got one note under the ids %v", token, ids)
			}
		}
	}
	t.Logf("%d of %d notes had left before the kill, %d left twice; %d calls rang", len(before), manyDevices, twice, rang)
	if twice > len(before) {
		t.Errorf("%d notes left twice, but %d had left before the kill", twice, len(before))
	}
	for _, p := range sim.Accepted() { // what the first life had sent may have been accepted since
		if p.PushType == "voip" && p.Conn > connections {
			t.Errorf("a call rang after the restart: %v", p)
		}
	}
	for _, v := range sim.Violations() {
		t.Errorf("rule of Apple's broken: %s", v)
	}

	// Nothing is left, and nothing of it is sent again in the life after that.
	l, err = newPusher(f)
	if err != nil {
		t.Fatal(err)
	}
	follower := follow(t, l.store.Outbox())
	follower.got(t)
	follower.stop()
	closed(t, l.store)
}

// run runs the life until stop is called, which ends it as a service manager
// would.
func (l *pusher) run(t *testing.T) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := l.push.Run(ctx); err != nil {
			t.Errorf("push: %v", err)
		}
	})
	return sync.OnceFunc(func() { cancel(); wg.Wait(); closed(t, l.store) })
}

// nothingInClear fails the test when the store holds what a note says.
func nothingInClear(t *testing.T, f files) {
	t.Helper()
	rows := 0
	err := filepath.WalkDir(f.path("store"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // the server tidies up meanwhile
		}
		rows += bytes.Count(text, []byte(`"device":"device`))
		for _, word := range []string{secret, "carol@", "Carol", "bob@", tokenOf(7, push.KindAlert), tokenOf(7, push.KindVoIP)} {
			if bytes.Contains(text, []byte(word)) {
				t.Errorf("%s holds %q in clear", filepath.Base(path), word)
			}
		}
		return err
	})
	if err != nil || rows < manyDevices {
		t.Fatalf("%d rows in the store's files, %v; want %d", rows, err, manyDevices)
	}
}
