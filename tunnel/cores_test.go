package tunnel_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/tunnel"
)

// TU-15: a second session of a node replaces the first; flows move over.
func TestTU15_NewerSessionOfANodeTakesOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, first, second, phone := newRoom(t), &pbx{}, &pbx{}, newClient()
		a := tunnel.NewAcceptor(edge("core1"))
		start(t, func(ctx context.Context) error { return a.Serve(ctx, r) })
		d := tunnel.NewDialer(r.core("core1", first.open))
		start(t, d.Run)
		synctest.Wait()
		open(t, a, 1, phone)
		time.Sleep(time.Minute)
		start(t, tunnel.NewDialer(r.core("core1", second.open)).Run)
		_, old := first.newest()
		<-old.ended
		synctest.Wait() // the first waits before it dials again, so that the two do not fight
		if st := d.Sessions()[0]; st.Up || !strings.Contains(st.LastError, "replaced") {
			t.Errorf("the first: %+v", st)
		}
		if f, _ := second.newest(); second.count() != 1 || !f.Info().Reopened {
			t.Fatalf("the newer session has %d flows", second.count())
		}
		if st := a.Sessions(); len(st) != 1 || st[0].Flows != 1 {
			t.Errorf("sessions: %+v", st)
		}
		if len(phone.codes()) != 0 {
			t.Errorf("the client saw %v", phone.codes())
		}
	})
}

func TestCoresShareFlowsAndDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, one, two := newRoom(t), &pbx{}, &pbx{}
		names := make(chan string, 2)
		ec := edge("")
		ec.Handshake = func(_ context.Context, c net.Conn) (net.Conn, string, error) { return c, <-names, nil }
		a := tunnel.NewAcceptor(ec)
		start(t, func(ctx context.Context) error { return a.Serve(ctx, r) })
		d1 := tunnel.NewDialer(r.core("core1", one.open))
		names <- "core1"
		stop := start(t, d1.Run)
		synctest.Wait()
		names <- "core2"
		start(t, tunnel.NewDialer(r.core("core2", two.open)).Run)
		synctest.Wait()
		phones := make([]*client, 10)
		for i := range phones {
			phones[i] = newClient()
			open(t, a, byte(i+1), phones[i])
		}
		synctest.Wait()
		if one.count() != 5 || two.count() != 5 {
			t.Errorf("cores got %d and %d flows", one.count(), two.count())
		}
		if err := d1.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		for i := range 4 {
			open(t, a, byte(i+100), newClient())
		}
		synctest.Wait()
		if one.count() != 5 || two.count() != 9 {
			t.Errorf("after DRAIN cores got %d and %d flows", one.count(), two.count())
		}
		for _, f := range one.flows {
			if err := f.Send([]byte("still here")); err != nil {
				t.Errorf("a draining core's flow: %v", err)
			}
		}
		stop() // TU-18: its flows go to the other core, those of which see nothing
		time.Sleep(5*time.Second + time.Millisecond)
		synctest.Wait()
		if two.count() != 14 {
			t.Errorf("the other core has %d flows, want 14", two.count())
		}
		for i, p := range phones {
			if len(p.codes()) != 0 {
				t.Errorf("phone %d was closed: %v", i, p.codes())
			}
		}
	})
}

// TU-19: redials are spread, grow, and never end.
func TestTU19_RedialsAreSpreadAndNeverEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(t)
		r.setDown(true)
		cfg := r.core("core1", (&pbx{}).open)
		var at []time.Time
		cfg.Dial = func(context.Context, string) (net.Conn, string, error) {
			at = append(at, time.Now())
			return nil, "", errors.New("refused")
		}
		d := tunnel.NewDialer(cfg)
		stop := start(t, d.Run)
		time.Sleep(time.Hour)
		stop()
		var least, most time.Duration = time.Hour, 0
		for i := 10; i < len(at); i++ {
			gap := at[i].Sub(at[i-1])
			least, most = min(least, gap), max(most, gap)
		}
		if most > 10*time.Second || most-least < 8*time.Second {
			t.Errorf("%d dials, %v to %v apart; want them spread over 10s", len(at), least, most)
		}
		if d.Ready() || d.Sessions()[0].LastError != "refused" {
			t.Errorf("%+v", d.Sessions())
		}
	})
}

func TestOneEdgeByTwoAddressesIsSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(t)
		cfg := r.core("core1", (&pbx{}).open)
		cfg.Edges = []string{"edge1:7443", "192.0.2.1:7443"}
		a, d := pair(t, r, edge("core1"), cfg)
		time.Sleep(time.Minute)
		up := 0
		for _, st := range d.Sessions() {
			if st.Up {
				up++
			} else if st.LastError == "" {
				t.Errorf("%s: no error", st.Edge)
			}
		}
		if up > 1 || !a.Ready() && up == 1 {
			t.Errorf("%d sessions with one edge", up)
		}
	})
}

// The first does not hear of it while its line is down; once back, it is told
// that it was replaced, and does not take its flows back.
func TestTU15_ReplacedInAGapIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, first, second, phone := newRoom(t), &pbx{}, &pbx{}, newClient()
		a := tunnel.NewAcceptor(edge("core1"))
		start(t, func(ctx context.Context) error { return a.Serve(ctx, r) })
		var cut atomic.Bool
		cfg := r.core("core1", first.open)
		dial := cfg.Dial
		cfg.Dial = func(ctx context.Context, edge string) (net.Conn, string, error) {
			if cut.Load() {
				return nil, "", errors.New("no way to the edge")
			}
			return dial(ctx, edge)
		}
		d := tunnel.NewDialer(cfg)
		start(t, d.Run)
		synctest.Wait()
		open(t, a, 1, phone)
		synctest.Wait()
		cut.Store(true)
		for _, c := range r.all() {
			c.cut()
		}
		time.Sleep(time.Second)
		start(t, tunnel.NewDialer(r.core("core1", second.open)).Run)
		time.Sleep(time.Second)
		cut.Store(false)
		_, old := first.newest()
		<-old.ended
		synctest.Wait()
		if st := d.Sessions()[0]; st.Up || !strings.Contains(st.LastError, "replaced") {
			t.Errorf("the first: %+v", st)
		}
		if st := a.Sessions(); len(st) != 1 || st[0].Flows != 1 || second.count() != 1 || len(phone.codes()) != 0 {
			t.Errorf("sessions: %+v; the client saw %v", st, phone.codes())
		}
	})
}
