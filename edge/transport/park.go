package transport

import "net"

// reader is what a protocol does with its connection: read hands over what has
// come. Where it waits, it returns when the connection ends. Over a parked
// socket it returns errIdle when nothing is left to read, holding no buffer,
// and is called again when something is.
type reader interface {
	read(waits bool) error
	over(err error) // the last call: why the connection ended
}

// errIdle is returned by a parked socket's Read that would have to wait.
// crypto/tls takes an error that is temporary as one after which it may be
// asked again, with what it has of a record kept.
var errIdle net.Error = idle{}

type idle struct{}

func (idle) Error() string   { return "nothing to read yet" }
func (idle) Timeout() bool   { return true }
func (idle) Temporary() bool { return true }

// begin has r read from c and returns. Where c can be parked, a goroutine is
// there only while something is being read; elsewhere r has one of its own,
// whose stack never held a handshake and so stays small.
func (t *Transport) begin(c net.Conn, r reader) {
	if t.park(c, r) {
		return
	}
	go func() { r.over(r.read(true)) }()
}

// start has a task done for the connection c.
func start(c net.Conn, t Task) {
	if p := pool(c); p != nil {
		p.hand(t)
		return
	}
	go t.Run()
}

// bottom is the socket below TLS.
func bottom(c net.Conn) net.Conn {
	if below, ok := c.(interface{ NetConn() net.Conn }); ok {
		return below.NetConn()
	}
	return c
}
