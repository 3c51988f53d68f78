package tunnel_test

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/tunnel"
)

// TU-7: a connection that breaks is noticed at once, and another goes on where
// it ended at once.
func TestTU7_BrokenConnectionIsNoticedAndRedialled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, core, phone := newRoom(t), &pbx{}, newClient()
		a, d := pair(t, r, edge("core1"), r.core("core1", core.open))
		synctest.Wait()
		up := open(t, a, 1, phone)
		synctest.Wait()
		time.Sleep(time.Minute)
		down, heard := core.newest()
		r.setDown(true)
		killed := time.Now()
		r.last().cut()
		synctest.Wait()
		if took := time.Since(killed); took > 50*time.Millisecond || a.Ready() || d.Ready() {
			t.Errorf("%v after the cut: edge %v, core %v", took, a.Ready(), d.Ready())
		}
		for i, f := range []*tunnel.Flow{up, down} {
			if err := f.Send([]byte("in the gap")); err != nil {
				t.Errorf("flow %d in the gap: %v", i, err)
			}
		}
		r.setDown(false)
		time.Sleep(500*time.Millisecond - time.Since(killed))
		synctest.Wait()
		if !a.Ready() || !d.Ready() {
			t.Errorf("500ms after the cut: edge %v, core %v, %d dials", a.Ready(), d.Ready(), r.count())
		}
		if !slices.Equal(heard.messages(), []string{"in the gap"}) || !slices.Equal(phone.messages(), []string{"in the gap"}) {
			t.Errorf("heard %q, and the phone %q", heard.messages(), phone.messages())
		}
		if core.count() != 1 || len(heard.codes())+len(phone.codes()) != 0 {
			t.Errorf("the flow did not live on: %d OPENs, %v, %v", core.count(), heard.codes(), phone.codes())
		}
	})
}

// TU-8: a peer that is frozen, or behind a black hole, is dead after at most
// DeadAfter + PingEvery, idle or under load, for both ends.
func TestTU8_FrozenPeerIsNoticed(t *testing.T) {
	for name, load := range map[string]bool{"idle": false, "under load": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, core, phone := newRoom(t), &pbx{}, newClient()
				ec, dc := edge("core1"), r.core("core1", core.open)
				ec.Grace, dc.Grace = time.Millisecond, time.Millisecond
				a, _ := pair(t, r, ec, dc)
				synctest.Wait()
				up := open(t, a, 1, phone)
				if load {
					start(t, func(ctx context.Context) error {
						for ctx.Err() == nil && !errors.Is(up.Send(make([]byte, 600)), tunnel.ErrClosed) {
							time.Sleep(5 * time.Millisecond)
						}
						return nil
					})
				}
				time.Sleep(time.Minute + time.Second)
				_, down := core.newest()
				r.setDown(true)
				r.last().freeze()
				frozen := time.Now()
				<-down.ended
				atCore := time.Since(frozen)
				<-phone.ended
				for end, took := range map[string]time.Duration{"core": atCore, "edge": time.Since(frozen)} {
					if took > 8*time.Second || took < 3*time.Second {
						t.Errorf("the %s noticed after %v, want 3s to 8s", end, took)
					}
				}
			})
		})
	}
}

// TU-9: a slow link with a megabyte queued is alive.
func TestTU9_SlowLinkIsNotDeclaredDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, core := newRoom(t), &pbx{}
		r.rate = 50_000 / 8
		a, d := pair(t, r, edge("core1"), r.core("core1", core.open))
		time.Sleep(10 * time.Second)
		for id := range byte(16) {
			f := open(t, a, id+1, newClient())
			for f.Send(make([]byte, 16<<10)) == nil {
			}
		}
		time.Sleep(2 * time.Minute)
		if r.count() != 1 {
			t.Errorf("%d dials: the link was given up", r.count())
		}
		if rtt := d.Sessions()[0].RTT; rtt == 0 {
			t.Error("no round trip was measured")
		}
	})
}

// TU-13: a core that restarts gets every flow again, with its uuid; clients
// see nothing. Events that fell into the gap are told.
func TestTU13_CoreRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, core, phone := newRoom(t), &pbx{}, newClient()
		a := tunnel.NewAcceptor(edge("core1"))
		start(t, func(ctx context.Context) error { return a.Serve(ctx, r) })
		stop := start(t, tunnel.NewDialer(r.core("core1", core.open)).Run)
		synctest.Wait()
		up := open(t, a, 42, phone)
		synctest.Wait()
		first, old := core.newest()
		stop()
		synctest.Wait()
		if got := old.codes(); !slices.Equal(got, []tunnel.CloseCode{tunnel.CloseTunnelLost}) {
			t.Errorf("the leaving core's flow ended with %v", got)
		}
		if err := first.Send([]byte("x")); !errors.Is(err, tunnel.ErrClosed) {
			t.Errorf("send on the old flow: %v", err)
		}
		if err := up.Send([]byte("in the gap")); !errors.Is(err, tunnel.ErrNoCredit) {
			t.Errorf("send in the gap: %v, want ErrNoCredit", err)
		}
		if err := up.Event(tunnel.EventSilent); err != nil {
			t.Errorf("event in the gap: %v", err)
		}
		waited := make(chan error)
		go func() { waited <- up.SendWait(t.Context(), []byte("waited")) }()
		time.Sleep(10 * time.Second)
		start(t, tunnel.NewDialer(r.core("core1", core.open)).Run)
		if err := <-waited; err != nil {
			t.Errorf("send through the gap: %v", err)
		}
		synctest.Wait()
		f, heard := core.newest()
		if i := f.Info(); core.count() != 2 || i.UUID != [16]byte{42} || !i.Reopened || !i.Silent {
			t.Errorf("after the restart: %d flows, %+v", core.count(), i)
		}
		if f.Peer().Boot != first.Peer().Boot || up.Info().Reopened {
			t.Error("the edge did not restart")
		}
		if got := heard.messages(); !slices.Equal(got, []string{"waited"}) {
			t.Errorf("the core heard %q", got)
		}
		if len(phone.codes()) != 0 {
			t.Errorf("the client saw %v", phone.codes())
		}
	})
}

func TestFlowsEndAfterGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, core, phone, closed := newRoom(t), &pbx{}, newClient(), newClient()
		a, _ := pair(t, r, edge("core1"), r.core("core1", core.open))
		synctest.Wait()
		up := open(t, a, 1, phone)
		other := open(t, a, 2, closed)
		r.setDown(true)
		r.last().cut()
		lost := time.Now()
		synctest.Wait()
		if _, err := a.Open(sip(3), newClient()); !errors.Is(err, tunnel.ErrNoCore) {
			t.Errorf("open without a core: %v", err)
		}
		if st := a.Sessions(); len(st) != 1 || st[0].Up || st[0].Flows != 2 {
			t.Errorf("sessions in the gap: %+v", st)
		}
		other.Close(tunnel.CloseClient, "")
		waited := make(chan error)
		for up.Send(make([]byte, 8192)) == nil {
		}
		go func() { waited <- up.SendWait(t.Context(), []byte("x")) }()
		<-phone.ended
		if took := time.Since(lost); took != 15*time.Second {
			t.Errorf("given up after %v, want 15s", took)
		}
		if got := phone.codes(); !slices.Equal(got, []tunnel.CloseCode{tunnel.CloseTunnelLost}) {
			t.Errorf("ended with %v", got)
		}
		if err := <-waited; !errors.Is(err, tunnel.ErrClosed) {
			t.Errorf("the waiting send got %v", err)
		}
		if len(closed.codes()) != 0 {
			t.Errorf("Closed after Close: %v", closed.codes())
		}
	})
}

// TU-14: an edge that restarts takes its flows along; what is sent to them
// reaches no flow of its new life.
func TestTU14_EdgeRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, core := newRoom(t), &pbx{}
		d := tunnel.NewDialer(r.core("core1", core.open))
		a := tunnel.NewAcceptor(edge("core1"))
		start(t, func(ctx context.Context) error { return a.Serve(ctx, r) })
		start(t, d.Run)
		synctest.Wait()
		open(t, a, 1, newClient())
		time.Sleep(time.Minute)
		old, gone := core.newest()
		r.last().freeze() // the edge's machine loses power
		died := time.Now()
		again := tunnel.NewAcceptor(edge("core1"))
		r2 := newRoom(t)
		start(t, func(ctx context.Context) error { return again.Serve(ctx, r2) })
		r.mu.Lock()
		r.calls = r2.calls
		r.mu.Unlock()
		<-gone.ended
		if took := time.Since(died); took > 8*time.Second {
			t.Errorf("the core closed the flow after %v, want at most 8s", took)
		}
		if got := gone.codes(); !slices.Equal(got, []tunnel.CloseCode{tunnel.CloseTunnelLost}) {
			t.Errorf("ended with %v", got)
		}
		time.Sleep(time.Second)
		phone := newClient()
		open(t, again, 2, phone)
		synctest.Wait()
		if err := old.Send([]byte("for the old one")); !errors.Is(err, tunnel.ErrClosed) {
			t.Errorf("send to the old flow: %v", err)
		}
		fresh, _ := core.newest()
		if fresh.Peer().Boot == old.Peer().Boot {
			t.Error("both lives of the edge have the same boot id")
		}
		synctest.Wait()
		if len(phone.messages()) != 0 {
			t.Errorf("the new flow got %q", phone.messages())
		}
	})
}

// TU-13, its number: fifty thousand flows are opened again in two seconds.
func TestTU13_FiftyThousandFlowsInTwoSeconds(t *testing.T) {
	const flows = 50_000
	r := newRoom(t)
	var taken atomic.Int32
	half, all := make(chan struct{}), make(chan struct{})
	take := func(f *tunnel.Flow) tunnel.Handler {
		switch taken.Add(1) {
		case flows:
			close(half)
		case 2 * flows:
			close(all)
		}
		return handler(func(*tunnel.Flow, []byte) {})
	}
	up := make(ups, 1)
	ec := edge("core1")
	ec.Log = slog.New(up)
	a := tunnel.NewAcceptor(ec)
	start(t, func(ctx context.Context) error { return a.Serve(ctx, r) })
	stop := start(t, tunnel.NewDialer(r.core("core1", take)).Run)
	<-up
	opening := time.Now()
	for range flows {
		for {
			_, err := a.Open(tunnel.Info{Service: "sip", Transport: "tls"}, handler(func(*tunnel.Flow, []byte) {}))
			if err == nil {
				break
			}
			runtime.Gosched() // the link is full of OPENs
		}
	}
	<-half
	opened := time.Since(opening)
	stop()
	began := time.Now()
	start(t, tunnel.NewDialer(r.core("core1", take)).Run)
	<-all
	// A busy machine took longer to open them, too.
	if took := time.Since(began); took > max(slow*2*time.Second, 4*opened) {
		t.Errorf("took %v, and %v to open them first", took, opened)
	}
}
