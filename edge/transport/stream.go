package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"sallyport/tunnel/sipstream"
)

// stream is SIP over TLS: messages cut by Content-Length, CRLF keep-alives.
type stream struct {
	// Static after Stream.
	t    *Transport
	conn net.Conn

	// closing lets one Close act.
	closing sync.Once

	// Owned by read.
	cut   *sipstream.Cutter
	buf   *[]byte // pooled; held only while a message is incomplete
	first [1]byte
	spoke bool // something whole has come
	armed bool // a read deadline is set
}

// Stream makes a message connection of c, whose handshake is over. Writes to c
// must have a deadline of their own: see [Transport.Handshake].
func (t *Transport) Stream(c net.Conn) Conn {
	return &stream{
		t:    t,
		conn: c,
		cut:  sipstream.New(sipstream.Limits{MaxHeader: t.cfg.MaxHeader, MaxMessage: t.cfg.MaxMessage}),
	}
}

// Start reads on a goroutine of its own, whose stack never held a handshake
// and so stays small.
func (s *stream) Start(r Receiver) {
	go func() { r.Ended(s.read(r)) }()
}

// read waits with one byte of its own, and takes a buffer from the pool when
// that byte has come: an idle client costs no buffer of ours.
func (s *stream) read(r Receiver) error {
	defer s.release()
	s.arm(s.t.cfg.FirstMessage)
	for {
		into := s.first[:]
		if s.buf != nil {
			into = *s.buf
		}
		n, err := s.conn.Read(into)
		s.cut.Feed(into[:n])
		whole, derr := s.deliver(r)
		switch {
		case derr != nil:
			return derr
		case err != nil:
			return s.ended(err)
		case s.cut.Buffered() == 0:
			s.release()
			s.disarm()
		case s.buf == nil || whole:
			// A message has begun, and this is its clock, however its bytes
			// trickle in.
			s.take()
			s.arm(s.t.cfg.WholeMessage)
		}
	}
}

// deliver hands over what is whole and reports whether anything was.
func (s *stream) deliver(r Receiver) (whole bool, err error) {
	for {
		msg, kind, err := s.cut.Next()
		if err != nil {
			return whole, err
		}
		switch kind {
		case sipstream.NeedMore:
			return whole, nil
		case sipstream.Message:
			err = r.Message(msg)
		case sipstream.Ping:
			r.KeepAlive()
		case sipstream.Pong:
			r.Alive()
		}
		if err != nil {
			return true, err
		}
		whole, s.spoke = true, true
	}
}

// ended gives the error of a read its reason.
func (s *stream) ended(err error) error {
	if errors.Is(err, io.EOF) && s.cut.Buffered() > 0 {
		return &Error{ClientReset, io.ErrUnexpectedEOF}
	}
	return tooSlow(err, s.spoke)
}

func (s *stream) take() {
	if s.buf == nil {
		s.buf = s.t.buffers.Get().(*[]byte)
	}
}

func (s *stream) release() {
	if s.buf != nil {
		s.t.buffers.Put(s.buf)
		s.buf = nil
	}
}

// arm sets the time by which the client must have said something whole. The
// clock of the first message goes on while that message is coming.
func (s *stream) arm(d time.Duration) {
	if s.armed && !s.spoke {
		return
	}
	s.armed = true
	_ = s.conn.SetReadDeadline(time.Now().Add(d))
}

func (s *stream) disarm() {
	if s.armed && s.spoke {
		s.armed = false
		_ = s.conn.SetReadDeadline(time.Time{})
	}
}

// Write sends p as it is: a stream has no frames.
func (s *stream) Write(p []byte) error {
	_, err := s.conn.Write(p)
	return slow(err)
}

// Pong answers CRLFCRLF with CRLF (RFC 5626 §4.4.1).
func (s *stream) Pong() error { return s.Write(crlf) }

// Ping fails: a server has no question to ask on a SIP stream.
func (s *stream) Ping(context.Context) error { return ErrNoPing }

// Close says goodbye in TLS, where there is hope, and closes the socket.
func (s *stream) Close(r Reason) {
	s.closing.Do(func() {
		if t, ok := s.conn.(*tls.Conn); ok && r.hopeless() {
			_ = t.NetConn().Close()
			return
		}
		_ = s.conn.Close()
	})
}
