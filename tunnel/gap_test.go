package tunnel_test

import (
	"context"
	"errors"
	"net"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/tunnel"
	"sallyport/tunnel/frame"
)

// TU-16: DRAIN is heard though every connection was broken when it was said,
// and the edge's answer, that it has another core, is heard too.
func TestTU16_CoreDrainsInAGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one := &pbx{}
		a, d1, _, phones, r := twoCores(t, 4, one, nil)
		r.setDown(true)
		for _, c := range r.all() {
			c.cut()
		}
		time.Sleep(time.Second)
		if err := d1.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.setDown(false)
		time.Sleep(5 * time.Second)
		if st := a.Sessions()[0]; !st.Up || st.Flows != 4 || !st.Draining || ended(phones) != 0 {
			t.Fatalf("the session did not resume as one that drains: %+v", st)
		}
		if _, err := a.Open(sip(100), newClient()); !errors.Is(err, tunnel.ErrNoCore) {
			t.Errorf("a flow was opened on a core that drains: %v", err)
		}
	})
}

// The same where another core is there: those who are left go to it.
func TestTU16_CoreThatDrainedInAGapReleasesItsFlows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two := &pbx{}, &pbx{}
		_, d1, _, phones, r := twoCores(t, 4, one, two)
		r.setDown(true)
		r.all()[0].cut()
		time.Sleep(time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		if err := d1.Drain(ctx); err != nil {
			t.Fatal(err)
		}
		r.setDown(false)
		time.Sleep(5 * time.Second)
		d1.Release(t.Context())
		synctest.Wait()
		if n := ended(phones); n != 4 {
			t.Errorf("%d clients were released, want 4", n)
		}
	})
}

// A core that is back for its first link before it has read the edge's HELLO
// on it takes the link over: two connections never carry one link.
func TestFirstLinkIsTakenOverBeforeItIsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(t)
		start(t, func(ctx context.Context) error { return tunnel.NewAcceptor(edge("core1")).Serve(ctx, r) })
		dial := func(h frame.Hello) *wire {
			near, far := net.Pipe() // takes nothing that is not read
			t.Cleanup(func() { _ = near.Close() })
			r.calls <- far
			w := newWire(t, near)
			w.hello(h)
			return w
		}
		h := says(frame.RoleCore, "core1")
		h.MaxMinor, h.Features = 1, frame.FeatureResume
		first := dial(h)
		synctest.Wait()
		h.Resume = true
		second := dial(h)
		up := make(chan struct{})
		go func() {
			defer close(up)
			second.expect(frame.TypeHello)
		}()
		for range 1000 { // time to do it wrong; who waits for a lock is no news to synctest
			runtime.Gosched()
		}
		first.expect(frame.TypeHello)
		began := time.Now()
		if got, _, err := first.next(); err == nil || time.Since(began) > 0 {
			t.Errorf("the first connection lives on: %v %v", got.Type, err)
		}
		<-up
		second.write(frame.AppendUint64(nil, frame.TypePing, 1))
		second.expect(frame.TypePong)
	})
}

// TU-16, where both cores leave: neither sends its clients away, since the
// other would not take them.
func TestTU16_TwoCoresThatLeaveAreNoSpareForEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, names := newRoom(t), make(chan string, 2)
		ec := edge("")
		ec.Handshake = func(_ context.Context, c net.Conn) (net.Conn, string, error) { return c, <-names, nil }
		a := tunnel.NewAcceptor(ec)
		start(t, func(ctx context.Context) error { return a.Serve(ctx, r) })
		var cores []*tunnel.Dialer
		for _, name := range []string{"core1", "core2"} {
			names <- name
			cores = append(cores, tunnel.NewDialer(r.core(name, (&pbx{}).open)))
			start(t, cores[len(cores)-1].Run)
			synctest.Wait()
		}
		var phones []*client
		for i := range 10 {
			phones = append(phones, newClient())
			open(t, a, byte(i), phones[i])
		}
		synctest.Wait()
		for _, d := range cores {
			if err := d.Drain(t.Context()); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		for _, d := range cores {
			d.Release(t.Context())
		}
		synctest.Wait()
		if n := ended(phones); n > 0 {
			t.Errorf("%d clients of 10 were sent away, and nobody takes them", n)
		}
	})
}
