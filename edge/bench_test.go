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
	for i := range n {
		c, err := join(spec[2])
		if err != nil {
			t.Fatalf("client %d: %v", i, err)
		}
		defer c.Close()
	}
	fmt.Println("in")
	_, _ = io.Copy(io.Discard, os.Stdin) // until the benchmark is over
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
	addr := server.Addr(map[string]string{"tls": "sips", "wss": "https"}[kind]).String()
	for b.Loop() {
		before := memory()
		crowd := exec.Command(os.Args[0], "-test.run=^TestCrowd$")
		crowd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %d %s", crowdEnv, kind, n, addr))
		crowd.Stderr = os.Stderr
		in, _ := crowd.StdinPipe()
		out, _ := crowd.StdoutPipe()
		if err := crowd.Start(); err != nil {
			b.Fatal(err)
		}
		if line, _ := bufio.NewReader(out).ReadString('\n'); line != "in\n" {
			b.Fatalf("the crowd said %q", line)
		}
		after := memory()
		b.ReportMetric(float64(after.heap-before.heap)/float64(n), "heap-B/flow")
		b.ReportMetric(float64(after.stack-before.stack)/float64(n), "stack-B/flow")
		b.ReportMetric(float64(after.goroutines-before.goroutines)/float64(n), "goroutines/flow")
		_ = in.Close()
		_ = crowd.Wait()
		for range 2 * n { // a message and a close of each
			<-heard
		}
	}
}

type memoryUse struct{ heap, stack, goroutines int }

func memory() memoryUse {
	debug.FreeOSMemory()
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return memoryUse{int(m.HeapAlloc), int(m.StackInuse), runtime.NumGoroutine()}
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
