package relay_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sallyport/edge/admission"
	"sallyport/edge/flow"
	"sallyport/edge/relay"
	"sallyport/edge/transport"
	"sallyport/tunnel"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// street is a network with one place to listen.
type street struct {
	calls  chan net.Conn
	closed chan struct{}
	once   sync.Once

	mu   sync.Mutex
	down bool
	all  []net.Conn
}

func newStreet() *street { return &street{calls: make(chan net.Conn), closed: make(chan struct{})} }

func (s *street) Accept() (net.Conn, error) {
	select {
	case c := <-s.calls:
		return c, nil
	case <-s.closed:
		return nil, net.ErrClosed
	}
}
func (s *street) Close() error   { s.once.Do(func() { close(s.closed) }); return nil }
func (s *street) Addr() net.Addr { return &net.TCPAddr{} }

func (s *street) dial(ctx context.Context) (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down {
		return nil, errors.New("no route")
	}
	near, far := net.Pipe()
	select {
	case s.calls <- far:
		s.all = append(s.all, near)
		return near, nil
	case <-s.closed:
		return nil, errors.New("nobody listens")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// cut ends the tunnel, for good where it stays down.
func (s *street) cut(stays bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = stays
	for _, c := range s.all {
		_ = c.Close()
	}
	s.all = nil
}

// office is a core: it notes what its flows say.
type office struct {
	heard chan string
	flows chan *tunnel.Flow

	mu      sync.Mutex
	consume bool // give credit back
}

func (o *office) open(f *tunnel.Flow) tunnel.Handler {
	o.flows <- f
	return o
}

func (o *office) Message(f *tunnel.Flow, p []byte) {
	o.mu.Lock()
	consume := o.consume
	o.mu.Unlock()
	if consume {
		f.Consumed(len(p))
	}
	o.heard <- string(p)
}
func (o *office) Event(_ *tunnel.Flow, e tunnel.Event) { o.heard <- e.String() }
func (o *office) Closed(_ *tunnel.Flow, c tunnel.CloseCode, _ string) {
	o.heard <- "closed " + c.String()
}

func (o *office) expect(t *testing.T, want ...string) {
	t.Helper()
	for _, w := range want {
		if got := <-o.heard; got != w {
			t.Fatalf("the core heard %.60q, want %.60q", got, w)
		}
	}
}

// town is an edge's inside, with one core.
type town struct {
	street *street
	office *office
	table  *flow.Table
	relay  *relay.Relay
	gate   *admission.Gate
	tr     *transport.Transport
}

// found builds a town; its core is connected unless alone.
func found(t *testing.T, alone bool) *town {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	w := &town{
		street: newStreet(),
		office: &office{heard: make(chan string, 10_000), flows: make(chan *tunnel.Flow, 1000), consume: true},
		table:  flow.NewTable(flow.Config{WSPing: 25 * time.Second}),
		gate:   admission.New(admission.Limits{MaxFlows: 1000, FlowsPerIP: 1000, NewPerSecond: 1000, NewPerIPPerSecond: 1000}, nil),
		tr:     transport.New(transport.Config{}),
	}
	acceptor := tunnel.NewAcceptor(tunnel.AcceptorConfig{Name: "edge1", Handshake: func(_ context.Context, c net.Conn) (net.Conn, string, error) {
		return c, "core1", nil
	}})
	dialer := tunnel.NewDialer(tunnel.DialerConfig{Name: "core1", Edges: []string{"edge1:7443"}, Open: w.office.open,
		Dial: func(ctx context.Context, _ string) (net.Conn, string, error) {
			c, err := w.street.dial(ctx)
			return c, "edge1", err
		}})
	w.relay = relay.New(relay.Config{Tunnel: acceptor, Flows: w.table})
	var running sync.WaitGroup
	running.Go(func() { _ = acceptor.Serve(ctx, w.street) })
	if !alone {
		running.Go(func() { _ = dialer.Run(ctx) })
		for !acceptor.Ready() {
			time.Sleep(time.Millisecond)
		}
	}
	t.Cleanup(func() {
		w.table.Goodbye(context.Background(), 0)
		cancel()
		running.Wait()
		if n := w.gate.Flows(); n != 0 {
			t.Errorf("%d passes were not given back", n)
		}
	})
	return w
}

// client connects one client of SIP, over a stream without TLS.
func (w *town) client(t *testing.T) net.Conn {
	t.Helper()
	return w.enter(t, flow.SIPTLS, w.tr.Stream)
}

// xmpp connects one of XMPP.
func (w *town) xmpp(t *testing.T) net.Conn {
	t.Helper()
	return w.enter(t, flow.XMPPTLS, w.tr.Raw)
}

func (w *town) enter(t *testing.T, k flow.Kind, conn func(net.Conn) transport.Conn) net.Conn {
	t.Helper()
	remote := netip.MustParseAddrPort("192.0.2.7:4711")
	pass, why := w.gate.Enter(remote.Addr())
	if pass == nil {
		t.Fatal(why)
	}
	c, s := net.Pipe()
	w.relay.Serve(conn(s), k, tunnel.Info{
		Remote: remote, Public: "edge.example.com:5061", Since: time.Now(),
	}, pass)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func options(n int) string {
	return fmt.Sprintf("OPTIONS sip:%d@example.com SIP/2.0\r\nContent-Length: 0\r\n\r\n", n)
}

func say(t *testing.T, c net.Conn, what string) {
	t.Helper()
	if _, err := io.WriteString(c, what); err != nil {
		t.Fatal(err)
	}
}

func hear(t *testing.T, c net.Conn, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != want {
		t.Fatalf("the client heard %.60q, %v, want %.60q", got, err, want)
	}
}

// over waits for the end of the connection and returns how long it took.
func over(t *testing.T, c net.Conn) time.Duration {
	t.Helper()
	start := time.Now()
	if p, _ := io.ReadAll(c); len(p) > 0 {
		t.Errorf("the client heard %.60q before the end", p)
	}
	return time.Since(start)
}
