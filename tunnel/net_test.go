package tunnel_test

import (
	"context"
	"net"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"sallyport/tunnel"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// client is a handler that remembers.
type client struct {
	mu     sync.Mutex
	got    []string
	events []tunnel.Event
	closed []tunnel.CloseCode
	texts  []string
	ended  chan struct{}
	keep   bool // owe what was received
	echo   bool
}

func newClient() *client { return &client{ended: make(chan struct{})} }

func (c *client) Message(f *tunnel.Flow, p []byte) {
	c.mu.Lock()
	c.got = append(c.got, string(p))
	c.mu.Unlock()
	if !c.keep {
		f.Consumed(len(p))
	}
	if c.echo {
		_ = f.Send(p)
	}
}

func (c *client) Event(_ *tunnel.Flow, e tunnel.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.events = append(c.events, e)
}

func (c *client) Closed(_ *tunnel.Flow, code tunnel.CloseCode, text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = append(c.closed, code)
	c.texts = append(c.texts, text)
	if len(c.closed) == 1 {
		close(c.ended)
	}
}

func (c *client) messages() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string{}, c.got...)
}

func (c *client) codes() []tunnel.CloseCode {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]tunnel.CloseCode{}, c.closed...)
}

// a pbx takes every flow in and remembers it; each gets a client of its own.
type pbx struct {
	mu      sync.Mutex
	flows   []*tunnel.Flow
	clients []*client
	make    func(*tunnel.Flow) *client
}

func (b *pbx) open(f *tunnel.Flow) tunnel.Handler {
	c := newClient()
	if b.make != nil {
		c = b.make(f)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.flows, b.clients = append(b.flows, f), append(b.clients, c)
	if c == nil {
		return nil
	}
	return c
}

func (b *pbx) count() int { b.mu.Lock(); defer b.mu.Unlock(); return len(b.flows) }

// newest is the flow taken in last, and its handler.
func (b *pbx) newest() (*tunnel.Flow, *client) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.flows) == 0 {
		return nil, nil
	}
	return b.flows[len(b.flows)-1], b.clients[len(b.clients)-1]
}

// core returns the config of a core that dials the room as name.
func (r *room) core(name string, open func(*tunnel.Flow) tunnel.Handler) tunnel.DialerConfig {
	return tunnel.DialerConfig{
		Name: name, Edges: []string{"edge1:7443"}, Open: open, Links: 1,
		Dial: func(ctx context.Context, _ string) (net.Conn, string, error) {
			c, err := r.dial(ctx)
			return c, "edge1", err
		},
	}
}

// edge returns the config of an edge that takes the word of certified for who calls.
func edge(certified string) tunnel.AcceptorConfig {
	return tunnel.AcceptorConfig{
		Name:      "edge1",
		Handshake: func(_ context.Context, c net.Conn) (net.Conn, string, error) { return c, certified, nil },
	}
}

// start runs f until the test, or the function returned, ends it.
func start(t testing.TB, f func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := f(ctx); err != nil {
			t.Errorf("run: %v", err)
		}
	}()
	stop = sync.OnceFunc(func() { cancel(); <-done })
	t.Cleanup(stop)
	return stop
}

// pair runs an edge and a core over r.
func pair(t testing.TB, r *room, ec tunnel.AcceptorConfig, dc tunnel.DialerConfig) (*tunnel.Acceptor, *tunnel.Dialer) {
	a, d := tunnel.NewAcceptor(ec), tunnel.NewDialer(dc)
	start(t, func(ctx context.Context) error { return a.Serve(ctx, r) })
	start(t, d.Run)
	return a, d
}

func sip(id byte) tunnel.Info {
	return tunnel.Info{UUID: [16]byte{id}, Service: "sip", Transport: "tls"}
}

func open(t testing.TB, a *tunnel.Acceptor, id byte, h tunnel.Handler) *tunnel.Flow {
	t.Helper()
	f, err := a.Open(sip(id), h)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	return f
}
