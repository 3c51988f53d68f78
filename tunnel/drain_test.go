package tunnel_test

import (
	"context"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/tunnel"
)

// twoCores runs an edge with core1, then flows, then core2.
func twoCores(t *testing.T, flows int, one, two *pbx) (a *tunnel.Acceptor, d1 *tunnel.Dialer, stop1 func(), phones []*client, r *room) {
	r = newRoom(t)
	names := make(chan string, 1)
	ec := edge("")
	ec.Handshake = func(_ context.Context, c net.Conn) (net.Conn, string, error) {
		select {
		case name := <-names:
			return c, name, nil
		default:
			return c, "core1", nil
		}
	}
	a = tunnel.NewAcceptor(ec)
	start(t, func(ctx context.Context) error { return a.Serve(ctx, r) })
	d1 = tunnel.NewDialer(r.core("core1", one.open))
	stop1 = start(t, d1.Run)
	synctest.Wait()
	for i := range flows {
		phones = append(phones, newClient())
		open(t, a, byte(i), phones[i])
	}
	if two != nil {
		names <- "core2"
		start(t, tunnel.NewDialer(r.core("core2", two.open)).Run)
	}
	synctest.Wait()
	return a, d1, stop1, phones, r
}

func ended(phones []*client) (n int) {
	for _, p := range phones {
		if len(p.codes()) > 0 {
			n++
		}
	}
	return n
}

// TU-16: after DRAIN a core gets no OPEN, and its clients stay connected until
// it releases them: at most 2 % a second.
func TestTU16_CoreDrains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two := &pbx{}, &pbx{}
		a, d1, stop, phones, _ := twoCores(t, 200, one, two)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		if err := d1.Drain(ctx); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		for i := range 20 {
			open(t, a, byte(i), newClient())
		}
		<-ctx.Done()
		if one.count() != 200 || two.count() != 20 || ended(phones) != 0 {
			t.Fatalf("by the deadline: %d and %d flows, %d clients closed", one.count(), two.count(), ended(phones))
		}
		released := make(chan struct{})
		began := time.Now()
		go func() { d1.Release(t.Context()); close(released) }()
		for before, over := 0, false; !over; {
			time.Sleep(time.Second)
			synctest.Wait()
			now := ended(phones)
			if now-before > 200*2/100+1 { // a batch on either side of the look
				t.Errorf("%d clients were closed within a second, want 2%%", now-before)
			}
			before = now
			select {
			case <-released:
				over = true
			default:
			}
		}
		if took := time.Since(began); ended(phones) != 200 || took > 55*time.Second {
			t.Errorf("%d clients were closed in %v", ended(phones), took)
		}
		for i, p := range phones {
			if !slices.Equal(p.codes(), []tunnel.CloseCode{tunnel.CloseDrain}) {
				t.Errorf("phone %d was closed with %v", i, p.codes())
			}
		}
		for _, c := range one.clients {
			if !slices.Equal(c.codes(), []tunnel.CloseCode{tunnel.CloseDrain}) {
				t.Fatalf("the core's flow ended with %v", c.codes())
			}
		}
		stop()
		if two.count() != 20 {
			t.Errorf("the other core was given %d flows", two.count())
		}
	})
}

// TU-16, where there is no other core: nobody is sent away, and the core that
// comes back gets every flow again.
func TestTU16_OnlyCoreLeavesItsClientsToTheEdge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one := &pbx{}
		_, d1, stop, phones, _ := twoCores(t, 10, one, nil)
		if err := d1.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		d1.Release(t.Context())
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("Release took %v for nobody", took)
		}
		stop()
		time.Sleep(10 * time.Second)
		if ended(phones) != 0 {
			t.Errorf("%d clients were closed", ended(phones))
		}
	})
}

// TU-16, the edge: it tells its cores that it leaves, and flows go on.
func TestTU16_EdgeDrains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, d1, _, phones, r := twoCores(t, 10, &pbx{}, nil)
		if err := a.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if !d1.Sessions()[0].Draining || ended(phones) != 0 {
			t.Errorf("%+v, %d clients closed", d1.Sessions()[0], ended(phones))
		}
		r.last().cut() // a core that was not there hears it too
		time.Sleep(time.Second)
		if !d1.Sessions()[0].Draining || ended(phones) != 0 {
			t.Errorf("after a cut: %+v", d1.Sessions()[0])
		}
	})
}

// TU-18: of two cores one dies without a word. Its flows are with the other
// within 8 s and grace, and those that were there see nothing.
func TestTU18_OneOfTwoCoresDies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two := &pbx{}, &pbx{}
		a, _, _, phones, r := twoCores(t, 10, one, two)
		calm := newClient()
		open(t, a, 100, calm) // to the core with fewer flows
		time.Sleep(time.Minute)
		died := time.Now()
		r.setDown(true)
		r.all()[0].freeze()
		for two.count() < 11 {
			time.Sleep(100 * time.Millisecond)
		}
		if took := time.Since(died); took > 23*time.Second {
			t.Errorf("moved after %v", took)
		}
		for i, f := range two.flows[1:] {
			if !f.Info().Reopened {
				t.Errorf("flow %d is not said to be reopened", i)
			}
		}
		if n := ended(append(phones, calm)); n != 0 || len(two.clients[0].codes()) != 0 {
			t.Errorf("%d clients were closed", n)
		}
		if err := two.flows[0].Send([]byte("x")); err != nil || a.Sessions()[0].Flows != 11 {
			t.Errorf("the other core's own flow: %v; %+v", err, a.Sessions())
		}
	})
}
