package transport

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
)

// wire is what every stream has, whatever is read from it: a connection on
// which bytes are written as they are.
type wire struct {
	// Static after it was made; recv is set by Start.
	t    *Transport
	conn net.Conn
	recv Receiver

	// closing lets one Close act.
	closing sync.Once
}

func (w *wire) over(err error) { w.recv.Ended(err) }

// Write sends p as it is: a stream has no frames.
func (w *wire) Write(p []byte) error {
	_, err := w.conn.Write(p)
	return slow(err)
}

// WritePart is Write: a stream has no messages either.
func (w *wire) WritePart(p []byte) error { return w.Write(p) }

// Pong answers CRLFCRLF with CRLF (RFC 5626 §4.4.1).
func (w *wire) Pong() error { return w.Write(crlf) }

// Ping fails: a server has no question to ask on a stream.
func (w *wire) Ping(context.Context) error { return ErrNoPing }

// Go has t done.
func (w *wire) Go(t Task) { start(w.conn, t) }

// Close says goodbye in TLS, where there is hope, and closes the socket.
func (w *wire) Close(r Reason) {
	w.closing.Do(func() {
		if t, ok := w.conn.(*tls.Conn); ok && r.hopeless() {
			_ = t.NetConn().Close()
			return
		}
		_ = w.conn.Close()
	})
}
