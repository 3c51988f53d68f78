package tunnel_test

import (
	"context"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/tunnel"
	"sallyport/tunnel/frame"
)

// TU-6: an edge that opens flows, has each closed and never listens costs a few
// megabytes and its session.
func TestTU6_FlowsThatEndUnheardAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _, d := badEdge(t, func(cfg *tunnel.DialerConfig) {
			cfg.MaxFlows, cfg.OpenRate = 1_000_000, 1_000_000
			cfg.Open = func(f *tunnel.Flow) tunnel.Handler {
				f.Close(tunnel.ClosePolicy, strings.Repeat("x", 250))
				return newClient()
			}
		})
		opened := 0
		for range 50 { // 13 MB of CLOSE
			var b []byte
			for range 1000 {
				opened++
				b = append(b, openFrame(uint32(opened))...)
			}
			if _, err := w.conn.Write(b); err != nil {
				break
			}
			synctest.Wait()
		}
		if d.Ready() || opened > 30_000 {
			t.Errorf("after %d flows: %+v", opened, d.Sessions()[0])
		}
		if got := d.Sessions()[0].LastError; !strings.Contains(got, "reads no refusal") {
			t.Errorf("last error %q", got)
		}
	})
}

// A core that says DRAIN again and again and does not listen costs a few
// answers, not a heap of them.
func TestDrainFloodKeepsFewAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, names := newRoom(t), make(chan string, 2)
		ec := edge("")
		ec.Handshake = func(_ context.Context, c net.Conn) (net.Conn, string, error) { return c, <-names, nil }
		a := tunnel.NewAcceptor(ec)
		start(t, func(ctx context.Context) error { return a.Serve(ctx, r) })
		names <- "core2"
		start(t, tunnel.NewDialer(r.core("core2", (&pbx{}).open)).Run)
		synctest.Wait()
		names <- "core1"
		c, err := r.dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		w := newWire(t, c)
		w.hello(says(frame.RoleCore, "core1"))
		w.expect(frame.TypeHello)
		var flood []byte
		for range 10_000 {
			flood = frame.AppendUint32(flood, frame.TypeDrain, 0, 0)
		}
		for range 10 {
			w.write(flood)
		}
		synctest.Wait()
		spares := 0
		for {
			_ = w.conn.SetReadDeadline(time.Now().Add(time.Second))
			h, _, err := w.next()
			if err != nil {
				break
			}
			if h.Type == frame.TypeSpare {
				spares++
			}
		}
		if spares == 0 || spares > 30_000 {
			t.Errorf("%d answers were kept for 100000 questions", spares)
		}
	})
}
