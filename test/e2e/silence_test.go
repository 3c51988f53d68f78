package e2e

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/edge"
	"sallyport/test/phone"
	"sallyport/tunnel/unit"
)

// The other end of thousands of connections is a process of its own: this
// test, run again with these arguments in its environment. One process may have
// 20,000 files open, and each connection has two ends.
const (
	silentEnv  = "SALLYPORT_TEST_SILENT" // ADDR KIND COUNT
	silentSaid = "all are connected"
)

// TestSilentClients is that process. It opens connections, says nothing more
// on them than their kind does, and holds them until its standard input ends.
func TestSilentClients(t *testing.T) {
	args := strings.Fields(os.Getenv(silentEnv))
	if len(args) != 3 {
		t.Skip("is run by another test, in a process of its own")
	}
	count := must[int](t)(strconv.Atoi(args[2]))
	conns := make(chan net.Conn, count)
	work := make(chan struct{}, count)
	for range count {
		work <- struct{}{}
	}
	close(work)
	var dialling sync.WaitGroup
	for range 32 {
		dialling.Go(func() {
			for range work {
				conns <- silentConn(t, args[0], args[1])
			}
		})
	}
	dialling.Wait()
	fmt.Println(silentSaid)
	_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
	for range count {
		if c := <-conns; c != nil {
			_ = c.Close()
		}
	}
}

// silentConn is one connection that will say nothing more: nil, with a word
// about it, where there is none.
func silentConn(t *testing.T, addr, kind string) net.Conn {
	c, err := new(net.Dialer).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Error(err)
		return nil
	}
	if kind == "tcp" {
		return c
	}
	secure := tls.Client(c, &tls.Config{InsecureSkipVerify: true, ServerName: "localhost", NextProtos: []string{"http/1.1"}, MaxVersion: tls.VersionTLS13})
	if err = secure.HandshakeContext(t.Context()); err == nil && kind == "wss" {
		w := newWire(t, secure, overText)
		w.write(upgradeRequest("") + "\r\n")
		if head := w.httpHead(); !strings.HasPrefix(head, "HTTP/1.1 101 ") {
			err = fmt.Errorf("answered with %q", head)
		}
	}
	if err != nil {
		t.Error(err)
	}
	return secure
}

// silent starts the other process and returns when all are connected; hangUp
// ends it.
func silent(t *testing.T, addr, kind string, count int) (hangUp func()) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestSilentClients$", "-test.v")
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %s %d", silentEnv, addr, kind, count))
	stdin := must[interface{ Close() error }](t)(cmd.StdinPipe())
	out, err := cmd.StdoutPipe()
	ok(t, err)
	cmd.Stderr = t.Output()
	ok(t, cmd.Start())
	said := make(chan string, 1)
	var reading sync.WaitGroup
	reading.Go(func() {
		var all strings.Builder
		for lines := bufio.NewScanner(out); lines.Scan(); {
			fmt.Fprintln(&all, lines.Text())
			if lines.Text() == silentSaid {
				said <- ""
			}
		}
		said <- all.String()
	})
	hangUp = sync.OnceFunc(func() {
		_ = stdin.Close()
		reading.Wait()
		_ = cmd.Wait()
	})
	t.Cleanup(hangUp)
	if complaint := <-said; complaint != "" {
		t.Fatalf("they did not connect:\n%s", complaint)
	}
	return hangUp
}

// TestLong_TenThousandThatSayNothing: connected, or with TLS, or with a
// WebSocket, and then silent, they cost a bounded amount each, phones are
// served meanwhile as before, and nothing stays behind when they are gone.
// (When their time is over: TestSlowLoris.) Under the race detector they are
// fewer where each has a handshake.
func TestLong_TenThousandThatSayNothing(t *testing.T) {
	takesLong(t)
	const (
		patience = 5 * time.Minute // more than 10,000 handshakes take on a busy machine
		stays    = 12 << 20        // what may be in use afterwards: maps, pools and the runtime's own of each goroutine
	)
	for _, tc := range []struct {
		kind         string
		count, bound int // bytes each: heap and stacks of the edge
	}{
		{"tcp", 10_000, 12 << 10},
		{"tls", 10_000 / slow, 32 << 10},
		{"wss", 10_000 / slow, 16 << 10},
	} {
		t.Run(tc.kind, func(t *testing.T) {
			town, _ := inTown(t, Config{Edge: func(c *edge.Config) {
				unlimited(c)
				c.Limits.FlowsPerIP, c.Limits.MaxFlows = 20_000, 20_000
				c.Limits.HandshakeTimeout = unit.Duration{Duration: patience}
				c.Limits.FirstMessageTimeout = unit.Duration{Duration: patience}
			}, Log: slog.New(slog.DiscardHandler)})
			alice := online(t, t.Context(), town, "alice", Domain, phone.TLS)
			idle := latency(t, alice, 200)
			before := inUse()
			start := time.Now()
			hangUp := silent(t, town.HTTPS, tc.kind, tc.count)
			came := time.Since(start)
			each := (inUse() - before) / tc.count
			busy := latency(t, alice, 200)
			bob := online(t, t.Context(), town, "bob", Domain, phone.WSS) // and who comes now is let in
			ok(t, bob.Ping(t.Context()))
			hangUp()
			left := inUse() - before
			for deadline := time.Now().Add(wireLimit); left > stays && time.Now().Before(deadline); {
				left = inUse() - before
			}
			t.Logf("%d came in %v and cost %d bytes each; a phone waits %v with them, %v without (p99); %d KiB stay", tc.count, came, each, busy, idle, left>>10)
			if each > tc.bound {
				t.Errorf("%d bytes each, want %d at most", each, tc.bound)
			}
			if limit := max(20*idle, 500*time.Millisecond); busy > limit {
				t.Errorf("a phone waits %v (p99), want %v at most", busy, limit)
			}
			if left > stays {
				t.Errorf("%d KiB stay behind", left>>10)
			}
		})
	}
}

// latency is the 99th percentile of a phone's round trips to the core.
func latency(t *testing.T, p *phone.Phone, n int) time.Duration {
	t.Helper()
	var all []time.Duration
	for range n {
		all = append(all, toCore(t, p))
	}
	slices.Sort(all)
	return all[len(all)*99/100]
}

// toCore is how long the core takes to answer a phone.
func toCore(t *testing.T, p *phone.Phone) time.Duration {
	t.Helper()
	start := time.Now()
	must[*phone.Message](t)(p.Do(t.Context(), p.Request("OPTIONS", "sip:localhost")))
	return time.Since(start)
}
