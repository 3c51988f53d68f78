package tunnel_test

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/tunnel"
	"sallyport/tunnel/frame"
)

// TU-20: an end that speaks the minor version before this one, and so knows no
// resume, no second link and no narrow flow, works as it did: either may be
// upgraded first.
func TestTU20_FormerMinorInteroperates(t *testing.T) {
	for name, former := range map[string]struct{ edge, core bool }{
		"former edge": {edge: true}, "former core": {core: true}, "both": {true, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, core, phone := newRoom(t), &pbx{}, newClient()
				dc := r.core("core1", core.open)
				dc.Links = 2
				a, d := tunnel.NewAcceptor(edge("core1")), tunnel.NewDialer(dc)
				if former.edge {
					a.SpeakFormer()
				}
				if former.core {
					d.SpeakFormer()
				}
				start(t, func(ctx context.Context) error { return a.Serve(ctx, r) })
				start(t, d.Run)
				synctest.Wait()
				up := open(t, a, 1, phone)
				for range 100 {
					if err := up.Send(make([]byte, 6000)); err != nil {
						t.Fatal(err)
					}
					synctest.Wait()
				}
				down, heard := core.newest()
				if err := down.Send([]byte("200")); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Minute)
				if len(heard.messages()) != 100 || !slices.Equal(phone.messages(), []string{"200"}) || r.count() != 1 {
					t.Errorf("heard %d messages, the phone %q, over %d links", len(heard.messages()), phone.messages(), r.count())
				}
				if st := d.Sessions()[0]; !st.Up || st.Links != 1 {
					t.Errorf("%+v", st)
				}
				r.last().cut()
				time.Sleep(time.Second)
				again, _ := core.newest()
				if core.count() != 2 || !again.Info().Reopened || len(phone.codes()) != 0 {
					t.Errorf("after a cut: %d OPENs, the phone saw %v", core.count(), phone.codes())
				}
				if got := heard.codes(); !slices.Equal(got, []tunnel.CloseCode{tunnel.CloseTunnelLost}) {
					t.Errorf("the old flow ended with %v", got)
				}
			})
		})
	}
}

// resuming is a HELLO of this minor version.
func resuming(role frame.Role, name string) frame.Hello {
	h := says(role, name)
	h.MaxMinor, h.Features = 1, frame.FeatureResume|frame.FeatureNarrow
	return h
}

// again asks to go on with the session that h began.
func again(h frame.Hello, rx uint64) frame.Hello {
	h.Resume, h.RxOffset = true, rx
	return h
}

// dialled is one more connection to the edge in r, played by hand.
func dialled(t *testing.T, r *room, h frame.Hello) *wire {
	t.Helper()
	c, err := r.dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w := newWire(t, c)
	w.hello(h)
	return w
}

// edgeOf runs an edge and a core played by hand, which has dialled it.
func edgeOf(t *testing.T, ec tunnel.AcceptorConfig) (*room, *tunnel.Acceptor, *wire) {
	r, a := newRoom(t), tunnel.NewAcceptor(ec)
	start(t, func(ctx context.Context) error { return a.Serve(ctx, r) })
	w := dialled(t, r, resuming(frame.RoleCore, "core1"))
	w.expect(frame.TypeHello)
	synctest.Wait()
	return r, a, w
}

// TU-15: a connection of the same core for the same link takes over, though
// the one before is alive; what was not handled is said again, and no flow has
// two owners.
func TestTU15_NewerConnectionTakesTheLinkOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, a, old := edgeOf(t, edge("core1"))
		phone := newClient()
		up := open(t, a, 1, phone)
		opened := old.expect(frame.TypeOpen)
		for _, m := range []string{"one", "two"} {
			if err := up.Send([]byte(m)); err != nil {
				t.Fatal(err)
			}
		}
		old.expect(frame.TypeData)
		old.expect(frame.TypeData)
		old.write(data(1, 10))
		// The core says that it has handled OPEN and the first message.
		rx := uint64(frame.HeaderLen + len(opened) + frame.HeaderLen + 3)
		w := dialled(t, r, again(resuming(frame.RoleCore, "core1"), rx))
		if _, _, err := old.next(); err == nil {
			t.Error("the old connection lives")
		}
		h, err := frame.ParseHello(w.expect(frame.TypeHello))
		if err != nil || h.Session != 1 || h.RxOffset != frame.HeaderLen+10 || !h.Resume {
			t.Errorf("the edge goes on as %+v, %v", h, err)
		}
		if got := string(w.expect(frame.TypeData)); got != "two" {
			t.Errorf("first came %q, want what was not handled", got)
		}
		w.write(data(1, 20))
		synctest.Wait()
		if got := phone.messages(); len(got) != 2 || len(phone.codes()) != 0 {
			t.Errorf("the phone got %d messages, %v", len(got), phone.codes())
		}
	})
}

// A core that is back for its second link before the edge has done with the
// first finds its session there.
func TestSecondLinkMayOvertakeTheFirst(t *testing.T) {
	for range 50 {
		synctest.Test(t, func(t *testing.T) {
			r, core := newRoom(t), &pbx{}
			dc := r.core("core1", core.open)
			dc.Links = 4
			a, d := pair(t, r, edge("core1"), dc)
			synctest.Wait() // no time has passed: nothing was tried again
			if st := d.Sessions()[0]; st.LinksUp != 4 || !a.Ready() || r.count() != 4 {
				t.Fatalf("%d dials: %+v", r.count(), st)
			}
		})
	}
}
