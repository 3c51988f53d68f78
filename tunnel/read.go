package tunnel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"sallyport/tunnel/frame"
)

// handlers says what is done with each frame this version takes. A frame is
// handled on the goroutine that reads, so none of these waits.
var handlers = [256]func(s *session, flow uint32, p []byte) error{
	frame.TypeOpen:   (*session).onOpen,
	frame.TypeData:   (*session).onData,
	frame.TypeCredit: (*session).onCredit,
	frame.TypeClose:  (*session).onClose,
	frame.TypeEvent:  (*session).onEvent,
	frame.TypePing:   (*session).onPing,
	frame.TypePong:   (*session).onPong,
	frame.TypeDrain:  (*session).onDrain,
	frame.TypeGoAway: (*session).onGoAway,
	frame.TypeNotice: (*session).onNotice,
}

// read handles frames until the link breaks, and returns why it did.
func (s *session) read() error {
	s.calls.Lock()
	defer s.calls.Unlock()
	for {
		err := s.readFrame()
		if errors.Is(err, frame.ErrSyntax) || errors.Is(err, errProtocol) {
			s.fail(err, frame.GoAwayProtocol)
		}
		if err != nil {
			return err
		}
	}
}

func (s *session) readFrame() error {
	b, err := s.in.Peek(frame.HeaderLen)
	if err != nil {
		return lost(err)
	}
	h, err := frame.ParseHeader(b)
	if err != nil {
		return err
	}
	if b, err = s.in.Peek(frame.HeaderLen + h.Len); err != nil {
		return lost(err)
	}
	if handle := handlers[h.Type]; handle != nil {
		if err := handle(s, h.Flow, b[frame.HeaderLen:]); err != nil {
			return err
		}
	} else if !h.Type.Skippable() {
		return fmt.Errorf("%w: unexpected %v", errProtocol, h.Type)
	}
	_, err = s.in.Discard(frame.HeaderLen + h.Len)
	return err
}

// lost names what the end of the connection means here.
func lost(err error) error {
	if errors.Is(err, io.EOF) {
		return errors.New("tunnel: the peer hung up")
	}
	return fmt.Errorf("tunnel: %w", err)
}

// ear reads the connection for a session. It notes that the peer was heard,
// and lets others call handlers while there is nothing to read.
type ear struct {
	conn net.Conn
	s    *session // nil during the handshake
}

func (e *ear) Read(p []byte) (int, error) {
	if e.s == nil {
		return e.conn.Read(p)
	}
	e.s.calls.Unlock()
	n, err := e.conn.Read(p)
	e.s.calls.Lock()
	if n > 0 {
		e.s.heard.Store(int64(time.Since(e.s.start)))
	}
	return n, err
}

// flow returns a live flow, or nil for one that has ended: frames may still be
// under way to it. A flow that never was is an error.
func (s *session) flow(id uint32) (*Flow, error) {
	s.index.Lock()
	f := s.flows[id]
	s.index.Unlock()
	if f == nil && id > s.lastID && id > s.opened.Load() {
		return nil, fmt.Errorf("%w: flow %d was never opened", errProtocol, id)
	}
	return f, nil
}

func (s *session) onOpen(id uint32, p []byte) error {
	switch {
	case s.accept == nil:
		return fmt.Errorf("%w: OPEN, but only edges open flows", errProtocol)
	case id <= s.lastID:
		return fmt.Errorf("%w: OPEN of flow %d after %d", errProtocol, id, s.lastID)
	}
	s.lastID = id
	info, err := frame.ParseOpen(p, s.names.share)
	if err != nil {
		return err
	}
	f := &Flow{info: info, id: id, credit: int32(s.hello.Window)}
	f.session.Store(s)
	if refusal := s.admit(f); refusal != "" {
		return s.refuse(id, refusal)
	}
	s.metrics.flows.Inc()
	if f.h = s.accept(f); f.h == nil {
		f.Close(ClosePolicy, "not wanted here")
	}
	return nil
}

// admit takes f in, or says why not.
func (s *session) admit(f *Flow) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.ended():
		return "leaving"
	case len(s.flows) >= s.maxFlows:
		return "too many flows"
	case !s.rate.take(time.Now()):
		return "too many new flows"
	}
	s.index.Lock()
	s.flows[f.id] = f
	s.index.Unlock()
	return ""
}

// maxRefusals bounds the CLOSEs that wait for an edge that opens flows and
// does not read the answers.
const maxRefusals = 4 << 20

func (s *session) refuse(id uint32, why string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.control) > maxRefusals {
		return fmt.Errorf("%w: opens flows, but reads no refusal", errProtocol)
	}
	s.metrics.closed(ClosePolicy)
	s.control = frame.AppendClose(s.control, id, ClosePolicy, why)
	s.work.Signal()
	return nil
}

func (s *session) onData(id uint32, p []byte) error {
	f, err := s.flow(id)
	if f == nil {
		return err
	}
	n, used, w := len(p), int(f.used.Load()), s.window
	if n > w || !affords(w-used, w, n) {
		return fmt.Errorf("%w: DATA of %d bytes on flow %d, which owes %d of %d", errProtocol, n, id, used, w)
	}
	f.used.Add(int32(n))
	f.h.Message(f, p)
	return nil
}

func (s *session) onCredit(id uint32, p []byte) error {
	n := int64(binary.BigEndian.Uint32(p))
	f, err := s.flow(id)
	if f == nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if n == 0 || int64(f.credit)+n > int64(s.hello.Window) {
		return fmt.Errorf("%w: CREDIT of %d bytes on flow %d, which has %d of %d",
			errProtocol, n, id, f.credit, s.hello.Window)
	}
	f.credit += int32(n)
	s.unblock(f)
	return nil
}

func (s *session) onEvent(id uint32, p []byte) error {
	f, err := s.flow(id)
	if f != nil {
		f.h.Event(f, Event(p[0]))
	}
	return err
}

func (s *session) onClose(id uint32, p []byte) error {
	f, err := s.flow(id)
	if f == nil {
		return err
	}
	code, text := frame.ParseClose(p)
	s.mu.Lock()
	gone := s.remove(f, code)
	s.mu.Unlock()
	if gone {
		f.h.Closed(f, code, text)
	}
	return nil
}

func (s *session) onPing(_ uint32, p []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pong = append(s.pong[:0], p...)
	s.work.Signal()
	return nil
}

func (s *session) onPong(_ uint32, p []byte) error {
	sent, now := int64(binary.BigEndian.Uint64(p)), int64(time.Since(s.start))
	if rtt := now - sent; sent >= 0 && rtt >= 0 {
		s.rtt.Store(rtt)
		s.metrics.rtt.Observe(time.Duration(rtt).Seconds())
	}
	return nil
}

func (s *session) onDrain(_ uint32, p []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.draining {
		s.draining = true
		s.log.Info("peer drains", "peer", s.peer.Name,
			"within", time.Duration(binary.BigEndian.Uint32(p))*time.Millisecond)
	}
	return nil
}

// onNotice keeps what the operator should know of an edge.
func (s *session) onNotice(_ uint32, p []byte) error {
	notes, err := frame.ParseNotice(p)
	if err == nil {
		s.mu.Lock()
		s.notices = notes
		s.mu.Unlock()
	}
	return err
}

func (s *session) onGoAway(_ uint32, p []byte) error {
	return goneAway(p)
}

// goAway is the error for a GOAWAY. Its text is the peer's.
type goAway struct {
	code frame.GoAwayCode
	text string
}

func (g *goAway) Error() string {
	if g.text == "" {
		return fmt.Sprintf("tunnel: the peer ended the session: %v", g.code)
	}
	return fmt.Sprintf("tunnel: the peer ended the session: %v: %q", g.code, g.text)
}

func goneAway(p []byte) error {
	code, text := frame.ParseGoAway(p)
	return &goAway{code, text}
}
