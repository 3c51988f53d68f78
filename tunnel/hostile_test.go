package tunnel_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sallyport/tunnel"
	"sallyport/tunnel/frame"
)

// TU-4: one byte over credit, or a grant beyond the window, ends the link.
func TestTU4_CreditLieEndsLink(t *testing.T) {
	keep := func(cfg *tunnel.DialerConfig) {
		cfg.Open = func(*tunnel.Flow) tunnel.Handler { c := newClient(); c.keep = true; return c }
	}
	credit := func(n uint32) []byte { return frame.AppendUint32(nil, frame.TypeCredit, 1, n) }
	for name, c := range map[string]struct {
		honest [][]byte
		lie    []byte
		word   string
	}{
		"one byte over":             {[][]byte{data(1, 40000), data(1, 25536)}, data(1, 1), "owes 65536"},
		"one long over":             {[][]byte{data(1, 16384)}, data(1, 49153), "owes 16384"},
		"grant on a full window":    {nil, credit(1), "CREDIT of 1"},
		"grant of nothing":          {nil, credit(0), "CREDIT of 0"},
		"grant of four gigabytes":   {nil, credit(1<<32 - 1), "CREDIT"},
		"data for no flow":          {nil, data(2, 1), "never opened"},
		"open twice":                {nil, openFrame(1), "OPEN of flow 1"},
		"unknown frame":             {nil, frame.Append(nil, 0x30, 1, nil), "unknown"},
		"second hello":              {nil, frame.Append(nil, frame.TypeHello, 0, make([]byte, 20)), "HELLO"},
		"ack without resume":        {nil, frame.AppendUint64(nil, frame.TypeAck, 1), "ACK"},
		"message of 64 KiB and one": {nil, frame.AppendHeader(nil, frame.TypeData, 1, 65537), "65537"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, _, d := badEdge(t, keep)
				w.write(openFrame(1))
				for _, b := range c.honest {
					w.write(b)
				}
				synctest.Wait()
				if !d.Ready() {
					t.Fatalf("honest frames ended the link: %+v", d.Sessions())
				}
				w.try(c.lie)
				w.expectGoAway(frame.GoAwayProtocol, c.word)
				synctest.Wait()
				if got := d.Sessions()[0].LastError; !strings.Contains(got, c.word) {
					t.Errorf("last error %q is not about %q", got, c.word)
				}
			})
		})
	}
}

// An honest sender may overdraw an idle flow by a message, and no more.
func TestIdleFlowTakesOneLongMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _, d := badEdge(t, func(cfg *tunnel.DialerConfig) {
			cfg.Open = func(*tunnel.Flow) tunnel.Handler { c := newClient(); c.keep = true; return c }
		})
		w.write(openFrame(1))
		w.write(data(1, 16383))
		w.write(data(1, 65536))
		synctest.Wait()
		if !d.Ready() {
			t.Fatalf("%+v", d.Sessions())
		}
		w.try(data(1, 1))
		w.expectGoAway(frame.GoAwayProtocol, "owes 81919")
	})
}

func TestCoreMayNotOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := badCore(t, edge("core1"), says(frame.RoleCore, "core1"))
		w.expect(frame.TypeHello)
		w.try(openFrame(1))
		w.expectGoAway(frame.GoAwayProtocol, "only edges open")
	})
}

// TU-6: flows beyond the limit are refused one by one; the link lives.
func TestTU6_OpenFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, core, d := badEdge(t, func(cfg *tunnel.DialerConfig) { cfg.MaxFlows, cfg.OpenRate = 10, 1 })
		refused := func(id uint32) {
			t.Helper()
			w.write(openFrame(id))
			if code, text := frame.ParseClose(w.expect(frame.TypeClose)); code != tunnel.ClosePolicy {
				t.Errorf("CLOSE %v %q, want policy", code, text)
			}
		}
		for id := range uint32(10) {
			w.write(openFrame(id + 1))
		}
		for id := range uint32(100) {
			refused(id + 11)
		}
		if core.count() != 10 || d.Sessions()[0].Flows != 10 {
			t.Errorf("%d flows, want 10", core.count())
		}
		// A place is free again, but new flows come too fast.
		for id := range uint32(10) {
			w.write(frame.AppendClose(nil, id+1, tunnel.CloseClient, ""))
		}
		refused(1000)
		time.Sleep(time.Second)
		w.write(openFrame(1001))
		synctest.Wait()
		if core.count() != 11 {
			t.Errorf("%d flows were opened, want 11", core.count())
		}
		refused(1002)
	})
}

func TestFlowNobodyWantsIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, phone := newRoom(t), newClient()
		a, _ := pair(t, r, edge("core1"), r.core("core1", func(*tunnel.Flow) tunnel.Handler { return nil }))
		synctest.Wait()
		f := open(t, a, 1, phone)
		synctest.Wait()
		if got := phone.codes(); len(got) != 1 || got[0] != tunnel.ClosePolicy {
			t.Errorf("ended with %v, want policy", got)
		}
		if err := f.Send([]byte("x")); !errors.Is(err, tunnel.ErrClosed) {
			t.Errorf("send: %v", err)
		}
	})
}

// TU-20: what a later version adds is ignored.
func TestTU20_LaterVersionsAreUnderstood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, core := newRoom(t), &pbx{}
		start(t, tunnel.NewDialer(r.core("core1", core.open)).Run)
		c, _ := r.Accept()
		w := newWire(t, c)
		w.expect(frame.TypeHello)
		h := says(frame.RoleEdge, "edge1")
		h.MaxMinor = 9
		b, _ := frame.AppendHello(nil, h)
		p := append(b[frame.HeaderLen:], 201, 0, 1, 7)
		w.write(frame.Append(nil, frame.TypeHello, 0, p))
		w.write(frame.Append(nil, 0x99, 5, []byte("skip me")))
		w.write(frame.Append(nil, 0xff, 0, nil))
		open := openFrame(1)
		w.write(frame.Append(nil, frame.TypeOpen, 1, append(open[frame.HeaderLen:], 203, 0, 2, 1, 2)))
		w.write(frame.Append(nil, frame.TypeEvent, 1, []byte{77, 1}))
		w.write(data(1, 5))
		synctest.Wait()
		if _, heard := core.newest(); heard == nil || len(heard.messages()) != 1 {
			t.Error("the message after the news did not arrive")
		}
	})
}

// TU-21: who is not who it says is refused, told why, and counted.
func TestTU21_WrongPeersAreRefusedAndCounted(t *testing.T) {
	for reason, c := range map[string]struct {
		hello frame.Hello
		code  frame.GoAwayCode
		word  string
	}{
		"name":    {says(frame.RoleCore, "core2"), frame.GoAwayIdentity, `"core2"`},
		"role":    {says(frame.RoleEdge, "core1"), frame.GoAwayIdentity, "role"},
		"version": {func() frame.Hello { h := says(frame.RoleCore, "core1"); h.MinMinor, h.MaxMinor = 7, 8; return h }(), frame.GoAwayVersion, "7 to 8"},
	} {
		t.Run(reason, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				reg := prometheus.NewRegistry()
				ec := edge("core1")
				ec.Metrics = reg
				w, a := badCore(t, ec, c.hello)
				w.expectGoAway(c.code, c.word)
				synctest.Wait()
				if a.Ready() || count(t, reg, "sallyport_tunnel_refused_total", reason) != 1 {
					t.Errorf("ready %v, counted %v", a.Ready(), count(t, reg, "sallyport_tunnel_refused_total", reason))
				}
			})
		})
	}
	t.Run("handshake", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			reg := prometheus.NewRegistry()
			ec := edge("core1")
			ec.Metrics = reg
			ec.Handshake = func(context.Context, net.Conn) (net.Conn, string, error) {
				return nil, "", errors.New("certificate of a stranger")
			}
			r := newRoom(t)
			a := tunnel.NewAcceptor(ec)
			start(t, func(ctx context.Context) error { return a.Serve(ctx, r) })
			conn, _ := r.dial(t.Context())
			if _, err := conn.Read(make([]byte, 1)); err == nil {
				t.Error("a stranger was answered")
			}
			if count(t, reg, "sallyport_tunnel_refused_total", "handshake") != 1 {
				t.Error("not counted")
			}
		})
	})
	t.Run("core refuses edge", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newRoom(t)
			d := tunnel.NewDialer(r.core("core1", (&pbx{}).open))
			start(t, d.Run)
			conn, _ := r.Accept()
			w := newWire(t, conn)
			w.expect(frame.TypeHello)
			w.hello(says(frame.RoleEdge, "edge2"))
			w.expectGoAway(frame.GoAwayIdentity, `"edge2"`)
			synctest.Wait()
			if got := d.Sessions()[0].LastError; !strings.Contains(got, "edge2") || d.Ready() {
				t.Errorf("last error %q, ready %v", got, d.Ready())
			}
		})
	})
	t.Run("silence", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newRoom(t)
			a := tunnel.NewAcceptor(edge("core1"))
			start(t, func(ctx context.Context) error { return a.Serve(ctx, r) })
			conn, _ := r.dial(t.Context())
			began := time.Now()
			_, _ = conn.Read(make([]byte, 1))
			if took := time.Since(began); took != 5*time.Second {
				t.Errorf("hung up on after %v, want 5s", took)
			}
		})
	})
}

// A peer that asks and does not listen costs one answer, not a heap of them.
func TestPingFloodKeepsOneAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _, d := badEdge(t, nil)
		for i := range uint64(10000) {
			w.write(frame.AppendUint64(nil, frame.TypePing, i))
		}
		synctest.Wait()
		var pongs int
		var last []byte
		for {
			_ = w.conn.SetReadDeadline(time.Now().Add(time.Second))
			h, p, err := w.next()
			if err != nil {
				break
			}
			if h.Type == frame.TypePong {
				pongs++
				last = p
			}
		}
		// One may have been on its way, and one waited in the writer's hands.
		if newest := frame.AppendUint64(nil, frame.TypePong, 9999)[frame.HeaderLen:]; pongs > 3 || !bytes.Equal(last, newest) {
			t.Errorf("%d pongs, the last %x, want %x", pongs, last, newest)
		}
		if !d.Ready() {
			t.Errorf("%+v", d.Sessions())
		}
	})
}

func count(t *testing.T, reg *prometheus.Registry, name, label string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetValue() == label {
					return m.GetCounter().GetValue()
				}
			}
		}
	}
	return 0
}

// TU-5: whatever follows HELLO, a core neither crashes nor hangs.
func FuzzTU5_EdgeSays(f *testing.F) {
	f.Add(append(openFrame(1), data(1, 10)...))
	f.Add(append(openFrame(1), frame.AppendClose(nil, 1, 1, "x")...))
	f.Add(frame.AppendUint32(nil, frame.TypeDrain, 0, 1))
	f.Add(append(openFrame(3), frame.AppendUint32(nil, frame.TypeCredit, 3, 5)...))
	f.Add(frame.AppendGoAway(nil, 3, "x"))
	f.Fuzz(func(t *testing.T, b []byte) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		cfg := tunnel.DialerConfig{Name: "core1", Edges: []string{"e"}, Open: (&pbx{}).open}
		once := make(chan struct{}, 1)
		once <- struct{}{}
		cfg.Dial = func(ctx context.Context, _ string) (net.Conn, string, error) {
			select {
			case <-once:
			default:
				cancel()
				return nil, "", errors.New("once only")
			}
			near, far := net.Pipe()
			go func() {
				defer far.Close()
				h, _ := frame.AppendHello(nil, says(frame.RoleEdge, "edge1"))
				go func() { _, _ = io.Copy(io.Discard, far); cancel() }()
				_, _ = far.Write(append(h, b...))
			}()
			return near, "edge1", nil
		}
		_ = tunnel.NewDialer(cfg).Run(ctx)
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			t.Fatal("the session did not end with its connection")
		}
	})
}
