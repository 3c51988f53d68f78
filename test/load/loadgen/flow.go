package loadgen

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// A Transport is how phones reach the edge.
type Transport string

// The transports.
const (
	TCP Transport = "tcp" // plain, as PBXs speak
	TLS Transport = "tls"
	WSS Transport = "wss"
)

// errOver is what the reader of a flow ends with once the flow is closed here.
var errOver = errors.New("loadgen: flow closed")

// A flow is one connection. Its reader runs on a goroutine of its own.
type flow struct {
	// Static after dial.
	g    *Generator
	conn net.Conn
	in   *bufio.Reader
	ws   bool
	via  string // transport in Via
	host string // in Via and Contact

	phone atomic.Pointer[phone] // nil on the PBX's side
	over  atomic.Bool           // its end is no surprise

	mu  sync.Mutex // one write at a time
	out []byte     // a WebSocket frame; guarded by mu
}

// dial opens a flow; source spreads flows over addresses of the loopback net.
func (g *Generator) dial(t Transport, addr string, source int) (*flow, error) {
	ctx, cancel := context.WithTimeout(context.Background(), g.cfg.Timeout)
	defer cancel()
	d := net.Dialer{KeepAlive: -1, LocalAddr: g.source(source)}
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	f := &flow{g: g, conn: conn, host: conn.LocalAddr().String(), via: "TCP"}
	if t != TCP {
		f.via = "TLS"
		secure := tls.Client(conn, g.tls)
		if err := secure.HandshakeContext(ctx); err != nil {
			conn.Close()
			return nil, err
		}
		f.conn = secure
	}
	f.in = bufio.NewReaderSize(f.conn, 4096)
	if t == WSS {
		f.ws, f.via = true, "WSS"
		_ = conn.SetDeadline(time.Now().Add(g.cfg.Timeout))
		if err := f.upgrade(addr); err != nil {
			conn.Close()
			return nil, err
		}
		_ = conn.SetDeadline(time.Time{})
	}
	return f, nil
}

// own is the source of the PBX's flows: the host's own address.
const own = -1

// source is the address that flow i comes from.
func (g *Generator) source(i int) net.Addr {
	if g.cfg.Sources <= 1 || i == own {
		return nil
	}
	return &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+i%min(g.cfg.Sources, 250)))}
}

// send writes one whole message.
func (f *flow) send(b []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ws {
		return f.frame(opText, b)
	}
	_, err := f.conn.Write(b)
	return err
}

// write builds a message and sends it.
func (f *flow) write(build func(b []byte) []byte) error {
	room, _ := f.g.rooms.Get().(*[]byte)
	defer f.g.rooms.Put(room)
	*room = build((*room)[:0])
	return f.send(*room)
}

// read hands on what arrives until the flow ends.
func (f *flow) read() {
	var m message
	var buf []byte
	for {
		var err error
		if f.ws {
			buf, err = f.readFrame(buf)
		} else {
			buf, err = readStream(f.in, buf)
		}
		if err != nil {
			f.conn.Close()
			if !f.over.Load() {
				f.g.fault("a flow was lost: %v", err)
			}
			return
		}
		if len(buf) == 0 {
			continue
		}
		if err := m.parse(buf); err != nil {
			f.g.fault("%v: %.40q", err, buf)
			continue
		}
		if m.request {
			f.g.serve(f, &m)
		} else {
			f.g.answered(&m)
		}
	}
}

// start runs the reader.
func (g *Generator) start(f *flow) *flow {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		f.abort()
		return f
	}
	g.flows[f] = struct{}{}
	g.readers.Go(func() {
		f.read()
		g.mu.Lock()
		delete(g.flows, f)
		g.mu.Unlock()
	})
	return f
}

// abort drops the connection as a lost network does, with a reset, so that
// nothing waits in TIME_WAIT.
func (f *flow) abort() {
	f.over.Store(true)
	conn := f.conn
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn()
	}
	if t, ok := conn.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	conn.Close()
}

// contact is the Contact of requests that open a dialog on the flow.
func (f *flow) contact(user string) string {
	if p := f.phone.Load(); p != nil {
		return p.contact
	}
	return fmt.Sprintf("<sip:%s@%s;transport=tcp>", user, f.host)
}
