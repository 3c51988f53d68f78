package load

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/test/lossy"
	"sallyport/tunnel"
)

// stretch is a tunnel whose edge is on host A and whose core is on host B of a
// bad line. Its TLS is left out: it changes nothing about loss.
type stretch struct {
	edge *tunnel.Acceptor
	core *tunnel.Dialer
}

// lay starts a tunnel over p, whose core hands flows to take. links is 0 for
// as many as the tunnel thinks right.
func lay(tb testing.TB, p *lossy.Pair, take func(*tunnel.Flow) tunnel.Handler) *stretch {
	tb.Helper()
	l, err := p.A.Listen(0)
	if err != nil {
		tb.Fatal(err)
	}
	s := &stretch{}
	s.edge = tunnel.NewAcceptor(tunnel.AcceptorConfig{
		Name: "edge", Boot: 1,
		Handshake: func(_ context.Context, c net.Conn) (net.Conn, string, error) { return c, "core", nil },
	})
	s.core = tunnel.NewDialer(tunnel.DialerConfig{
		Name: "core", Boot: 2, Edges: []string{l.Addr().String()}, Open: take,
		Dial: func(ctx context.Context, edge string) (net.Conn, string, error) {
			c, err := p.B.Dial(ctx, edge)
			return c, "edge", err
		},
	})
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = s.edge.Serve(ctx, l) })
	running.Go(func() { _ = s.core.Run(ctx) })
	tb.Cleanup(func() { stop(); running.Wait() })
	until(tb, 20*time.Second, "the tunnel is up", func() bool { return s.edge.Ready() && s.core.Ready() })
	return s
}

// until polls for what no round trip tells.
func until(tb testing.TB, within time.Duration, what string, is func() bool) {
	tb.Helper()
	tick, end := time.NewTicker(5*time.Millisecond), time.NewTimer(within)
	defer tick.Stop()
	defer end.Stop()
	for !is() {
		select {
		case <-tick.C:
		case <-end.C:
			tb.Fatalf("not within %v: %s", within, what)
		}
	}
}

// echoing is a core that sends every message back.
type echoing struct{}

func (echoing) Message(f *tunnel.Flow, p []byte) {
	f.Consumed(len(p))
	_ = f.Send(p)
}
func (echoing) Event(*tunnel.Flow, tunnel.Event)              {}
func (echoing) Closed(*tunnel.Flow, tunnel.CloseCode, string) {}

func echo(*tunnel.Flow) tunnel.Handler { return echoing{} }

// stamped takes echoes and notes how long each was under way.
type stamped struct {
	start time.Time
	mu    sync.Mutex
	took  []time.Duration
	left  atomic.Int64
	all   chan struct{}
}

func (s *stamped) Message(f *tunnel.Flow, p []byte) {
	f.Consumed(len(p))
	took := time.Since(s.start) - time.Duration(binary.BigEndian.Uint64(p))
	s.mu.Lock()
	s.took = append(s.took, took)
	s.mu.Unlock()
	if s.left.Add(-1) == 0 {
		close(s.all)
	}
}
func (*stamped) Event(*tunnel.Flow, tunnel.Event)              {}
func (*stamped) Closed(*tunnel.Flow, tunnel.CloseCode, string) {}

// BenchmarkBadLine tells what a line with 30 ms there and back, which loses
// one packet in a hundred each way, does to 600 bytes that are echoed over 500
// flows at some rates: the median, the slowest of a hundred, and the share
// that took more than 20 ms longer than the fastest.
func BenchmarkBadLine(b *testing.B) {
	for _, rate := range []int{100, 300, 1000} {
		b.Run(fmt.Sprintf("%d-per-s", rate), func(b *testing.B) {
			p := lossy.New(b, lossy.Line{Delay: 15 * time.Millisecond, Loss: 0.01})
			s := lay(b, p, echo)
			for range b.N {
				badLine(b, s, rate, 6*rate)
			}
		})
	}
}

func badLine(b *testing.B, s *stretch, rate, n int) {
	const flows = 500
	got := &stamped{start: time.Now(), all: make(chan struct{})}
	got.left.Store(int64(n))
	open := make([]*tunnel.Flow, flows)
	for i := range open {
		f, err := s.edge.Open(tunnel.Info{Service: "sip", Transport: "tls", Public: "edge.example.com:5061"}, got)
		if err != nil {
			b.Fatal(err)
		}
		defer f.Close(tunnel.CloseClient, "")
		open[i] = f
	}
	msg := make([]byte, 600)
	tick := time.NewTicker(time.Second / time.Duration(rate))
	defer tick.Stop()
	for i := range n {
		<-tick.C
		binary.BigEndian.PutUint64(msg, uint64(time.Since(got.start)))
		if err := open[i%flows].SendWait(b.Context(), msg); err != nil {
			b.Fatal(err)
		}
	}
	select {
	case <-got.all:
	case <-time.After(time.Minute):
		b.Fatalf("%d of %d echoes are missing", got.left.Load(), n)
	}
	slices.Sort(got.took)
	ms := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	late := len(got.took) - firstOver(got.took, got.took[0]+20*time.Millisecond)
	b.ReportMetric(ms(got.took[n/2]), "p50-ms")
	b.ReportMetric(ms(got.took[n*99/100]), "p99-ms")
	b.ReportMetric(100*float64(late)/float64(n), "late-%")
	b.ReportMetric(0, "ns/op")
}

// firstOver is the index of the first of sorted that is beyond d.
func firstOver(sorted []time.Duration, d time.Duration) int {
	i, _ := slices.BinarySearch(sorted, d+1)
	return i
}
