package tunnel_test

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sallyport/tunnel"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A room is a network in memory with one place to listen, for use in synctest
// bubbles.
type room struct {
	calls  chan net.Conn
	closed chan struct{}
	once   sync.Once
	rate   int // bytes a second, each way; 0 is any

	mu     sync.Mutex
	cables []*cable
	dials  int
	down   bool // new calls get no connection
}

func newRoom(t testing.TB) *room {
	r := &room{calls: make(chan net.Conn), closed: make(chan struct{})}
	t.Cleanup(func() {
		for _, c := range r.cables {
			c.cut()
		}
	})
	return r
}

func (r *room) Accept() (net.Conn, error) {
	select {
	case c := <-r.calls:
		return c, nil
	case <-r.closed:
		return nil, net.ErrClosed
	}
}
func (r *room) Close() error   { r.once.Do(func() { close(r.closed) }); return nil }
func (r *room) Addr() net.Addr { return &net.UnixAddr{Name: "room"} }

// dial connects to whoever listens.
func (r *room) dial(ctx context.Context) (net.Conn, error) {
	r.mu.Lock()
	r.dials++
	down := r.down
	r.mu.Unlock()
	if down {
		return nil, errors.New("no route to the edge")
	}
	c, near, far := newCable(r.rate)
	select {
	case r.calls <- far:
		r.mu.Lock()
		r.cables = append(r.cables, c)
		r.mu.Unlock()
		return near, nil
	case <-r.closed:
		c.cut()
		return nil, errors.New("nobody listens")
	case <-ctx.Done():
		c.cut()
		return nil, ctx.Err()
	}
}

// last is the newest cable.
func (r *room) last() *cable {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.cables[len(r.cables)-1]
}

func (r *room) count() int { r.mu.Lock(); defer r.mu.Unlock(); return r.dials }

func (r *room) setDown(down bool) { r.mu.Lock(); r.down = down; r.mu.Unlock() }

// A cable joins two pipes and can be cut, or fall silent.
type cable struct {
	ends  [4]net.Conn
	rate  int
	mu    sync.Mutex
	open  chan struct{} // closed while bytes pass
	ended chan struct{}
	once  sync.Once
}

func newCable(rate int) (*cable, net.Conn, net.Conn) {
	c := &cable{rate: rate, open: make(chan struct{}), ended: make(chan struct{})}
	close(c.open)
	c.ends[0], c.ends[1] = net.Pipe()
	c.ends[2], c.ends[3] = net.Pipe()
	go c.carry(c.ends[1], c.ends[2])
	go c.carry(c.ends[2], c.ends[1])
	return c, c.ends[0], c.ends[3]
}

func (c *cable) carry(from, to net.Conn) {
	defer c.cut()
	b := make([]byte, 16<<10)
	for {
		n, err := from.Read(b)
		if c.rate > 0 {
			select {
			case <-time.After(time.Duration(n) * time.Second / time.Duration(c.rate)):
			case <-c.ended:
			}
		}
		c.mu.Lock()
		open := c.open
		c.mu.Unlock()
		select {
		case <-open:
		case <-c.ended:
			return
		}
		if n > 0 {
			if _, err := to.Write(b[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// freeze lets no byte through, and tells nobody.
func (c *cable) freeze() { c.mu.Lock(); c.open = make(chan struct{}); c.mu.Unlock() }

// cut hangs up both ends.
func (c *cable) cut() {
	c.once.Do(func() { close(c.ended) })
	c.ends[1].Close()
	c.ends[2].Close()
}

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
		Name: name, Edges: []string{"edge1:7443"}, Open: open,
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
