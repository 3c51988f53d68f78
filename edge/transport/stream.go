package transport

import (
	"errors"
	"io"
	"net"

	"sallyport/tunnel/sipstream"
)

// stream is SIP over TLS: messages cut by Content-Length, CRLF keep-alives.
type stream struct {
	wire

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
		wire: wire{t: t, conn: c},
		cut:  sipstream.New(sipstream.Limits{MaxHeader: t.cfg.MaxHeader, MaxMessage: t.cfg.MaxMessage}),
	}
}

// Start has the connection read.
func (s *stream) Start(r Receiver) {
	s.recv = r
	s.t.begin(s.conn, s)
}

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
