package tunnel_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/tunnel"
)

// A worker takes messages from the reader's hands and handles them in its own
// time. Its queue holds what a window can.
type worker struct {
	queue chan []byte
}

func newWorker(size int) *worker { return &worker{queue: make(chan []byte, 2*65536/size)} }

func (w *worker) Message(_ *tunnel.Flow, p []byte)              { w.queue <- append([]byte{}, p...) }
func (w *worker) Event(*tunnel.Flow, tunnel.Event)              {}
func (w *worker) Closed(*tunnel.Flow, tunnel.CloseCode, string) { close(w.queue) }

// TU-3: with both directions full and small socket buffers, all is carried,
// since the reader waits for nobody.
func TestTU3_BothDirectionsFull(t *testing.T) {
	const flows, messages, size = 100, 240, 600 // each way more than two windows
	var gaps gauge
	var moved atomic.Int64
	var done sync.WaitGroup
	consume := func(w *worker, f *tunnel.Flow) {
		for range messages {
			p := <-w.queue
			f.Consumed(len(p))
			moved.Add(1)
		}
	}
	flood := func(f *tunnel.Flow) {
		for range messages {
			if err := f.SendWait(t.Context(), make([]byte, size)); err != nil {
				t.Errorf("send: %v", err)
				return
			}
		}
	}
	a := securePair(t, func(f *tunnel.Flow) tunnel.Handler {
		w := newWorker(size)
		done.Go(func() { consume(w, f) })
		done.Go(func() { flood(f) })
		return w
	}, smallBuffers, gaps.wrap)
	for range flows {
		w := newWorker(size)
		f, err := a.Open(tunnel.Info{Service: "sip"}, w)
		if err != nil {
			t.Fatal(err)
		}
		done.Go(func() { consume(w, f) })
		done.Go(func() { flood(f) })
	}
	all := make(chan struct{})
	go func() { done.Wait(); close(all) }()
	for over, last := false, int64(-1); !over; {
		select {
		case <-all:
			over = true
		case <-time.After(10 * time.Second): // a slow machine moves something
			now := moved.Load()
			if now == last {
				t.Fatalf("stuck after %d messages", now)
			}
			last = now
		}
	}
	// The median, since a busy machine takes the processor away for longer.
	if median := gaps.median(); median > 10*time.Millisecond {
		t.Errorf("the reader is away from its socket for %v at a time", median)
	}
}

func smallBuffers(c net.Conn) net.Conn {
	_ = c.(*net.TCPConn).SetReadBuffer(64 << 10)
	_ = c.(*net.TCPConn).SetWriteBuffer(64 << 10)
	return c
}

// gauge measures how long readers do something else than read.
type gauge struct {
	mu   sync.Mutex
	away []time.Duration
}

func (g *gauge) wrap(c net.Conn) net.Conn { return &gauged{Conn: c, g: g} }

func (g *gauge) median() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	slices.Sort(g.away)
	return g.away[len(g.away)/2]
}

type gauged struct {
	net.Conn
	g    *gauge
	back time.Time
}

func (c *gauged) Read(p []byte) (int, error) {
	if !c.back.IsZero() {
		c.g.mu.Lock()
		c.g.away = append(c.g.away, time.Since(c.back))
		c.g.mu.Unlock()
	}
	n, err := c.Conn.Read(p)
	c.back = time.Now()
	return n, err
}

// TU-17: DRAIN arrives though the data queue is full.
func TestTU17_DrainOvertakesData(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, core := newRoom(t), &pbx{}
		r.rate = 10 << 20
		a, d := pair(t, r, edge("core1"), r.core("core1", core.open))
		synctest.Wait()
		time.Sleep(time.Second)
		var flows []*tunnel.Flow
		for id := range byte(32) {
			flows = append(flows, open(t, a, id+1, newClient()))
		}
		for _, f := range flows {
			for f.Send(make([]byte, 8192)) == nil {
			}
		}
		began := time.Now()
		if err := a.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		for !d.Sessions()[0].Draining {
			time.Sleep(time.Millisecond)
		}
		if took := time.Since(began); took > 100*time.Millisecond {
			t.Errorf("DRAIN took %v past a full queue", took)
		}
	})
}

// TU-26: messages of one flow arrive in the order in which they were sent.
func TestTU26_OrderWithinAFlow(t *testing.T) {
	const messages = 20_000
	var next, inverted atomic.Uint32
	done := make(chan struct{})
	a := securePair(t, func(*tunnel.Flow) tunnel.Handler {
		return handler(func(f *tunnel.Flow, p []byte) {
			f.Consumed(len(p))
			if binary.BigEndian.Uint32(p) != next.Load() {
				inverted.Add(1)
			}
			if next.Add(1) == messages {
				close(done)
			}
		})
	})
	f, err := a.Open(tunnel.Info{Service: "sip"}, newClient())
	if err != nil {
		t.Fatal(err)
	}
	for i := range uint32(messages) {
		p := make([]byte, 100+i%1000)
		binary.BigEndian.PutUint32(p, i)
		if err := f.SendWait(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	<-done
	if n := inverted.Load(); n != 0 {
		t.Errorf("%d of %d messages out of order", n, messages)
	}
}

// handler is a Handler that cares for messages alone.
type handler func(*tunnel.Flow, []byte)

func (h handler) Message(f *tunnel.Flow, p []byte)              { h(f, p) }
func (h handler) Event(*tunnel.Flow, tunnel.Event)              {}
func (h handler) Closed(*tunnel.Flow, tunnel.CloseCode, string) {}

// TU-27: sending to a flow that has ended fails at once and dials nobody.
func TestTU27_SendToClosedFlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, core, phone := newRoom(t), &pbx{}, newClient()
		a, _ := pair(t, r, edge("core1"), r.core("core1", core.open))
		synctest.Wait()
		up := open(t, a, 1, phone)
		synctest.Wait()
		down, heard := core.newest()
		up.Close(tunnel.CloseClient, "")
		<-heard.ended
		began := time.Now()
		for name, err := range map[string]error{
			"Send": down.Send([]byte("x")), "SendWait": down.SendWait(t.Context(), []byte("x")),
			"Event": down.Event(tunnel.EventAlive), "the closer's Send": up.Send([]byte("x")),
		} {
			if !errors.Is(err, tunnel.ErrClosed) {
				t.Errorf("%s: %v, want ErrClosed", name, err)
			}
		}
		down.Close(tunnel.CloseDrain, "twice")
		if took := time.Since(began); took > time.Millisecond {
			t.Errorf("took %v", took)
		}
		if r.count() != 1 {
			t.Errorf("%d dials", r.count())
		}
	})
}

// TU-29: a client that floods one flow gets 64 KiB into the tunnel and no more
// until the core has consumed.
func TestTU29_FloodOfOneFlowStopsAtItsWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, core := newRoom(t), &pbx{make: func(*tunnel.Flow) *client {
			c := newClient()
			c.keep = true
			return c
		}}
		a, _ := pair(t, r, edge("core1"), r.core("core1", core.open))
		synctest.Wait()
		up := open(t, a, 1, newClient())
		sent := 0
		for up.Send(make([]byte, 512)) == nil {
			sent += 512
		}
		if sent != 65536 {
			t.Errorf("%d bytes were taken, want 65536", sent)
		}
		synctest.Wait()
		down, heard := core.newest()
		if got := len(heard.messages()) * 512; got != 65536 {
			t.Errorf("the core holds %d bytes", got)
		}
		if err := up.Send([]byte("x")); !errors.Is(err, tunnel.ErrNoCredit) {
			t.Errorf("a byte more: %v, want ErrNoCredit", err)
		}
		waited := make(chan error)
		go func() { waited <- up.SendWait(t.Context(), make([]byte, 512)) }()
		time.Sleep(time.Second)
		down.Consumed(16383)
		synctest.Wait()
		select {
		case err := <-waited:
			t.Errorf("a quarter of the window is not free, but SendWait returned %v", err)
		default:
		}
		down.Consumed(1)
		if err := <-waited; err != nil {
			t.Error(err)
		}
	})
}

func TestSendWaitEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, core, phone := newRoom(t), &pbx{}, newClient()
		phone.keep = true
		a, _ := pair(t, r, edge("core1"), r.core("core1", core.open))
		synctest.Wait()
		open(t, a, 1, phone)
		synctest.Wait()
		down, _ := core.newest()
		for down.Send(make([]byte, 65536)) == nil {
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		over := fmt.Errorf("the caller hung up")
		time.AfterFunc(time.Second, func() { cancel(over) })
		if err := down.SendWait(ctx, []byte("x")); !errors.Is(err, over) {
			t.Errorf("%v, want %v", err, over)
		}
	})
}
