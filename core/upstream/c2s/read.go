package c2s

import (
	"errors"
	"io"

	"sallyport/core/stanza"
)

// next reads on until something whole is there.
func (s *Stream) next() (stanza.Kind, *stanza.Element, error) {
	for {
		kind, e, err := s.cut.Next()
		if err != nil {
			return stanza.NeedMore, nil, err
		}
		if kind != stanza.NeedMore {
			return kindOf(kind, e), e, nil
		}
		if s.frames != nil {
			more, err := s.nextFrame()
			if err != nil {
				return stanza.NeedMore, nil, s.wire.why(err)
			}
			if more {
				continue
			}
		}
		if err := s.fill(); err != nil {
			return stanza.NeedMore, nil, s.wire.why(err)
		}
	}
}

// kindOf finds header and end among the messages of a WebSocket.
func kindOf(kind stanza.Kind, e *stanza.Element) stanza.Kind {
	switch {
	case kind != stanza.Whole || string(e.Space) != stanza.NSFraming:
		return kind
	case string(e.Local) == "open":
		return stanza.Header
	case string(e.Local) == "close":
		return stanza.End
	}
	return kind
}

// nextFrame feeds the cutter with a message, if a whole one is there, and
// answers control frames.
func (s *Stream) nextFrame() (fed bool, err error) {
	for {
		op, payload, ok, err := s.frames.next()
		switch {
		case err != nil || !ok:
			return false, err
		case op == opText:
			s.cut.Feed(payload)
			return true, nil
		case op == opPing:
			if err := s.frame(opPong, payload); err != nil {
				return false, err
			}
		case op == opClose:
			_ = s.frame(opClose, payload) // the server is gone or going
			return false, io.EOF
		}
	}
}

// fill reads what there is, and waits for it without a buffer.
func (s *Stream) fill() error {
	if s.lent != nil { // cutter and frames asked for more: they use it no longer
		buffers.Put(s.lent)
		s.lent = nil
	}
	if s.conn == s.wire && s.wire.eager && s.wire.raw != nil {
		buf, n, err := s.wire.readPooled()
		s.lent = buf
		if err != nil {
			return err
		}
		s.feed((*buf)[:n])
		return nil
	}
	for {
		buf := buffers.Get().(*[]byte)
		n, err := s.conn.Read(*buf)
		if n > 0 {
			s.lent = buf
			s.feed((*buf)[:n])
			return nil
		}
		buffers.Put(buf)
		if !errors.Is(err, errAgain) {
			return err
		}
		if err := s.wire.wait(); err != nil {
			return err
		}
	}
}

func (s *Stream) feed(p []byte) {
	if s.frames != nil {
		s.frames.feed(p)
		return
	}
	s.cut.Feed(p)
}
