package upstream

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"sallyport/tunnel/sipstream"
)

var (
	// ErrClosed: the connection has ended.
	ErrClosed = errors.New("upstream connection closed")
	// ErrSlow: the peer does not take what waits for it.
	ErrSlow = errors.New("upstream queue full")
	// ErrTooBig: the message does not fit the transport.
	ErrTooBig = errors.New("message too big for upstream")
)

// Conn is one connection to or from a SIP server, over TCP or TLS; over UDP, the server's
// address seen from one of our sockets. Its methods may be called from any
// goroutine.
type Conn struct {
	// Static after construction.
	id        string
	transport string
	local     netip.AddrPort
	remote    netip.AddrPort
	trusted   bool
	dialled   bool
	up        *Upstream
	stream    net.Conn       // TCP and TLS
	packet    net.PacketConn // UDP
	socket    *socket        // UDP

	handed int // whole messages that were taken; owned by read

	done    chan struct{} // closed when the connection has ended
	closing chan struct{} // closed when it is to end
	once    sync.Once
	ended   sync.Once

	queue    *outbox
	answered atomic.Bool  // something was sent
	heard    atomic.Int64 // when the last message came, in ns since 1970
	probing  atomic.Pointer[probe]
}

// maxDatagram is the largest UDP payload.
const maxDatagram = 65507

// ID names the connection; it is unique in this process's life.
func (c *Conn) ID() string { return c.id }

// Transport is "TCP", "UDP" or "TLS", as in Via.
func (c *Conn) Transport() string { return c.transport }

// Remote is the peer's address.
func (c *Conn) Remote() netip.AddrPort { return c.remote }

// Local is this end's address; its IP may be unspecified for a UDP socket on
// all addresses.
func (c *Conn) Local() netip.AddrPort { return c.local }

// Trusted reports whether requests of the peer are to be answered with
// anything but 403. What the core itself dialled is trusted.
func (c *Conn) Trusted() bool { return c.trusted }

// Dialled reports whether the core opened the connection.
func (c *Conn) Dialled() bool { return c.dialled }

// Done is closed when the connection has ended.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Send queues a copy of one whole message. It does not block. It fails with
// ErrClosed, ErrSlow or ErrTooBig.
func (c *Conn) Send(p []byte) error {
	if c.isClosing() {
		return ErrClosed
	}
	if c.packet != nil {
		return c.sendPacket(bytes.Clone(p)) // so that p may live on its caller's stack
	}
	if !c.queue.put(p, c.up.cfg.QueueBytes) {
		c.up.metrics.dropped.WithLabelValues("queue_full").Inc()
		return ErrSlow
	}
	c.answered.Store(true)
	return nil
}

func (c *Conn) sendPacket(p []byte) error {
	if len(p) > maxDatagram {
		return ErrTooBig
	}
	if _, err := c.packet.WriteTo(p, net.UDPAddrFromAddrPort(c.remote)); err != nil {
		return err
	}
	c.up.metrics.messages.WithLabelValues("out", udp).Inc()
	return nil
}

// Close ends a TCP or TLS connection after what is queued has been written, or half a
// second. It does not wait. An address seen over UDP stays what it is.
func (c *Conn) Close() {
	if c.packet == nil {
		c.shut()
	}
}

// drop ends a connection whose server is dead, over UDP too.
func (c *Conn) drop() {
	if c.packet != nil {
		c.socket.drop(c)
		return
	}
	c.shut()
}

func (c *Conn) shut() {
	c.once.Do(func() {
		close(c.closing)
		if c.stream != nil {
			_ = c.stream.SetWriteDeadline(time.Now().Add(flushTime))
		}
	})
}

// isClosing reports whether the connection is to end or has ended.
func (c *Conn) isClosing() bool {
	select {
	case <-c.closing:
		return true
	default:
		return false
	}
}

// flushTime is how long a closing connection may still take to write.
const flushTime = 500 * time.Millisecond

// write is the writer goroutine of a stream. It ends the connection
// when a write fails or Close is called.
func (c *Conn) write() {
	defer c.stream.Close()
	ping := time.NewTimer(c.up.cfg.KeepAlive)
	defer ping.Stop()
	for {
		select {
		case <-c.closing:
			c.flush() // within the deadline that shut has set
			return
		case <-c.queue.more:
			if !c.flush() {
				c.shut()
				return
			}
		case <-ping.C:
			if c.dialled && !c.writeRaw([]byte("\r\n\r\n")) {
				c.shut()
				return
			}
		}
		ping.Reset(c.up.cfg.KeepAlive)
	}
}

// flush writes what is queued, and reports whether that went well.
func (c *Conn) flush() bool {
	for {
		all, msgs := c.queue.take()
		if len(all) == 0 {
			return true
		}
		ok := c.writeAll(all)
		c.queue.written(all)
		if !ok {
			return false
		}
		c.up.metrics.messages.WithLabelValues("out", c.transport).Add(float64(msgs))
	}
}

// maxWrite is what one WriteTimeout is given for.
const maxWrite = 64 << 10

func (c *Conn) writeAll(p []byte) bool {
	for len(p) > maxWrite {
		if !c.writeRaw(p[:maxWrite]) {
			return false
		}
		p = p[maxWrite:]
	}
	return c.writeRaw(p)
}

// writeRaw writes within WriteTimeout, or what shut leaves of it.
func (c *Conn) writeRaw(p []byte) bool {
	if !c.isClosing() {
		_ = c.stream.SetWriteDeadline(time.Now().Add(c.up.cfg.WriteTimeout))
		if c.isClosing() { // meanwhile: shut's deadline counts
			_ = c.stream.SetWriteDeadline(time.Now().Add(flushTime))
		}
	}
	_, err := c.stream.Write(p)
	return err == nil
}

// Limits of reading.
const (
	readBuffer = 16 << 10
	// partialTime is how long a message may take from its first byte.
	partialTime = 30 * time.Second
	// strangerTime is how long an untrusted peer may take to send its first.
	strangerTime = 5 * time.Second
	// answerTime is how long the handler may take to refuse a stranger.
	answerTime = time.Second
)

// read is the reader goroutine of a stream: it cuts messages and hands
// them over in order until the connection ends.
func (c *Conn) read() {
	cut := sipstream.New(sipstream.Limits{MaxMessage: c.up.cfg.MaxMessage})
	buf := make([]byte, readBuffer)
	begun := false // the deadline of a message that is not whole yet is set
	if !c.trusted {
		_ = c.stream.SetReadDeadline(time.Now().Add(strangerTime))
	}
	for {
		n, err := c.stream.Read(buf)
		if n > 0 {
			cut.Feed(buf[:n])
			whole := c.handed
			if !c.deliver(cut) {
				return
			}
			begun = c.deadline(begun && whole == c.handed, cut.Buffered() > 0)
		}
		if err != nil {
			return
		}
	}
}

// deadline bounds a message of a trusted peer from its first byte, however it
// trickles in. It returns whether such a bound stands.
func (c *Conn) deadline(begun, partial bool) bool {
	switch {
	case !c.trusted: // bounded as a whole
	case partial && !begun:
		_ = c.stream.SetReadDeadline(time.Now().Add(partialTime))
	case !partial:
		_ = c.stream.SetReadDeadline(time.Time{})
	}
	return partial
}

// deliver hands over all whole messages. It returns false when the connection
// has to end.
func (c *Conn) deliver(cut *sipstream.Cutter) bool {
	for {
		msg, kind, err := cut.Next()
		if err != nil {
			c.up.metrics.dropped.WithLabelValues("framing").Inc()
			c.up.log.Warn("upstream connection cannot be framed", "remote", c.remote, "err", err)
			return false
		}
		switch kind {
		case sipstream.NeedMore:
			return true
		case sipstream.Ping:
			_ = c.Send([]byte("\r\n"))
		case sipstream.Message:
			c.handed++
			if c.hear(msg) {
				continue
			}
			c.up.metrics.messages.WithLabelValues("in", c.transport).Inc()
			c.up.handler.Message(c, append([]byte(nil), msg...))
			if !c.trusted {
				c.up.metrics.dropped.WithLabelValues("untrusted").Inc()
				c.awaitAnswer()
				return false
			}
		}
	}
}

// awaitAnswer gives the handler time to queue its refusal.
func (c *Conn) awaitAnswer() {
	const step = 10 * time.Millisecond
	tick := time.NewTicker(step)
	defer tick.Stop()
	for waited := time.Duration(0); waited < answerTime && !c.answered.Load(); waited += step {
		select {
		case <-tick.C:
		case <-c.closing:
			return
		}
	}
}

// serve runs a TCP or TLS connection to its end.
func (c *Conn) serve() {
	if err := c.shake(); err != nil {
		c.up.metrics.dropped.WithLabelValues("handshake").Inc()
		c.up.log.Info("upstream handshake failed", "remote", c.remote, "err", err)
		c.shut()
		c.stream.Close()
		c.end()
		return
	}
	written := make(chan struct{})
	go func() {
		defer close(written)
		c.write()
	}()
	c.read()
	c.shut()
	<-written
	c.end()
}

// end tells everyone that c is over, once.
func (c *Conn) end() {
	c.ended.Do(func() {
		c.shut()
		c.up.forget(c)
		close(c.done)
		c.up.handler.Closed(c)
	})
}
