package load

import (
	"encoding/binary"
	"sync"
	"testing"
	"time"

	"sallyport/test/lossy"
	"sallyport/tunnel"
)

// numbered takes echoes of numbered messages and checks that each comes once,
// in order.
type numbered struct {
	t    *testing.T
	mu   sync.Mutex
	next uint32
	want uint32
	all  chan struct{}
}

func (n *numbered) Message(f *tunnel.Flow, p []byte) {
	f.Consumed(len(p))
	n.mu.Lock()
	defer n.mu.Unlock()
	if got := binary.BigEndian.Uint32(p); got != n.next {
		n.t.Errorf("message %d came where %d was due", got, n.next)
	}
	if n.next++; n.next == n.want {
		close(n.all)
	}
}
func (*numbered) Event(*tunnel.Flow, tunnel.Event) {}
func (n *numbered) Closed(_ *tunnel.Flow, code tunnel.CloseCode, text string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.next < n.want { // afterwards the test ends them
		n.t.Errorf("a flow was closed after %d messages: %v %s", n.next, code, text)
	}
}

// convoy sends numbered messages on some flows and tells when all are back.
type convoy struct {
	t     *testing.T
	flows []*tunnel.Flow
	ends  []*numbered
}

func newConvoy(t *testing.T, s *stretch, flows int, each uint32) *convoy {
	t.Helper()
	c := &convoy{t: t}
	for range flows {
		end := &numbered{t: t, want: each, all: make(chan struct{})}
		f, err := s.edge.Open(tunnel.Info{Service: "sip", Transport: "tls", Public: "edge.example.com:5061"}, end)
		if err != nil {
			t.Fatal(err)
		}
		c.flows, c.ends = append(c.flows, f), append(c.ends, end)
	}
	return c
}

// send sends message n on every flow.
func (c *convoy) send(n uint32) {
	c.t.Helper()
	p := binary.BigEndian.AppendUint32(make([]byte, 0, 600), n)[:600]
	for _, f := range c.flows {
		if err := f.SendWait(c.t.Context(), p); err != nil {
			c.t.Fatal(err)
		}
	}
}

func (c *convoy) back(within time.Duration) {
	c.t.Helper()
	late := time.After(within)
	for _, end := range c.ends {
		select {
		case <-end.all:
		case <-late:
			end.mu.Lock()
			c.t.Fatalf("a flow has %d of %d messages after %v", end.next, end.want, within)
		}
	}
}

// up tells whether both ends think that the other is there.
func (s *stretch) up() (edge, core bool) {
	for _, x := range s.edge.Sessions() {
		edge = edge || x.Up
	}
	for _, x := range s.core.Sessions() {
		core = core || x.Up
	}
	return edge, core
}

// The line goes dead without a word to either end. Each notices within 8 s, of
// its own; when the line is back, every message is, once and in order, and no
// flow has ended.
func TestTU8_ALineThatGoesDeadIsNoticedAtBothEndsAndResumed(t *testing.T) {
	p := lossy.New(t, lossy.Line{Delay: time.Millisecond})
	s := lay(t, p, echo)
	c := newConvoy(t, s, 50, 30)
	for n := range uint32(10) {
		c.send(n)
	}
	p.Set(lossy.Line{Cut: true})
	cut := time.Now()
	for n := range uint32(10) {
		c.send(10 + n) // into the void
	}
	until(t, 9*time.Second, "both ends have noticed", func() bool {
		edge, core := s.up()
		return !edge && !core
	})
	t.Logf("noticed after %v", time.Since(cut).Round(10*time.Millisecond))
	p.Set(lossy.Line{Delay: time.Millisecond})
	c.back10(t, p)
}

// back10 sends the last ten messages of each flow and waits for all.
func (c *convoy) back10(t *testing.T, p *lossy.Pair) {
	t.Helper()
	for n := range uint32(10) {
		c.send(20 + n)
	}
	c.back(20 * time.Second)
	there, back := p.Counts()
	t.Logf("packets lost: %d there, %d back", there.Lost, back.Lost)
}

// Five packets in a hundred are lost each way, and the line is dead for a
// while now and then: nothing is lost, doubled or out of order.
func TestTU11_ALineThatLosesPackets(t *testing.T) {
	bad := lossy.Line{Delay: 5 * time.Millisecond, Loss: 0.05}
	p := lossy.New(t, bad)
	s := lay(t, p, echo)
	c := newConvoy(t, s, 50, 30)
	for n := range uint32(20) {
		if n%10 == 5 {
			p.Set(lossy.Line{Cut: true})
		}
		c.send(n)
		if n%10 == 6 {
			p.Set(bad)
		}
	}
	c.back10(t, p)
}
