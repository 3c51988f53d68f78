package jetstream_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"sallyport/core/jetstream"
)

// sessionsEnv makes the test binary a core that keeps journals.
const sessionsEnv = "SALLYPORT_TEST_JOURNALLING_CORE"

// busySessions write at a time.
const busySessions = 20

// appendForever writes records and entries of many sessions, and says on stdout
// which are on disk.
func appendForever(dir string) error {
	ctx := context.Background()
	s, err := jetstream.Open(ctx, jetstream.Config{Dir: dir}, nil)
	if err != nil {
		return err
	}
	k, err := s.Sessions(ctx, nil)
	if err != nil {
		return err
	}
	failed := make(chan error)
	for i := range busySessions {
		go func() {
			id := fmt.Sprint("session", i)
			for n := 0; ; n++ {
				if n%10 == 0 {
					if err := k.Put(ctx, id, fmt.Appendf(nil, "record %d", n)); err != nil {
						failed <- err
					}
					fmt.Println("record", i, n, 0)
				}
				pos, err := k.Append(ctx, id, fmt.Appendf(nil, "%s entry %d", id, n))
				if err != nil {
					failed <- err
				}
				fmt.Println("entry", i, n, pos)
			}
		}()
	}
	return <-failed
}

func TestTXM9_KillNineLosesNoEntryThatWasAcknowledged(t *testing.T) {
	dir := t.TempDir()
	core := exec.Command(os.Args[0])
	core.Env = append(os.Environ(), sessionsEnv+"="+dir)
	var said bytes.Buffer
	core.Stderr = &said
	out, err := core.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := core.Start(); err != nil {
		t.Fatal(err)
	}
	want := make([]map[uint64]string, busySessions) // by position
	record := make([]int, busySessions)
	for i := range want {
		want[i] = make(map[uint64]string)
	}
	lines := bufio.NewScanner(out)
	heard := 0
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) != 4 {
			break // cut off by the kill
		}
		i, _ := strconv.Atoi(f[1])
		n, _ := strconv.Atoi(f[2])
		pos, _ := strconv.ParseUint(f[3], 10, 64)
		if f[0] == "record" {
			record[i] = n
		} else {
			want[i][pos] = fmt.Sprintf("session%d entry %d", i, n)
		}
		if heard++; heard == 2000 {
			if err := core.Process.Kill(); err != nil { // SIGKILL
				t.Fatal(err)
			}
		}
	}
	_ = core.Wait()
	if heard < 2000 {
		t.Fatalf("the core wrote %d times and ended: %s", heard, said.Bytes())
	}

	s, k := sessionsOf(t, dir, nil)
	defer closed(t, s)
	kept := records(t, k)
	for i := range want {
		id := fmt.Sprint("session", i)
		var n int
		if _, err := fmt.Sscanf(kept[id], "record %d", &n); err != nil || n < record[i] {
			t.Errorf("%s has %q, and had put record %d", id, kept[id], record[i])
		}
		got, at := entries(t, k, id, 1)
		for j, text := range got { // in order, nothing twice, at most one that nobody was told of
			if text != fmt.Sprintf("%s entry %d", id, j) {
				t.Fatalf("%s: entry %d is %q", id, j, text)
			}
			if told, ok := want[i][at[j]]; ok && told != text {
				t.Errorf("%s: %q is where %q was", id, text, told)
			}
			delete(want[i], at[j])
		}
		if len(want[i]) > 0 {
			t.Errorf("%s lost %v", id, want[i])
		}
	}
}

// An append that was given up is on disk or not, and nobody knows: tried again
// it is there once.
func TestAnAppendOfUnknownOutcomeIsTriedAgainAndThereOnce(t *testing.T) {
	s, k := sessionsOf(t, t.TempDir(), nil)
	defer closed(t, s)
	over, cancel := context.WithCancel(context.Background())
	cancel()
	var want []string
	given := 0
	for i := range 50 {
		entry := fmt.Sprint("entry ", i)
		want = append(want, entry)
		if _, err := k.Append(over, "a", []byte(entry)); err != nil {
			given++
			note(t, k, "a", entry)
		}
	}
	if got, _ := entries(t, k, "a", 1); given == 0 || !slices.Equal(got, want) {
		t.Errorf("%d were given up; the journal holds %q", given, got)
	}
	first, second := note(t, k, "a", "same"), note(t, k, "a", "same")
	if first == second {
		t.Error("the second of two appends that succeed is the first")
	}
}

// replicated is a cluster of three servers.
func replicated(t *testing.T) jetstream.Config {
	t.Helper()
	var routes []*url.URL
	var ports []int
	for range 3 { // each has to know the others before it starts
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
		routes = append(routes, &url.URL{Scheme: "nats", Host: l.Addr().String()})
		l.Close()
	}
	var urls []string
	var servers []*server.Server
	for i, port := range ports {
		ns, err := server.NewServer(&server.Options{
			ServerName: fmt.Sprint("n", i), Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: t.TempDir(),
			Cluster: server.ClusterOpts{Name: "c", Host: "127.0.0.1", Port: port}, Routes: routes, NoSigs: true, NoLog: true,
		})
		if err != nil {
			t.Fatal(err)
		}
		ns.Start()
		t.Cleanup(func() { ns.Shutdown(); ns.WaitForShutdown() })
		servers = append(servers, ns)
	}
	for _, ns := range servers {
		if !ns.ReadyForConnections(10 * time.Second) {
			t.Fatal("a server does not start")
		}
		urls = append(urls, ns.ClientURL())
	}
	return jetstream.Config{NATS: urls, Replicas: 3, Timeout: 3 * time.Second}
}

func TestInAClusterEachCoreHasItsSessions(t *testing.T) {
	cfg := replicated(t)
	var cores []*jetstream.Sessions
	for _, name := range []string{"core1", "core2"} {
		cfg.Name = name
		var s *jetstream.Store
		var err error
		until(t, "the cluster has a leader", func() bool {
			s, err = jetstream.Open(t.Context(), cfg, nil)
			return err == nil
		})
		defer closed(t, s)
		k, err := s.Sessions(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		cores = append(cores, k)
	}
	var wg sync.WaitGroup
	at := make([]uint64, 60)
	for i := range at {
		wg.Go(func() {
			k, id := cores[i%2], fmt.Sprint("session", i)
			if err := k.Put(t.Context(), id, []byte(id)); err != nil {
				t.Error(err)
			}
			pos, err := k.Append(t.Context(), id, fmt.Append(nil, "entry ", i))
			if err != nil {
				t.Error(err)
			}
			at[i] = pos
		})
	}
	wg.Wait()
	for i, pos := range at { // what was written together is where the caller was told
		got, where := entries(t, cores[i%2], fmt.Sprint("session", i), pos)
		if len(got) != 1 || where[0] != pos || got[0] != fmt.Sprint("entry ", i) {
			t.Errorf("session %d has %q at %v, want it at %d", i, got, where, pos)
		}
	}
	for i, k := range cores {
		if got := records(t, k); len(got) != len(at)/2 || got[fmt.Sprint("session", i)] == "" {
			t.Errorf("core %d has the sessions %v", i, got)
		}
		if got, _ := entries(t, k, fmt.Sprint("session", 1-i), 1); len(got) != 0 {
			t.Errorf("core %d has entries of the other: %v", i, got)
		}
	}
}
