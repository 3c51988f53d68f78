package tunnel_test

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/tunnel"
)

// TU-1: a thousand flows that are flooded and never read cost what their
// windows hold, and the others nothing.
func TestTU1_StuckReadersHurtNobodyElse(t *testing.T) {
	const all, stuck = 10_000, 1000
	core := &pbx{make: func(f *tunnel.Flow) *client {
		c := newClient()
		c.keep = f.Info().Subprotocol == "stuck"
		c.echo = !c.keep
		return c
	}}
	a := securePair(t, core.open)
	flows, phones := make([]*tunnel.Flow, all), make([]*echoed, all)
	for i := range flows {
		info := tunnel.Info{Service: "sip"}
		if i < stuck {
			info.Subprotocol = "stuck"
		}
		phones[i] = &echoed{back: make(chan struct{}, 1)}
		var err error
		if flows[i], err = a.Open(info, phones[i]); err != nil {
			t.Fatal(err)
		}
	}
	p99 := func() time.Duration {
		var took []time.Duration
		for i := range 1000 {
			n := stuck + i*(all-stuck)/1000
			began := time.Now()
			if err := flows[n].Send(make([]byte, 600)); err != nil {
				t.Fatalf("flow %d: %v", n, err)
			}
			<-phones[n].back
			took = append(took, time.Since(began))
		}
		slices.Sort(took)
		return took[len(took)*99/100]
	}
	before := p99()
	for _, f := range flows[:stuck] {
		for range 65536 / 4096 {
			if err := f.SendWait(t.Context(), make([]byte, 4096)); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.Send(make([]byte, 4096)); !errors.Is(err, tunnel.ErrNoCredit) {
			t.Fatalf("beyond the window: %v", err)
		}
	}
	after := p99()
	t.Logf("p99 %v before, %v beside stuck flows", before, after)
	// The bound has a floor, since a busy machine alone moves a p99 so far. One
	// reader that waits for a stuck flow would wait for 30 s.
	if limit := max(4*before, time.Second); after > limit {
		t.Errorf("p99 was %v, and %v beside %d stuck flows", before, after, stuck)
	}
	core.mu.Lock()
	defer core.mu.Unlock()
	for i, c := range core.clients {
		if held := len(c.messages()) * 4096; c.keep && held != 65536 {
			t.Fatalf("stuck flow %d holds %d bytes, want its window", i, held)
		}
	}
}

// echoed is a phone that waits for one answer at a time.
type echoed struct{ back chan struct{} }

func (e *echoed) Message(f *tunnel.Flow, p []byte) {
	f.Consumed(len(p))
	e.back <- struct{}{}
}
func (e *echoed) Event(*tunnel.Flow, tunnel.Event)              {}
func (e *echoed) Closed(*tunnel.Flow, tunnel.CloseCode, string) {}

// TU-2: a flow with a full window and no progress for 30 s ends, for both
// ends, and for it alone.
func TestTU2_StuckForEverIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, phone, well := newRoom(t), newClient(), newClient()
		core := &pbx{}
		a, _ := pair(t, r, edge("core1"), r.core("core1", core.open))
		synctest.Wait()
		phone.keep = true
		open(t, a, 1, phone)
		synctest.Wait()
		down, heard := core.newest()
		open(t, a, 2, well)
		synctest.Wait()
		other, _ := core.newest()
		for down.Send(make([]byte, 1024)) == nil {
		}
		waiting := make(chan error)
		go func() { waiting <- down.SendWait(t.Context(), []byte("x")) }()
		began := time.Now()
		for range 29 {
			if err := other.Send(make([]byte, 60000)); err != nil {
				t.Errorf("the other flow: %v", err)
			}
			time.Sleep(time.Second)
		}
		if len(phone.codes())+len(heard.codes()) != 0 {
			t.Fatalf("closed after %v", time.Since(began))
		}
		<-phone.ended
		<-heard.ended
		if took := time.Since(began); took > 32*time.Second {
			t.Errorf("closed after %v, want 30s to 32s", took)
		}
		want := []tunnel.CloseCode{tunnel.CloseSlowConsumer}
		if !slices.Equal(phone.codes(), want) || !slices.Equal(heard.codes(), want) {
			t.Errorf("ended with %v at the edge, %v at the core", phone.codes(), heard.codes())
		}
		if err := <-waiting; !errors.Is(err, tunnel.ErrClosed) {
			t.Errorf("the waiting send got %v", err)
		}
		time.Sleep(time.Minute)
		if len(well.codes()) != 0 {
			t.Errorf("the other flow ended with %v", well.codes())
		}
	})
}
