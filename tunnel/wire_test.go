package tunnel_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"strings"
	"testing"

	"sallyport/tunnel"
	"sallyport/tunnel/frame"
)

// A wire is an end that is played by hand, badly if need be.
type wire struct {
	t    *testing.T
	conn net.Conn
	in   *bufio.Reader
}

func newWire(t *testing.T, c net.Conn) *wire {
	return &wire{t: t, conn: c, in: bufio.NewReaderSize(c, frame.HeaderLen+frame.MaxPayload)}
}

func (w *wire) write(b []byte) {
	w.t.Helper()
	if _, err := w.conn.Write(b); err != nil {
		w.t.Fatalf("write: %v", err)
	}
}

// try writes and does not mind being hung up on.
func (w *wire) try(b []byte) { _, _ = w.conn.Write(b) }

// next returns the next frame but PING.
func (w *wire) next() (frame.Header, []byte, error) {
	for {
		b := make([]byte, frame.HeaderLen)
		if _, err := io.ReadFull(w.in, b); err != nil {
			return frame.Header{}, nil, err
		}
		h, err := frame.ParseHeader(b)
		if err != nil {
			w.t.Fatalf("the peer sent nonsense: %v", err)
		}
		p := make([]byte, h.Len)
		if _, err := io.ReadFull(w.in, p); err != nil {
			return h, nil, err
		}
		if h.Type != frame.TypePing {
			return h, p, nil
		}
	}
}

// expect returns the payload of the next frame, which must be of type typ.
func (w *wire) expect(typ frame.Type) []byte {
	w.t.Helper()
	h, p, err := w.next()
	if err != nil || h.Type != typ {
		w.t.Fatalf("got %v, %v; want %v", h.Type, err, typ)
	}
	return p
}

// expectGoAway fails unless the link ends, for that reason.
func (w *wire) expectGoAway(code frame.GoAwayCode, word string) {
	w.t.Helper()
	got, text := frame.ParseGoAway(w.expect(frame.TypeGoAway))
	if got != code || !strings.Contains(text, word) {
		w.t.Errorf("GOAWAY %v %q; want %v about %q", got, text, code, word)
	}
	if h, _, err := w.next(); err == nil {
		w.t.Errorf("%v after GOAWAY", h.Type)
	}
}

func says(role frame.Role, name string) frame.Hello {
	return frame.Hello{
		Role: role, Node: name, Boot: 1, Links: 1, Session: 1, Weight: 1,
		Window: 65536, MaxFrame: 65536, MaxFlows: 1000,
	}
}

func (w *wire) hello(h frame.Hello) {
	w.t.Helper()
	b, err := frame.AppendHello(nil, h)
	if err != nil {
		w.t.Fatal(err)
	}
	w.write(b)
}

// badEdge is an edge played by hand that a core has dialled.
func badEdge(t *testing.T, change func(*tunnel.DialerConfig)) (*wire, *pbx, *tunnel.Dialer) {
	r, core := newRoom(t), &pbx{}
	cfg := r.core("core1", core.open)
	if change != nil {
		change(&cfg)
	}
	d := tunnel.NewDialer(cfg)
	start(t, d.Run)
	c, err := r.Accept()
	if err != nil {
		t.Fatal(err)
	}
	w := newWire(t, c)
	w.expect(frame.TypeHello)
	w.hello(says(frame.RoleEdge, "edge1"))
	return w, core, d
}

// badCore is a core played by hand that has dialled an edge.
func badCore(t *testing.T, ec tunnel.AcceptorConfig, h frame.Hello) (*wire, *tunnel.Acceptor) {
	r := newRoom(t)
	a := tunnel.NewAcceptor(ec)
	start(t, func(ctx context.Context) error { return a.Serve(ctx, r) })
	c, err := r.dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w := newWire(t, c)
	w.hello(h)
	return w, a
}

func openFrame(id uint32) []byte {
	i := tunnel.Info{UUID: [16]byte{byte(id), byte(id >> 8)}, Service: "sip"}
	return frame.AppendOpen(nil, id, &i)
}

func data(id uint32, n int) []byte { return frame.Append(nil, frame.TypeData, id, make([]byte, n)) }
