package sipproxy

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing/synctest"
	"time"

	"sallyport/tunnel/sipstream"
)

// dialPBX connects the proxy to the PBX script.
func (w *town) dialPBX(ctx context.Context, _ string) (net.Conn, error) {
	if w.pbxDown.Load() {
		return nil, fmt.Errorf("connection refused")
	}
	if w.pbxSlow > 0 {
		select {
		case <-time.After(w.pbxSlow):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	near, far := net.Pipe()
	if w.pbx == nil {
		w.pbx = newScript(w.t, "the PBX", nil)
	}
	pbx := w.pbx
	pbx.connected(far)
	go pbx.listen(far)
	return addressed{near, netip.MustParseAddrPort("10.0.0.9:5060")}, nil
}

// addressed gives a pipe an address at its far end.
type addressed struct {
	net.Conn
	far netip.AddrPort
}

func (a addressed) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(a.far) }
func (addressed) LocalAddr() net.Addr    { return &net.TCPAddr{IP: net.IPv4(10, 0, 0, 5), Port: 40000} }

// caller opens a connection to sip.listen, from an address.
func (w *town) caller(from string) *script {
	w.t.Helper()
	near, err := w.door.dialFrom(netip.MustParseAddrPort(from))
	if err != nil {
		w.t.Fatal(err)
	}
	s := newScript(w.t, from, nil)
	s.connected(near)
	go s.listen(near)
	synctest.Wait()
	return s
}

// listen hears what comes until the connection ends.
func (s *script) listen(c net.Conn) {
	defer c.Close()
	cut := sipstream.New(sipstream.Limits{MaxMessage: 64 << 10})
	buf := make([]byte, 64<<10)
	for {
		n, err := c.Read(buf)
		if err != nil {
			s.mu.Lock()
			s.ended = err.Error()
			s.mu.Unlock()
			return
		}
		cut.Feed(buf[:n])
		for {
			m, kind, err := cut.Next()
			if err != nil {
				s.t.Errorf("%s cannot read: %v", s.name, err)
			}
			if err != nil || kind == sipstream.NeedMore {
				break
			}
			if kind == sipstream.Message { // and no keep-alive
				s.hear(string(m))
			}
		}
	}
}

type pipeListener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
}

func (l *pipeListener) dialFrom(from netip.AddrPort) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case l.conns <- addressed{far, from}:
		return near, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error   { l.once.Do(func() { close(l.done) }); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{} }

// wire is a UDP socket whose datagrams a story sends and sees.
type wire struct {
	in   chan datagram
	done chan struct{}
	once sync.Once

	mu  sync.Mutex
	out map[netip.AddrPort]*script // who hears what is sent to them; guarded by mu
}

type datagram struct {
	from netip.AddrPort
	data string
}

func newWire() *wire {
	return &wire{in: make(chan datagram), done: make(chan struct{}), out: make(map[netip.AddrPort]*script)}
}

// datagrams is a peer that speaks UDP with sip.listen.
func (w *town) datagrams(from string) *script {
	addr := netip.MustParseAddrPort(from)
	s := newScript(w.t, from, func(m string) error {
		w.wire.in <- datagram{addr, m}
		return nil
	})
	w.wire.mu.Lock()
	defer w.wire.mu.Unlock()
	w.wire.out[addr] = s
	return s
}

func (x *wire) ReadFrom(p []byte) (int, net.Addr, error) {
	select {
	case d := <-x.in:
		return copy(p, d.data), net.UDPAddrFromAddrPort(d.from), nil
	case <-x.done:
		return 0, nil, net.ErrClosed
	}
}

func (x *wire) WriteTo(p []byte, to net.Addr) (int, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if s := x.out[netip.MustParseAddrPort(to.String())]; s != nil {
		s.hear(string(p))
	}
	return len(p), nil
}

func (x *wire) Close() error                     { x.once.Do(func() { close(x.done) }); return nil }
func (*wire) LocalAddr() net.Addr                { return &net.UDPAddr{IP: net.IPv4(10, 0, 0, 5), Port: 5060} }
func (*wire) SetDeadline(time.Time) error        { return nil }
func (*wire) SetReadDeadline(time.Time) error    { return nil }
func (*wire) SetWriteDeadline(t time.Time) error { return nil }
