package downstream_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"sallyport/core/downstream"
	"sallyport/tunnel"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// diary is a Handler that writes down what it is told.
type diary struct {
	mu    sync.Mutex
	lines []string
	slow  time.Duration // of each message
	do    func(f *downstream.Flow, p []byte)
}

func (d *diary) write(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, fmt.Sprintf(format, args...))
}

func (d *diary) Opened(f *downstream.Flow) { d.write("opened %s", name(f)) }
func (d *diary) Message(f *downstream.Flow, p []byte) {
	time.Sleep(d.slow)
	d.write("%s says %s", name(f), p)
	if d.do != nil {
		d.do(f, p)
	}
}
func (d *diary) Changed(f *downstream.Flow) { d.write("%s silent %v", name(f), f.Attention().Silent) }
func (d *diary) Closed(f *downstream.Flow, code tunnel.CloseCode, text string) {
	d.write("%s closed %s %s", name(f), code, text)
}

func name(f *downstream.Flow) string { return string(f.Info().UUID[:1]) }

func (d *diary) reads(t *testing.T, want ...string) {
	t.Helper()
	synctest.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	if !slices.Equal(d.lines, want) {
		t.Errorf("the handler was told\n%q, want\n%q", d.lines, want)
	}
	d.lines = nil
}

// edge is the far end of the tunnel.
type edge struct {
	*tunnel.Acceptor
	flows *downstream.Flows
	other *diary // of the service "xmpp"
}

// withEdge runs a story between an edge and the flows of a core.
func withEdge(t *testing.T, d *diary, story func(t *testing.T, e *edge)) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		calls := make(chan net.Conn)
		other := &diary{}
		e := &edge{other: other, flows: downstream.New(map[string]downstream.Handler{"sip": d, "xmpp": other}, 2, nil), Acceptor: tunnel.NewAcceptor(tunnel.AcceptorConfig{
			Name: "edge1", Boot: 0xab,
			Handshake: func(_ context.Context, c net.Conn) (net.Conn, string, error) { return c, "core1", nil }})}
		dialer := tunnel.NewDialer(tunnel.DialerConfig{Name: "core1", Edges: []string{"edge1:1"}, Open: e.flows.Open,
			Dial: func(ctx context.Context, _ string) (net.Conn, string, error) {
				near, far := net.Pipe()
				select {
				case calls <- far:
					return near, "edge1", nil
				case <-ctx.Done():
					return nil, "", ctx.Err()
				}
			}})
		wg.Go(func() { _ = e.Serve(ctx, &listener{calls: calls, done: make(chan struct{})}) })
		wg.Go(func() { _ = dialer.Run(ctx) })
		wg.Go(func() { _ = e.flows.Run(ctx) })
		defer wg.Wait()
		defer cancel()
		synctest.Wait()
		story(t, e)
	})
}

type listener struct {
	calls chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.calls:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}
func (l *listener) Close() error { l.once.Do(func() { close(l.done) }); return nil }
func (*listener) Addr() net.Addr { return &net.TCPAddr{} }

// client opens a flow; its uuid begins with the letter.
func (e *edge) client(t *testing.T, letter, service string) (*tunnel.Flow, *end) {
	t.Helper()
	var id [16]byte
	copy(id[:], letter)
	heard := &end{}
	f, err := e.Open(tunnel.Info{UUID: id, Service: service, Transport: "tls", Public: "edge.example.com:5061",
		Remote: netip.MustParseAddrPort("192.0.2.1:4000"), Since: time.Now()}, heard)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
	return f, heard
}

// end is the client's side of a flow.
type end struct {
	mu     sync.Mutex
	heard  []string
	closed string
}

func (c *end) Message(f *tunnel.Flow, p []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.heard = append(c.heard, string(p))
	f.Consumed(len(p))
}
func (c *end) Event(*tunnel.Flow, tunnel.Event) {}
func (c *end) Closed(_ *tunnel.Flow, code tunnel.CloseCode, _ string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = code.String()
}

func say(t *testing.T, f *tunnel.Flow, words ...string) {
	t.Helper()
	for _, w := range words {
		if err := f.Send([]byte(w)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAFlowIsHeardInOrderFromOpenToClose(t *testing.T) {
	d := &diary{}
	withEdge(t, d, func(t *testing.T, e *edge) {
		f, _ := e.client(t, "a", "sip")
		say(t, f, "one", "two", "three")
		f.Close(tunnel.CloseClient, "bye")
		d.reads(t, "opened a", "a says one", "a says two", "a says three", "a closed client-closed bye")
		if e.flows.Len() != 0 {
			t.Error("the flow is still known")
		}
	})
}

func TestEachServiceHasItsHandler(t *testing.T) {
	d := &diary{}
	withEdge(t, d, func(t *testing.T, e *edge) {
		a, _ := e.client(t, "a", "sip")
		b, _ := e.client(t, "b", "xmpp")
		d.reads(t, "opened a")
		say(t, a, "one")
		say(t, b, "two")
		synctest.Wait()
		if n := len(e.flows.All("xmpp")); n != 1 || !slices.Equal(e.flows.Services(), []string{"sip", "xmpp"}) {
			t.Errorf("%d flows of xmpp; services %q", n, e.flows.Services())
		}
		d.reads(t, "a says one")
		e.other.reads(t, "opened b", "b says two")
	})
}

func TestAFlowOfAnotherServiceIsRefused(t *testing.T) {
	d := &diary{}
	withEdge(t, d, func(t *testing.T, e *edge) {
		_, c := e.client(t, "x", "smtp")
		d.reads(t)
		if c.closed != "policy" {
			t.Errorf("the flow ended %q, want policy", c.closed)
		}
	})
}

func TestTheFlowThatTheCoreClosesIsHeardToEndOnce(t *testing.T) {
	d := &diary{do: func(f *downstream.Flow, p []byte) {
		if string(p) == "junk" {
			f.Close(tunnel.CloseProtocol, "not SIP")
			f.Close(tunnel.CloseProtocol, "again")
		}
	}}
	withEdge(t, d, func(t *testing.T, e *edge) {
		f, c := e.client(t, "a", "sip")
		say(t, f, "junk")
		if err := f.Send([]byte("more")); err != nil && !errors.Is(err, tunnel.ErrClosed) { // the end may be here already
			t.Error(err)
		}
		synctest.Wait()
		d.mu.Lock()
		lines := slices.DeleteFunc(d.lines, func(l string) bool { return l == "a says more" }) // it may have been on its way
		d.mu.Unlock()
		if want := []string{"opened a", "a says junk", "a closed protocol not SIP"}; !slices.Equal(lines, want) {
			t.Errorf("the handler was told %q, want %q", lines, want)
		}
		if c.closed != "protocol" {
			t.Errorf("the client heard %q", c.closed)
		}
	})
}

func TestAClientThatIsNotHandledFastEnoughGetsNoCredit(t *testing.T) {
	d := &diary{slow: time.Second}
	withEdge(t, d, func(t *testing.T, e *edge) {
		f, _ := e.client(t, "a", "sip")
		big := make([]byte, 16<<10)
		sent := 0
		for f.Send(big) == nil {
			sent++
		}
		if sent == 0 || sent > 8 { // a window, not more
			t.Fatalf("%d messages are under way", sent)
		}
		time.Sleep(500 * time.Millisecond)
		if f.Send(big) == nil {
			t.Error("credit came back before a message was handled")
		}
		time.Sleep(time.Duration(sent) * time.Second)
		synctest.Wait()
		if err := f.Send(big); err != nil {
			t.Errorf("after all were handled: %v", err)
		}
	})
}

func TestAnEdgeThatOpensAFlowAnewEndsTheOldOne(t *testing.T) {
	d := &diary{}
	withEdge(t, d, func(t *testing.T, e *edge) {
		first, _ := e.client(t, "a", "sip")
		d.reads(t, "opened a")
		e.client(t, "a", "sip")
		d.reads(t, "a closed tunnel-lost ", "opened a")
		if e.flows.Len() != 1 {
			t.Errorf("%d flows are known", e.flows.Len())
		}
		say(t, first, "a word of the dead")
		d.reads(t)
	})
}

func TestAttentionFollowsWhatTheClientAndItsKeepalivesSay(t *testing.T) {
	d := &diary{}
	withEdge(t, d, func(t *testing.T, e *edge) {
		f, _ := e.client(t, "a", "sip")
		id := downstream.FlowID(tunnel.Peer{Name: "edge1", Boot: 0xab}, f.Info().UUID)
		flow := e.flows.Get(id)
		if flow == nil || flow.ID() != id || downstream.Edge(id) != "edge1" {
			t.Fatalf("no flow %s", id)
		}
		_ = f.Event(tunnel.EventSilent)
		_ = f.Event(tunnel.EventSilent) // no news
		_ = f.Event(tunnel.EventAlive)
		d.reads(t, "opened a", "a silent true", "a silent false")
		flow.SetUnanswered()
		flow.SetInactive(true)
		if a := flow.Attention(); !a.Unanswered || !a.Inactive {
			t.Errorf("attention %+v", a)
		}
		say(t, f, "here") // anything takes back that nothing came
		synctest.Wait()
		if a := flow.Attention(); a.Unanswered || !a.Inactive {
			t.Errorf("attention %+v", a)
		}
	})
}

func TestAFlowThatIsGoneCannotBeSentTo(t *testing.T) {
	d := &diary{}
	withEdge(t, d, func(t *testing.T, e *edge) {
		f, c := e.client(t, "a", "sip")
		flow := e.flows.All("sip")[0]
		if err := flow.Send([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if !slices.Equal(c.heard, []string{"hello"}) {
			t.Errorf("the client heard %q", c.heard)
		}
		f.Close(tunnel.CloseReset, "")
		synctest.Wait()
		if err := flow.Send([]byte("anyone?")); err == nil {
			t.Error("a message to nobody was taken")
		}
	})
}
