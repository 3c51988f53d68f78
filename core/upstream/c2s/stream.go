package c2s

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"sallyport/core/stanza"
)

// Stream is an open stream to a server. Whoever opened it must close it. Write
// and Close may be called from any goroutine; Next, Restart and Run belong to
// one at a time, the reader.
type Stream struct {
	// Static once it is open.
	d      *Domain
	remote netip.AddrPort
	wire   *wire
	conn   net.Conn // wire, or TLS on it
	web    bool

	// Owned by the reader.
	cut      *stanza.Cutter
	frames   *frames // of a WebSocket
	lent     *[]byte // the buffer that cut or frames read in, nil
	header   stanza.Stream
	features []byte
	// mechanisms are what the server offered to log in with.
	mechanisms []string

	mu      sync.Mutex
	reading bool // a goroutine is in Run or Next
	closing bool // nothing is handed over any more
	over    bool // counted as ended
}

// Header is what the server's header said, the newest.
func (s *Stream) Header() stanza.Stream { return s.header }

// Features are the server's <stream:features/> as they were when the stream was
// opened: portable ([stanza.Element.AppendPortable]), as they came. They must not
// be changed.
func (s *Stream) Features() []byte { return s.features }

// Remote is the server's address.
func (s *Stream) Remote() netip.AddrPort { return s.remote }

// TLS tells of the stream's TLS; nil when there is none.
func (s *Stream) TLS() *tls.ConnectionState {
	if c, ok := s.conn.(*tls.Conn); ok {
		cs := c.ConnectionState()
		return &cs
	}
	return nil
}

// Queued is how many bytes wait for the server: it reads slower than is
// written.
func (s *Stream) Queued() int { return s.wire.waiting() }

// Write sends an element, portable ([stanza.Element.AppendPortable]). It does
// not block, and keeps no reference to p. After an error the stream ends:
// ErrSlow when more than [Config.Queue] waits for the server, ErrClosed.
func (s *Stream) Write(p []byte) error {
	if !s.web {
		_, err := s.conn.Write(p)
		return err
	}
	if p = trim(p); len(p) == 0 {
		return nil // white space has no place between messages
	}
	return s.frame(opText, stanza.AppendFrame(nil, p))
}

func trim(p []byte) []byte {
	for len(p) > 0 && (p[0] == ' ' || p[0] == '\n' || p[0] == '\r' || p[0] == '\t') {
		p = p[1:]
	}
	return p
}

// frame sends a WebSocket's frame.
func (s *Stream) frame(op opcode, p []byte) error {
	_, err := s.conn.Write(appendMasked(make([]byte, 0, len(p)+14), op, p))
	return err
}

// Next returns the next element, for a login that goes step by step. It is
// valid until the next call. The end of the server's stream is io.EOF.
func (s *Stream) Next(ctx context.Context) (*stanza.Element, error) {
	if !s.begin() {
		return nil, ErrClosed
	}
	defer s.finish()
	defer s.within(ctx)()
	kind, e, err := s.next()
	switch {
	case err != nil && s.isClosing():
		return nil, ErrClosed
	case err != nil:
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, err
	case kind == stanza.End:
		return nil, io.EOF
	case kind == stanza.Header:
		return nil, fmt.Errorf("%w: a header that was not asked for", stanza.ErrSyntax)
	}
	return e, nil
}

// Restart begins the stream anew after authentication (RFC 6120 §6.3.2), and
// returns the features that the server offers then, portable.
func (s *Stream) Restart(ctx context.Context) ([]byte, error) {
	if !s.begin() {
		return nil, ErrClosed
	}
	defer s.finish()
	defer s.within(ctx)()
	s.cut.Restart()
	features, err := s.readFeatures()
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, err
	}
	s.d.learn(features)
	return features.AppendPortable(nil), nil
}

// sayHeader begins the stream on our side.
func (s *Stream) sayHeader() error {
	h := stanza.Stream{To: s.d.cfg.Name, Version: "1.0"}
	if s.web {
		return s.frame(opText, h.AppendOpen(nil))
	}
	_, err := s.conn.Write(h.AppendHeader(nil))
	return err
}

// errHeader: what came was no header.
var errHeader = errors.New("no stream header came")

// readFeatures sends a header, and reads the server's and the features behind it.
func (s *Stream) readFeatures() (*stanza.Element, error) {
	if err := s.sayHeader(); err != nil {
		return nil, err
	}
	kind, e, err := s.next()
	if err == nil && kind != stanza.Header {
		err = errHeader
		if kind == stanza.Whole {
			err = unexpected(e)
		}
	}
	if err == nil {
		s.header, err = stanza.StreamOf(e)
	}
	if err == nil {
		kind, e, err = s.next()
	}
	switch {
	case err != nil:
		return nil, err
	case kind != stanza.Whole:
		return nil, io.EOF
	case !e.Is(stanza.NSStreams, "features"):
		return nil, unexpected(e)
	}
	return e, nil
}

// Run hands over each element, in order, until the stream is over: nil after
// the server's end tag, ErrClosed after Close, else why. An element is valid
// until each returns, which may block: then nothing more is read.
func (s *Stream) Run(each func(*stanza.Element)) error {
	if !s.begin() {
		return ErrClosed
	}
	defer s.finish()
	for {
		kind, e, err := s.next()
		switch {
		case err != nil && s.isClosing():
			return ErrClosed
		case err != nil:
			if errors.Is(err, io.EOF) {
				err = fmt.Errorf("server %v: %w", s.remote, io.ErrUnexpectedEOF)
			}
			return err
		case kind == stanza.End:
			return nil
		case kind == stanza.Header:
			return fmt.Errorf("%w: a header that was not asked for", stanza.ErrSyntax)
		case s.isClosing():
		default:
			each(e)
		}
	}
}

// within bounds reading by a context, until the returned function is called.
func (s *Stream) within(ctx context.Context) func() {
	stop := context.AfterFunc(ctx, func() { s.deadline(time.Unix(1, 0)) })
	return func() {
		if !stop() {
			return // the stream is of no use any more
		}
		s.deadline(time.Time{})
	}
}

// deadline sets the deadline of reading, unless the stream is closing, which has
// one of its own.
func (s *Stream) deadline(t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closing {
		_ = s.wire.SetReadDeadline(t)
	}
}

// begin takes the reader's part.
func (s *Stream) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return false
	}
	s.reading = true
	return true
}

// finish gives the reader's part back, and ends a stream that was closed
// meanwhile.
func (s *Stream) finish() {
	s.mu.Lock()
	s.reading = false
	closing := s.closing
	s.mu.Unlock()
	if closing {
		s.wire.finish()
	}
}

func (s *Stream) isClosing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closing
}

// farewell is how long a server has to end its stream.
const farewell = time.Second

// Close ends the stream, and does not wait: cleanly with an end tag behind what
// was written, to which the server has a second to answer; else by its socket
// alone, behind what was written, so that the server keeps the session for
// <resume/>. Run returns soon after, and hands over nothing more, except for a
// call under way.
func (s *Stream) Close(clean bool) {
	s.mu.Lock()
	again, reading := s.closing, s.reading
	s.closing = true
	if !s.over {
		s.over = true
		s.d.left()
	}
	switch {
	case !clean:
		_ = s.wire.SetReadDeadline(time.Unix(1, 0))
	case !again:
		_ = s.wire.SetReadDeadline(time.Now().Add(farewell))
	}
	s.mu.Unlock()
	switch {
	case !clean:
		s.wire.finish()
	case again:
	case s.goodbye() != nil:
		s.wire.finish()
	case !reading:
		go s.drain()
	}
}

// goodbye writes the end tag.
func (s *Stream) goodbye() error {
	if s.web {
		return s.frame(opText, []byte(stanza.FrameEnd))
	}
	_, err := s.conn.Write([]byte(stanza.StreamEnd))
	return err
}

// drain waits for the server's end, which says that it read all of ours.
func (s *Stream) drain() {
	for {
		if kind, _, err := s.next(); err != nil || kind == stanza.End {
			s.wire.finish()
			return
		}
	}
}
