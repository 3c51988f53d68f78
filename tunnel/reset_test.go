package tunnel_test

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sallyport/tunnel"
	"sallyport/tunnel/frame"
)

// TU-12: a core that wants to go on from where the edge cannot is refused; its
// flows are opened again with the same uuid in the next session, and clients
// stay.
func TestTU12_ResumeRefusedByTheEdge(t *testing.T) {
	good := resuming(frame.RoleCore, "core1")
	for name, change := range map[string]func(*frame.Hello){
		"beyond what was sent": func(h *frame.Hello) { h.RxOffset = 1 << 40 },
		"before what is kept":  func(h *frame.Hello) { h.RxOffset = 0 },
		"another session":      func(h *frame.Hello) { h.Session = 77 },
		"another life":         func(h *frame.Hello) { h.Boot = 77 },
		"other links":          func(h *frame.Hello) { h.Links = 2 },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, a, old := edgeOf(t, edge("core1"))
				phone := newClient()
				open(t, a, 42, phone)
				opened := old.expect(frame.TypeOpen)
				rx := uint64(frame.HeaderLen + len(opened))
				old.write(frame.AppendUint64(nil, frame.TypeAck, rx))
				synctest.Wait()
				h := again(good, rx)
				change(&h)
				w := dialled(t, r, h)
				if h.Session == 1 && h.Boot == 1 && h.Links == 1 {
					_, _, _ = w.next() // the edge's HELLO: it cannot know earlier
				}
				w.expectGoAway(frame.GoAwayReset, "cannot be resumed")
				next := good
				next.Session = 2
				n := dialled(t, r, next)
				n.expect(frame.TypeHello)
				info, err := frame.ParseOpen(n.expect(frame.TypeOpen), nil)
				if err != nil || info.UUID != [16]byte{42} || !info.Reopened {
					t.Errorf("%+v, %v", info, err)
				}
				if len(phone.codes()) != 0 {
					t.Errorf("the client saw %v", phone.codes())
				}
			})
		})
	}
}

// TU-12, seen by the core: an edge that cannot go on ends the session's flows
// there, and a new session begins at once.
func TestTU12_ResumeRefusedByTheCore(t *testing.T) {
	for name, change := range map[string]func(*frame.Hello){
		"beyond what was sent": func(h *frame.Hello) { h.RxOffset = 1 << 40 },
		"another session":      func(h *frame.Hello) { h.Session = 77 },
		"an edge restarted":    func(h *frame.Hello) { h.Boot = 77 },
		"an edge downgraded":   func(h *frame.Hello) { h.Features, h.Resume = 0, false },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, core := newRoom(t), &pbx{}
				start(t, tunnel.NewDialer(r.core("core1", core.open)).Run)
				h := resuming(frame.RoleEdge, "edge1")
				accept := func() (*wire, frame.Hello) {
					c, _ := r.Accept()
					w := newWire(t, c)
					own, err := frame.ParseHello(w.expect(frame.TypeHello))
					if err != nil {
						t.Fatal(err)
					}
					return w, own
				}
				w, own := accept()
				h.Session = own.Session
				w.hello(h)
				w.write(openFrame(1))
				synctest.Wait()
				_, heard := core.newest()
				w.conn.Close()
				w, own = accept()
				if want := uint64(len(openFrame(1))); !own.Resume || own.Session != h.Session || own.RxOffset != want {
					t.Errorf("the core goes on as %+v", own)
				}
				lie := again(h, 0)
				change(&lie)
				w.hello(lie)
				w.expectGoAway(frame.GoAwayReset, "cannot be resumed")
				<-heard.ended
				if got := heard.codes(); !slices.Equal(got, []tunnel.CloseCode{tunnel.CloseTunnelLost}) {
					t.Errorf("the flow ended with %v", got)
				}
				if _, own = accept(); own.Resume || own.Session == h.Session || own.RxOffset != 0 {
					t.Errorf("the core begins anew as %+v", own)
				}
			})
		})
	}
}

// A core that gave the session up before the edge did comes with a new one.
func TestTU12_CutForLongerThanTheCoreWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, core, phone := newRoom(t), &pbx{}, newClient()
		dc := r.core("core1", core.open)
		dc.Grace = 5 * time.Second
		a, _ := pair(t, r, edge("core1"), dc)
		synctest.Wait()
		open(t, a, 42, phone)
		synctest.Wait()
		_, heard := core.newest()
		r.setDown(true)
		r.last().cut()
		cut := time.Now()
		<-heard.ended
		if took := time.Since(cut); took != 5*time.Second {
			t.Errorf("the core gave up after %v", took)
		}
		r.setDown(false)
		time.Sleep(5 * time.Second)
		f, _ := core.newest()
		if i := f.Info(); core.count() != 2 || i.UUID != [16]byte{42} || !i.Reopened || len(phone.codes()) != 0 {
			t.Errorf("%d OPENs, %+v; the client saw %v", core.count(), i, phone.codes())
		}
	})
}

// TU-4, of acknowledgements: what was not sent cannot have been handled, and
// what was handled stays so.
func TestTU4_AckLieEndsSession(t *testing.T) {
	for name, lies := range map[string][]uint64{"of what was not sent": {1 << 30}, "taken back": {10, 9}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, a, w := edgeOf(t, edge("core1"))
				open(t, a, 1, newClient())
				w.expect(frame.TypeOpen)
				for _, n := range lies {
					w.try(frame.AppendUint64(nil, frame.TypeAck, n))
				}
				w.expectGoAway(frame.GoAwayProtocol, "ACK")
				synctest.Wait()
				if a.Ready() {
					t.Error("the session lives")
				}
			})
		})
	}
}

// A peer that acknowledges nothing costs a ring, and no more: then senders
// wait, and the link is given up for the next.
func TestPeerThatAcknowledgesNothingIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, w := edgeOf(t, edge("core1"))
		f := open(t, a, 1, newClient())
		got := 0
		go func() {
			for {
				h, _, err := w.next()
				if err != nil {
					return
				}
				if got += h.Len; h.Type == frame.TypeData {
					w.try(frame.AppendUint32(nil, frame.TypeCredit, 1, uint32(h.Len)))
				}
			}
		}()
		sent := 0
		for range 10_000 {
			if f.Send(make([]byte, 16<<10)) != nil {
				break
			}
			sent += 16 << 10
			synctest.Wait()
		}
		if sent < 4<<20 || sent > 6<<20 {
			t.Errorf("%d bytes were taken, want a ring of 4 MiB and a queue of 1 MiB", sent)
		}
	})
}

// TU-10: a peer that lives but handles nothing is told of within 10 s, and its
// connection given up within 15 s.
func TestTU10_AliveButStalled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := prometheus.NewRegistry()
		ec := edge("core1")
		ec.Metrics = reg
		_, a, w := edgeOf(t, ec)
		open(t, a, 1, newClient())
		began := time.Now()
		stop := start(t, func(ctx context.Context) error {
			for {
				select {
				case <-time.After(time.Second):
					w.try(frame.AppendUint64(nil, frame.TypePing, 1))
				case <-ctx.Done():
					return nil
				}
			}
		})
		gone := make(chan []byte)
		go func() {
			for {
				h, p, err := w.next()
				if err != nil || h.Type == frame.TypeGoAway {
					gone <- p
					return
				}
			}
		}()
		time.Sleep(10 * time.Second)
		if age := value(t, reg, "sallyport_tunnel_unacked_seconds", "edge"); age < 9 || age > 10 {
			t.Errorf("after 10s the oldest is said to be %vs", age)
		}
		code, text := frame.ParseGoAway(<-gone)
		w.conn.Close()
		stop()
		if took := time.Since(began); took > 15*time.Second || code != frame.GoAwayDead {
			t.Errorf("given up after %v, %v %q", took, code, text)
		}
		synctest.Wait()
		if count(t, reg, "sallyport_tunnel_link_ends_total", "stalled") != 1 || a.Ready() {
			t.Error("not counted, or still ready")
		}
	})
}

// TU-10, its cause: a worker that never returns. The connection is given up,
// and when it returns all the same, the link goes on and nothing was lost.
func TestTU10_WorkerDeadlocked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, stuck := newRoom(t), make(chan struct{})
		var got []string
		core := func(*tunnel.Flow) tunnel.Handler {
			return handler(func(f *tunnel.Flow, p []byte) {
				<-stuck
				got = append(got, string(p))
			})
		}
		phone := newClient()
		a, d := pair(t, r, edge("core1"), r.core("core1", core))
		synctest.Wait()
		up := open(t, a, 1, phone)
		began := time.Now()
		for _, m := range []string{"a", "b", "c"} {
			if err := up.Send([]byte(m)); err != nil {
				t.Fatal(err)
			}
		}
		for a.Ready() {
			time.Sleep(100 * time.Millisecond)
		}
		if took := time.Since(began); took > 15*time.Second {
			t.Errorf("given up after %v", took)
		}
		close(stuck)
		time.Sleep(time.Second)
		synctest.Wait()
		if !slices.Equal(got, []string{"a", "b", "c"}) || !d.Ready() || len(phone.codes()) != 0 {
			t.Errorf("handled %q, ready %v, the phone saw %v", got, d.Ready(), phone.codes())
		}
	})
}
