package jetstream_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"sallyport/core/jetstream"
	"sallyport/core/location"
)

func open(t testing.TB, cfg jetstream.Config) *jetstream.Store {
	t.Helper()
	s, err := jetstream.Open(context.Background(), cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func closed(t testing.TB, s *jetstream.Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestABucketKeepsTheLatestValueOfEachKey(t *testing.T) {
	dir := t.TempDir()
	s := open(t, jetstream.Config{Dir: dir})
	for i := range 3 {
		if err := s.Devices().Put("a", fmt.Appendf(nil, "value %d", i)); err != nil {
			t.Fatal(err)
		}
	}
	for _, key := range []string{"b", "c"} {
		if err := s.Devices().Put(key, []byte(key)); err != nil {
			t.Fatal(err)
		}
	}
	for _, key := range []string{"b", "never-there"} {
		if err := s.Devices().Delete(key); err != nil {
			t.Fatal(err)
		}
	}
	closed(t, s)

	s = open(t, jetstream.Config{Dir: dir})
	defer closed(t, s)
	all, err := s.Devices().Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 2 || string(all["a"]) != "value 2" || string(all["c"]) != "c" {
		t.Errorf("loaded %q, want a = value 2 and c = c", all)
	}
	if traces, err := s.Traces().Load(t.Context()); err != nil || len(traces) != 0 {
		t.Errorf("traces hold %q, %v: want them empty, apart from devices", traces, err)
	}
}

func TestTracesAreNotWaitedForAndFlushed(t *testing.T) {
	dir := t.TempDir()
	s := open(t, jetstream.Config{Dir: dir})
	for i := range 1000 {
		if err := s.Traces().Put(strconv.Itoa(i), []byte("trace")); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := s.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	all, err := s.Traces().Load(ctx)
	if err != nil || len(all) != 1000 {
		t.Errorf("%d traces, %v; want 1000", len(all), err)
	}
	closed(t, s)
}

func TestAValueTooBigIsRefusedByName(t *testing.T) {
	s := open(t, jetstream.Config{Dir: t.TempDir()})
	defer closed(t, s)
	err := s.Devices().Put("big", make([]byte, 1<<20))
	if err == nil || !strings.Contains(err.Error(), "sallyport_devices") {
		t.Errorf("got %v, want an error that names the bucket", err)
	}
}

func TestBadDirectoriesAreNamedWithARemedy(t *testing.T) {
	base := t.TempDir()
	file := filepath.Join(base, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	busy := filepath.Join(base, "busy")
	first := open(t, jetstream.Config{Dir: busy})
	defer closed(t, first)

	spoiled := filepath.Join(base, "spoiled")
	if err := os.Mkdir(spoiled, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(spoiled, "jetstream"), nil, 0o600); err != nil {
		t.Fatal(err)
	}

	tests := map[string]struct {
		dir  string
		want []string
	}{
		"spoiled inside":   {spoiled, []string{"store.dir " + spoiled, "check that the disk has room"}},
		"none":             {"", []string{"store.dir", "store.nats"}},
		"below a file":     {filepath.Join(file, "store"), []string{"store.dir " + file, "create it", "uid"}},
		"a file itself":    {file, []string{"store.dir " + file, "create it"}},
		"of another core":  {busy, []string{"store.dir " + busy, "in use by another process", "of its own"}},
		"not ours to make": {"/proc/sallyport", []string{"store.dir /proc/sallyport", "set store.dir"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s, err := jetstream.Open(t.Context(), jetstream.Config{Dir: tt.dir}, nil)
			if err == nil {
				closed(t, s)
				t.Fatal("opened")
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not say %q", err, want)
				}
			}
		})
	}
}

func TestTheEmbeddedServerHasNoPort(t *testing.T) {
	before := listening(t)
	s := open(t, jetstream.Config{Dir: t.TempDir()})
	defer closed(t, s)
	if after := listening(t); after != before {
		t.Errorf("listening sockets before:\n%s\nafter:\n%s", before, after)
	}
}

// listening lists this process's TCP sockets in state LISTEN.
func listening(t *testing.T) string {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("no /proc here")
	}
	var table []byte
	for _, name := range []string{"tcp", "tcp6"} {
		text, err := os.ReadFile("/proc/self/net/" + name)
		if err == nil {
			table = append(table, text...)
		}
	}
	var found []string
	for _, fd := range fds {
		link, err := os.Readlink("/proc/self/fd/" + fd.Name())
		inode, ok := strings.CutPrefix(link, "socket:[")
		if err != nil || !ok {
			continue
		}
		inode = strings.TrimSuffix(inode, "]")
		for line := range strings.Lines(string(table)) {
			if f := strings.Fields(line); len(f) > 9 && f[3] == "0A" && f[9] == inode {
				found = append(found, f[1])
			}
		}
	}
	return strings.Join(found, "\n")
}

func TestKillNineLosesNoBinding(t *testing.T) {
	dir := t.TempDir()
	core := exec.Command(os.Args[0])
	core.Env = append(os.Environ(), childEnv+"="+dir)
	var said bytes.Buffer
	core.Stderr = &said
	out, err := core.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := core.Start(); err != nil {
		t.Fatal(err)
	}
	bound := -1
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if bound, err = strconv.Atoi(lines.Text()); err != nil {
			t.Fatal(err)
		}
		if bound == 300 {
			if err := core.Process.Kill(); err != nil { // SIGKILL
				t.Fatal(err)
			}
		}
	}
	if err := core.Wait(); err == nil || bound < 300 {
		t.Fatalf("the core ended by itself (%v) after %d bindings: %s", err, bound, said.Bytes())
	}

	s := open(t, jetstream.Config{Dir: dir})
	defer closed(t, s)
	l := location.New(location.Config{}, s.Devices(), nil)
	if err := l.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i := range bound + 1 {
		d, b, ok := l.ByToken(fmt.Sprintf("token%d", i))
		if !ok || len(d.Tokens) != 2 || d.Tokens[0].Value != fmt.Sprintf("voip%d", i) {
			t.Fatalf("binding %d of %d acknowledged ones is lost or maimed: %v %v", i, bound+1, d.ID, d.Tokens)
		}
		if b.Flow != "" {
			t.Fatalf("binding %d has flow %q after the restart, want none until an edge opens it again", i, b.Flow)
		}
		if again := l.Reattach(fmt.Sprintf("edge1/1/%d", i)); len(again) != 1 {
			t.Fatalf("flow of binding %d attaches to %d bindings, want 1", i, len(again))
		}
	}
}

func TestKeysAreMadeOnceAndShared(t *testing.T) {
	dir := t.TempDir()
	s := open(t, jetstream.Config{Dir: dir})
	var mu sync.Mutex
	seen := make(map[string]int)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			newest, previous, err := s.Keys(context.Background(), "contact")
			if err != nil || len(newest) != 32 || previous != nil {
				t.Errorf("got %d and %d bytes, %v; want 32 and none", len(newest), len(previous), err)
			}
			mu.Lock()
			defer mu.Unlock()
			seen[string(newest)]++
		})
	}
	wg.Wait()
	if len(seen) != 1 {
		t.Errorf("%d different keys for one name", len(seen))
	}
	nonce, _, err := s.Keys(t.Context(), "nonce")
	if err != nil || seen[string(nonce)] != 0 {
		t.Errorf("another name has the same key, or none: %v", err)
	}
	closed(t, s)

	s = open(t, jetstream.Config{Dir: dir})
	defer closed(t, s)
	again, _, err := s.Keys(t.Context(), "contact")
	if err != nil || seen[string(again)] == 0 {
		t.Errorf("the key changed over a restart, %v", err)
	}
}

func TestKeysRotateAndTheLastTwoStayValid(t *testing.T) {
	s := open(t, jetstream.Config{Dir: t.TempDir()})
	defer closed(t, s)
	ctx := t.Context()
	first, _, err := s.Keys(ctx, "contact")
	if err != nil {
		t.Fatal(err)
	}
	young, _, err := s.RotateKeys(ctx, "contact", time.Hour)
	if err != nil || !bytes.Equal(young, first) {
		t.Errorf("a young key was rotated (%v)", err)
	}
	second, previous, err := s.RotateKeys(ctx, "contact", 0)
	if err != nil || bytes.Equal(second, first) || !bytes.Equal(previous, first) {
		t.Errorf("after one rotation the previous key is not the first (%v)", err)
	}
	third, previous, err := s.RotateKeys(ctx, "contact", 0)
	if err != nil || bytes.Equal(third, second) || !bytes.Equal(previous, second) {
		t.Errorf("after two rotations the previous key is not the second (%v)", err)
	}
	newest, previous, err := s.Keys(ctx, "contact")
	if err != nil || !bytes.Equal(newest, third) || !bytes.Equal(previous, second) {
		t.Errorf("Keys does not return what RotateKeys did (%v)", err)
	}
}

func TestAnExternalServerIsTheSameStore(t *testing.T) {
	ns, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	ns.Start()
	defer func() { ns.Shutdown(); ns.WaitForShutdown() }()
	if !ns.ReadyForConnections(10 * time.Second) {
		t.Fatal("the server does not start")
	}
	cfg := jetstream.Config{NATS: []string{ns.ClientURL()}}
	one, two := open(t, cfg), open(t, cfg)
	defer closed(t, one)
	defer closed(t, two)
	if err := one.Devices().Put("a", []byte("1")); err != nil {
		t.Fatal(err)
	}
	if all, err := two.Devices().Load(t.Context()); err != nil || string(all["a"]) != "1" {
		t.Errorf("the other core sees %q, %v", all, err)
	}
	mine, _, err1 := one.Keys(t.Context(), "contact")
	theirs, _, err2 := two.Keys(t.Context(), "contact")
	if err1 != nil || err2 != nil || !bytes.Equal(mine, theirs) {
		t.Errorf("two cores have different keys (%v, %v)", err1, err2)
	}

	cfg.Replicas = 3
	if _, err := jetstream.Open(t.Context(), cfg, nil); err == nil || !strings.Contains(err.Error(), "3 replicas") {
		t.Errorf("3 replicas on one server: %v, want an error that says so", err)
	}
}

func TestAClusterOutOfReachIsNamedWithoutItsPassword(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = jetstream.Open(t.Context(), jetstream.Config{NATS: []string{"nats://core:geheim@" + addr}}, nil)
	if err == nil || !strings.Contains(err.Error(), "store.nats") || !strings.Contains(err.Error(), addr) {
		t.Fatalf("got %v, want an error that names store.nats and the address", err)
	}
	if strings.Contains(err.Error(), "geheim") {
		t.Errorf("the error tells the password: %v", err)
	}
}

func BenchmarkOpenEmpty(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		dir := b.TempDir()
		b.StartTimer()
		s := open(b, jetstream.Config{Dir: dir})
		b.StopTimer()
		closed(b, s)
		b.StartTimer()
	}
}

func BenchmarkBind(b *testing.B) {
	s := open(b, jetstream.Config{Dir: b.TempDir()})
	defer closed(b, s)
	l := location.New(location.Config{}, s.Devices(), nil)
	var mu sync.Mutex
	next := 0
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			mu.Lock()
			i := next
			next++
			mu.Unlock()
			reg, tokens := registration(i)
			if err := l.Bind(reg, tokens, "split"); err != nil {
				b.Error(err)
			}
		}
	})
}

func BenchmarkPut(b *testing.B) {
	s := open(b, jetstream.Config{Dir: b.TempDir()})
	defer closed(b, s)
	value := bytes.Repeat([]byte("x"), 900)
	for i := 0; b.Loop(); i++ {
		if err := s.Devices().Put(strconv.Itoa(i%10000), value); err != nil {
			b.Fatal(err)
		}
	}
}
