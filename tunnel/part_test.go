package tunnel_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/tunnel"
	"sallyport/tunnel/frame"
)

// A gatherer is a client that puts messages together.
type gatherer struct {
	*client
	under []byte
}

func newGatherer() *gatherer { return &gatherer{client: newClient()} }

func (g *gatherer) Part(f *tunnel.Flow, p []byte) {
	g.under = append(g.under, p...)
	f.Consumed(len(p))
}

func (g *gatherer) Message(f *tunnel.Flow, p []byte) {
	g.client.Message(f, p)
	g.mu.Lock()
	defer g.mu.Unlock()
	last := &g.got[len(g.got)-1]
	*last = string(g.under) + *last
	g.under = nil
}

// sendParts sends s in pieces of n bytes, as credit allows.
func sendParts(t *testing.T, f *tunnel.Flow, s string, n int) {
	t.Helper()
	for ; len(s) > n; s = s[n:] {
		if err := f.SendPartWait(t.Context(), []byte(s[:n])); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.SendWait(t.Context(), []byte(s)); err != nil {
		t.Fatal(err)
	}
}

// A message longer than a frame, and than the window, comes in pieces, both
// ways, in its place among the others; and a carrier that breaks loses none.
func TestMessagesMayComeInPieces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, inside, phone := newRoom(t), newGatherer(), newGatherer()
		var down *tunnel.Flow
		a, _ := pair(t, r, edge("core1"), r.core("core1", func(f *tunnel.Flow) tunnel.Handler { down = f; return inside }))
		synctest.Wait()
		up := open(t, a, 1, phone)
		long := strings.Repeat("0123456789abcdef", 20<<10) // five windows
		want := []string{"before", long, long[:100], "after"}
		tell := func(f *tunnel.Flow) {
			_ = f.SendWait(t.Context(), []byte("before"))
			sendParts(t, f, long, 65536)
			r.last().cut()
			sendParts(t, f, long[:100], 10)
			_ = f.SendWait(t.Context(), []byte("after"))
		}
		tell(up)
		time.Sleep(time.Second)
		if got := inside.messages(); !slices.Equal(got, want) {
			t.Errorf("the core heard %d messages of %d bytes", len(got), len(strings.Join(got, "")))
		}
		tell(down)
		time.Sleep(time.Second)
		if got := phone.messages(); !slices.Equal(got, want) {
			t.Errorf("the phone heard %d messages of %d bytes", len(got), len(strings.Join(got, "")))
		}
	})
}

func TestPiecesAreBoundByCredit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, core, phone := newRoom(t), &pbx{}, newGatherer()
		core.make = func(*tunnel.Flow) *client { c := newClient(); c.keep = true; return c }
		a, _ := pair(t, r, edge("core1"), r.core("core1", func(f *tunnel.Flow) tunnel.Handler {
			return keeper{core.open(f).(*client)}
		}))
		synctest.Wait()
		up := open(t, a, 1, phone)
		for range 4 {
			if err := up.SendPart(make([]byte, 16<<10)); err != nil {
				t.Fatal(err)
			}
		}
		if err := up.SendPart([]byte("x")); !errors.Is(err, tunnel.ErrNoCredit) {
			t.Errorf("beyond the window: %v", err)
		}
		if err := up.SendPart(make([]byte, 65537)); !errors.Is(err, tunnel.ErrTooBig) {
			t.Errorf("beyond a frame: %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := up.SendPartWait(ctx, []byte("x")); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("waiting: %v", err)
		}
	})
}

// keeper takes pieces and consumes nothing.
type keeper struct{ *client }

func (keeper) Part(*tunnel.Flow, []byte) {}

// Who takes no pieces is not sent half a message: its flow ends, the others
// live on.
func TestPiecesThatNobodyTakesEndTheFlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, core, phone, other := newRoom(t), &pbx{}, newClient(), newClient()
		a, d := pair(t, r, edge("core1"), r.core("core1", core.open))
		synctest.Wait()
		open(t, a, 2, other)
		up := open(t, a, 1, phone)
		if err := up.SendPart([]byte("half")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		_, heard := core.newest()
		protocol := []tunnel.CloseCode{tunnel.CloseProtocol}
		if !slices.Equal(heard.codes(), protocol) || !slices.Equal(phone.codes(), protocol) || len(heard.messages()) > 0 {
			t.Errorf("ended with %v and %v", heard.codes(), phone.codes())
		}
		if len(other.codes()) != 0 || d.Sessions()[0].Flows != 1 {
			t.Error("another flow ended too")
		}
	})
}

func TestTU20_FormerMinorGetsNoPieces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, core := newRoom(t), &pbx{}
		a, d := tunnel.NewAcceptor(edge("core1")), tunnel.NewDialer(r.core("core1", core.open))
		d.SpeakFormer()
		start(t, func(ctx context.Context) error { return a.Serve(ctx, r) })
		start(t, d.Run)
		synctest.Wait()
		up := open(t, a, 1, newGatherer())
		if err := up.SendPart([]byte("half")); !errors.Is(err, tunnel.ErrNoParts) {
			t.Errorf("error %v", err)
		}
		if err := up.Send([]byte("whole")); err != nil {
			t.Error(err)
		}
	})
}

// A piece where none was agreed on is a lie.
func TestTU4_PieceWithoutTheFeatureEndsTheSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _, _ := badEdge(t, func(*tunnel.DialerConfig) {})
		w.write(openFrame(1))
		w.try(frame.Append(nil, frame.TypePart, 1, []byte("half")))
		w.expectGoAway(frame.GoAwayProtocol, "PART was not agreed on")
	})
}
