package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"

	"sallyport/tunnel/sipstream"
)

// stream is SIP over TLS: messages cut by Content-Length, CRLF keep-alives.
type stream struct {
	// Static after Stream; recv is set by Start.
	t    *Transport
	conn net.Conn
	recv Receiver

	// closing lets one Close act.
	closing sync.Once

	// Owned by read.
	cut   *sipstream.Cutter
	buf   *[]byte // pooled; held while a message is incomplete, and by a read
	first [1]byte
	patience
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

// Start has the connection read.
func (s *stream) Start(r Receiver) {
	s.recv = r
	s.t.begin(s.conn, s)
}

func (s *stream) over(err error) { s.recv.Ended(err) }

// read hands over what comes. Where it waits, it does so with one byte of its
// own, and takes a buffer from the pool when that byte has come: an idle client
// costs no buffer of ours.
func (s *stream) read(waits bool) error {
	defer s.release()
	s.greet(&s.t.cfg, s.conn)
	for {
		into := s.first[:]
		if !waits || s.cut.Buffered() > 0 {
			into = s.take()
		} else {
			s.release()
		}
		n, err := s.conn.Read(into)
		s.cut.Feed(into[:n])
		whole, derr := s.deliver()
		switch {
		case derr != nil:
			return derr
		case err != nil && !errors.Is(err, errIdle):
			return s.ended(err)
		}
		s.turn(&s.t.cfg, s.conn, whole, s.cut.Buffered() == 0)
		if err != nil {
			return err
		}
	}
}

// deliver hands over what is whole and reports whether anything was.
func (s *stream) deliver() (whole bool, err error) {
	for {
		msg, kind, err := s.cut.Next()
		if err != nil {
			return whole, err
		}
		switch kind {
		case sipstream.NeedMore:
			return whole, nil
		case sipstream.Message:
			err = s.recv.Message(msg)
		case sipstream.Ping:
			s.recv.KeepAlive()
		case sipstream.Pong:
			s.recv.Alive()
		}
		if err != nil {
			return true, err
		}
		whole = true
	}
}

// ended gives the error of a read its reason.
func (s *stream) ended(err error) error {
	if errors.Is(err, io.EOF) && s.cut.Buffered() > 0 {
		return &Error{ClientReset, io.ErrUnexpectedEOF}
	}
	return tooSlow(err, s.spoke())
}

func (s *stream) take() []byte {
	if s.buf == nil {
		s.buf = s.t.buffers.Get().(*[]byte)
	}
	return *s.buf
}

func (s *stream) release() {
	if s.buf != nil {
		s.t.buffers.Put(s.buf)
		s.buf = nil
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

// Go has t done.
func (s *stream) Go(t Task) { start(s.conn, t) }

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
