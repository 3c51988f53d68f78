package edge_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"sallyport/edge"
	"sallyport/tunnel"
)

// crowdEnv makes the test binary a crowd of clients: kind, number, address.
const crowdEnv = "SALLYPORT_TEST_CROWD"

// TestCrowd is no test of its own: it is the other process of the benchmark,
// so that the memory of clients is not taken for the edge's.
func TestCrowd(t *testing.T) {
	spec := strings.Split(os.Getenv(crowdEnv), " ")
	if len(spec) != 3 {
		t.Skip("runs as part of a benchmark")
	}
	n, err := strconv.Atoi(spec[1])
	if err != nil {
		t.Fatal(err)
	}
	join := map[string]func(string) (net.Conn, error){"tls": joinTLS, "wss": joinWSS}[spec[0]]
	all := make([]net.Conn, n)
	for i := range all {
		c, err := join(spec[2])
		if err != nil {
			t.Fatalf("client %d: %v", i, err)
		}
		defer c.Close()
		all[i] = c
	}
	fmt.Println("in")
	orders := bufio.NewScanner(os.Stdin) // until the benchmark is over
	for orders.Scan() {
		rounds, err := strconv.Atoi(orders.Text())
		if err != nil {
			t.Fatal(err)
		}
		var talking sync.WaitGroup
		for _, c := range all {
			talking.Go(func() { talk(t, c, spec[0], rounds) })
		}
		talking.Wait()
		fmt.Println("done")
	}
}

// talk sends messages and waits for the answer to each.
func talk(t *testing.T, c net.Conn, kind string, rounds int) {
	message, answer := []byte(register), make([]byte, len(ok))
	if kind == "wss" { // masked with zeros
		head := []byte{0x82, 0x80 | 126, byte(len(message) >> 8), byte(len(message)), 0, 0, 0, 0}
		message, answer = append(head, message...), make([]byte, 2+len(ok))
	}
	for range rounds {
		if _, err := c.Write(message); err != nil {
			t.Error(err)
			return
		}
		if _, err := io.ReadFull(c, answer); err != nil {
			t.Error(err)
			return
		}
	}
}

// joinTLS connects, sends one message and waits for its answer.
func joinTLS(addr string) (net.Conn, error) {
	c, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		return nil, err
	}
	if _, err := io.WriteString(c, register); err != nil {
		return nil, err
	}
	_, err = io.ReadFull(c, make([]byte, len(ok)))
	return c, err
}

// joinWSS does the same over WebSocket.
func joinWSS(addr string) (net.Conn, error) {
	var conn net.Conn
	client := webClient(func(ctx context.Context) (c net.Conn, err error) {
		conn, err = (&tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}).DialContext(ctx, "tcp", addr)
		return conn, err
	})
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, "wss://edge.example.com/ws", &websocket.DialOptions{Subprotocols: []string{"sip"}, HTTPClient: client})
	if err != nil {
		return nil, err
	}
	if err := ws.Write(context.Background(), websocket.MessageText, []byte(register)); err != nil {
		return nil, err
	}
	_, _, err = ws.Read(context.Background())
	runtime.SetFinalizer(ws, nil) // the connection is kept, not the library's view of it
	return conn, err
}

// register is as long as a phone's REGISTER with push parameters.
var register = "REGISTER sip:example.com SIP/2.0\r\nContact: <sip:a@example.com;x=" + strings.Repeat("x", 700) + ">\r\nContent-Length: 0\r\n\r\n"

// BenchmarkIdleFlow tells the memory of an idle flow: what the edge's process
// holds for it, Go's heap and stacks. The test's core lives in the same
// process and is included.
func BenchmarkIdleFlow(b *testing.B) {
	for _, kind := range []string{"tls", "wss"} {
		b.Run(kind, func(b *testing.B) { benchmarkIdle(b, kind, 2000) })
	}
}

func benchmarkIdle(b *testing.B, kind string, n int) {
	server, heard := serveLoopback(b)
	for b.Loop() {
		before := memory()
		crowd := gatherCrowd(b, server, kind, n)
		after := memory()
		b.ReportMetric(float64(after.heap-before.heap)/float64(n), "heap-B/flow")
		b.ReportMetric(float64(after.stack-before.stack)/float64(n), "stack-B/flow")
		b.ReportMetric(float64(after.goroutines-before.goroutines)/float64(n), "goroutines/flow")
		b.ReportMetric(float64(after.resident-before.resident)/float64(n), "PSS-B/flow")
		crowd.leave()
		for range 2 * n { // a message and a close of each
			<-heard
		}
	}
}

// BenchmarkMessages tells the CPU of a message from a client to the core and
// of a short answer: edge and the test's core together, in user and kernel.
func BenchmarkMessages(b *testing.B) {
	for _, kind := range []string{"tls", "wss"} {
		b.Run(kind, func(b *testing.B) {
			const n = 50
			server, heard := serveLoopback(b)
			over := make(chan struct{})
			defer close(over)
			go func() {
				for {
					select {
					case <-heard:
					case <-over:
						return
					}
				}
			}()
			crowd := gatherCrowd(b, server, kind, n)
			defer crowd.leave()
			before := processorTime(b)
			b.ResetTimer()
			crowd.talk(b.N/n + 1)
			b.StopTimer()
			per10k := (processorTime(b) - before).Seconds() / float64((b.N/n+1)*n) * 10_000
			b.ReportMetric(per10k, "cpu-s/10k")
		})
	}
}

// crowd is the process of TestCrowd.
type crowd struct {
	b   *testing.B
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func gatherCrowd(b *testing.B, server *edge.Server, kind string, n int) *crowd {
	b.Helper()
	addr := server.Addr(map[string]string{"tls": "sips", "wss": "https"}[kind]).String()
	c := &crowd{b: b, cmd: exec.Command(os.Args[0], "-test.run=^TestCrowd$")}
	c.cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %d %s", crowdEnv, kind, n, addr))
	c.cmd.Stderr = os.Stderr
	c.in, _ = c.cmd.StdinPipe()
	out, _ := c.cmd.StdoutPipe()
	c.out = bufio.NewReader(out)
	if err := c.cmd.Start(); err != nil {
		b.Fatal(err)
	}
	c.expect("in")
	return c
}

func (c *crowd) expect(want string) {
	c.b.Helper()
	if line, _ := c.out.ReadString('\n'); line != want+"\n" {
		c.b.Fatalf("the crowd said %q", line)
	}
}

func (c *crowd) talk(rounds int) {
	_, _ = fmt.Fprintln(c.in, rounds)
	c.expect("done")
}

func (c *crowd) leave() {
	_ = c.in.Close()
	_ = c.cmd.Wait()
}

type memoryUse struct{ heap, stack, goroutines, resident int }

func memory() memoryUse {
	debug.FreeOSMemory()
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return memoryUse{int(m.HeapAlloc), int(m.StackInuse), runtime.NumGoroutine(), resident()}
}

// serveLoopback runs an edge and a core on real sockets.
func serveLoopback(b *testing.B) (*edge.Server, chan string) {
	b.Helper()
	cfg, dir := prepare(b)
	cfg.Public.HTTPS, cfg.Public.SIPS, cfg.Public.XMPPS, cfg.Tunnel.Listen = "127.0.0.1:0", "127.0.0.1:0", "", "127.0.0.1:0"
	cfg.Limits.FlowsPerIP, cfg.Limits.NewFlowsPerSecond, cfg.Limits.NewFlowsPerIPPerSecond = 1<<20, 1<<20, 1<<20
	server, err := edge.New(cfg, edge.Deps{})
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	h := &town{flows: make(chan *tunnel.Flow, 1<<20), heard: make(chan string, 1<<20)}
	edgeDone, coreDone := make(chan error, 1), make(chan error, 1)
	go func() { edgeDone <- server.Run(ctx) }()
	for !server.Ready() {
		runtime.Gosched()
	}
	go func() {
		coreDone <- runCore(b, ctx, dir, h, func(ctx context.Context) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", server.Addr("tunnel").String())
		})
	}()
	for len(server.Sessions()) == 0 {
		runtime.Gosched()
	}
	b.Cleanup(func() {
		stop()
		<-edgeDone
		<-coreDone
	})
	return server, h.heard
}
