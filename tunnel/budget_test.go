package tunnel_test

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/tunnel"
)

// A node whose budget is half used up has new flows get a quarter of the
// window, whichever end it is; an idle flow takes a long message nevertheless.
func TestBudgetHalfUsedNarrowsNewFlows(t *testing.T) {
	for _, at := range []string{"core", "edge"} {
		t.Run(at, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, core := newRoom(t), &pbx{make: func(*tunnel.Flow) *client { c := newClient(); c.keep = true; return c }}
				ec, dc := edge("core1"), r.core("core1", core.open)
				ec.Budget, dc.Budget = 1<<20, 1<<20
				a, _ := pair(t, r, ec, dc)
				synctest.Wait()
				var downs []*tunnel.Flow
				flood := func(id byte) int {
					phone := newClient()
					phone.keep = true
					f := open(t, a, id, phone)
					synctest.Wait()
					if at == "edge" {
						f, _ = core.newest()
					}
					down, _ := core.newest()
					downs = append(downs, down)
					sent := 0
					for f.Send(make([]byte, 1024)) == nil {
						sent += 1024
					}
					return sent
				}
				for id := range byte(8) {
					if got := flood(id); got != 64<<10 {
						t.Fatalf("flow %d took %d bytes, want 64 KiB", id, got)
					}
				}
				time.Sleep(2 * time.Second)
				if got := flood(100); got != 16<<10 {
					t.Errorf("a new flow took %d bytes of a budget that is half used up, want 16 KiB", got)
				}
				if !downs[8].Info().Narrow || downs[0].Info().Narrow {
					t.Error("the OPEN did not say so")
				}
				f := open(t, a, 101, newClient())
				synctest.Wait()
				if at == "edge" {
					f, _ = core.newest()
				}
				if err := f.Send(make([]byte, 64<<10)); err != nil {
					t.Errorf("a long message on an idle narrow flow: %v", err)
				}
				for _, f := range downs {
					if at == "core" {
						f.Consumed(64 << 10)
					} else {
						f.Close(tunnel.CloseKicked, "")
					}
				}
				time.Sleep(2 * time.Second)
				if got := flood(102); got != 64<<10 {
					t.Errorf("with the budget free again, a new flow took %d bytes", got)
				}
			})
		})
	}
}

// A node that has used four fifths of its budget ends flows that are full and
// stand still for 10 s, the longest first, until it has less; flows that move,
// and those that came later, stay.
func TestBudgetNearlyUsedEndsWhoStandsStill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, core := newRoom(t), &pbx{make: func(*tunnel.Flow) *client { c := newClient(); c.keep = true; return c }}
		dc := r.core("core1", core.open)
		dc.Budget = 10 * 64 << 10
		a, d := pair(t, r, edge("core1"), dc)
		synctest.Wait()
		var phones []*client
		var ups, downs []*tunnel.Flow
		for id := range byte(9) {
			phones = append(phones, newClient())
			ups = append(ups, open(t, a, id, phones[id]))
			synctest.Wait()
			down, _ := core.newest()
			downs = append(downs, down)
		}
		// All are opened while there is plenty. The first moves all the time.
		for _, f := range ups {
			for f.Send(make([]byte, 1024)) == nil {
			}
			time.Sleep(100 * time.Millisecond)
		}
		began := time.Now()
		for time.Since(began) < 20*time.Second {
			downs[0].Consumed(16 << 10)
			synctest.Wait()
			for ups[0].Send(make([]byte, 1024)) == nil {
			}
			time.Sleep(time.Second / 2)
			if time.Since(began) < 9*time.Second && slices.ContainsFunc(phones, func(c *client) bool { return len(c.codes()) > 0 }) {
				t.Fatalf("a flow was ended after %v", time.Since(began))
			}
		}
		ended := 0
		for i, p := range phones {
			if len(p.codes()) == 0 {
				continue
			}
			ended++
			if i == 0 || !slices.Equal(p.codes(), []tunnel.CloseCode{tunnel.CloseSlowConsumer}) {
				t.Errorf("flow %d ended with %v", i, p.codes())
			}
			if err := downs[i].Send([]byte("x")); !errors.Is(err, tunnel.ErrClosed) {
				t.Errorf("flow %d at the core: %v", i, err)
			}
		}
		// Nine windows are 90 % of the budget: one has to go.
		if ended != 1 || d.Sessions()[0].Flows != 8 {
			t.Errorf("%d flows were ended, %d are left", ended, d.Sessions()[0].Flows)
		}
	})
}
