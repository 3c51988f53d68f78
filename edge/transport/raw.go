package transport

import (
	"errors"
	"fmt"
	"net"
)

// raw is XMPP over TLS (RFC 6120, XEP-0368): bytes as they come. Where an
// element ends is for the core to find out; so is whether it ever does.
type raw struct {
	wire
	patience // owned by read
}

// errNoXML says that a stream of XML cannot begin like this (RFC 6120 §4.2).
var errNoXML = errors.New("no xmpp stream")

// Raw makes a connection of c, whose handshake is over, that hands over bytes
// in pieces of at most Config.MaxMessage: XMPP over TLS. The first byte is due
// in Config.FirstMessage and must be that of an XML stream; after that nothing
// is looked at, and a client may say nothing for as long as it likes. Writes to
// c must have a deadline of their own: see [Transport.Handshake].
func (t *Transport) Raw(c net.Conn) Conn {
	t.bound(c)
	return &raw{wire: wire{t: t, conn: c}}
}

// Start has the connection read.
func (r *raw) Start(recv Receiver) {
	r.recv = recv
	r.t.begin(r.conn, r)
}

// read hands over what comes. Where it waits it keeps its buffer meanwhile;
// where it is parked there is none, and all that is there goes together, however
// many records of TLS it came in.
func (r *raw) read(waits bool) error {
	pooled := r.t.buffers.Get().(*[]byte)
	defer r.t.buffers.Put(pooled)
	buf := (*pooled)[:min(len(*pooled), r.t.cfg.MaxMessage)]
	r.greet(&r.t.cfg, r.conn)
	for {
		n, err := r.conn.Read(buf)
		for more := 0; err == nil && !waits && n < len(buf); n += more {
			more, err = r.conn.Read(buf[n:])
		}
		if derr := r.deliver(buf[:n]); derr != nil {
			return derr
		}
		if err != nil {
			return tooSlow(err, r.spoke())
		}
	}
}

// deliver hands over one piece, which may be empty.
func (r *raw) deliver(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	if !r.spoke() {
		if p[0] != '<' {
			return &Error{Protocol, fmt.Errorf("%w: byte 0x%02x starts none", errNoXML, p[0])}
		}
		r.turn(&r.t.cfg, r.conn, true, true)
	}
	return r.recv.Message(p)
}
