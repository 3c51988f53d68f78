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
var handlers = [256]func(l *link, c *carrier, flow uint32, p []byte) error{
	frame.TypeOpen:   (*link).onOpen,
	frame.TypeData:   (*link).onData,
	frame.TypePart:   (*link).onPart,
	frame.TypeCredit: (*link).onCredit,
	frame.TypeClose:  (*link).onClose,
	frame.TypeEvent:  (*link).onEvent,
	frame.TypeAck:    (*link).onAck,
	frame.TypePing:   (*link).onPing,
	frame.TypePong:   (*link).onPong,
	frame.TypeDrain:  (*link).onDrain,
	frame.TypeGoAway: (*link).onGoAway,
	frame.TypeNotice: (*link).onNotice,
	frame.TypeNarrow: (*link).onNarrow,
	frame.TypeSpare:  (*link).onSpare,
}

// read handles frames until c breaks, and returns why it did. It ends the
// whole session if that is what the peer wants, or deserves.
func (l *link) read(c *carrier) error {
	l.calls.Lock()
	defer l.calls.Unlock()
	for {
		err := l.readFrame(c)
		var away *goAway
		switch {
		case err == nil:
			continue
		case errors.Is(err, frame.ErrSyntax), errors.Is(err, errProtocol):
			l.s.fail(err, frame.GoAwayProtocol)
		case errors.As(err, &away) && !away.spares():
			l.s.fail(err, 0)
		}
		return err
	}
}

func (l *link) readFrame(c *carrier) error {
	b, err := c.in.Peek(frame.HeaderLen)
	if err != nil {
		return lost(err)
	}
	h, err := frame.ParseHeader(b)
	if err != nil {
		return err
	}
	if b, err = c.in.Peek(frame.HeaderLen + h.Len); err != nil {
		return lost(err)
	}
	if handle := handlers[h.Type]; handle != nil {
		if err := handle(l, c, h.Flow, b[frame.HeaderLen:]); err != nil {
			return err
		}
	} else if !h.Type.Skippable() {
		return fmt.Errorf("%w: unexpected %v", errProtocol, h.Type)
	}
	if h.Type.Sequenced() {
		if rx := l.rx.Add(uint64(len(b))); rx-l.asked >= ackEvery {
			l.asked = rx
			l.askAck()
		}
	}
	_, err = c.in.Discard(len(b))
	return err
}

// lost names what the end of the connection means here.
func lost(err error) error {
	if errors.Is(err, io.EOF) {
		return errors.New("tunnel: the peer hung up")
	}
	return fmt.Errorf("tunnel: %w", err)
}

// ear reads the connection for a carrier. It notes that the peer was heard,
// and lets others call handlers while there is nothing to read.
type ear struct {
	conn net.Conn
	l    *link // nil during the handshake, and c too
	c    *carrier
}

func (e *ear) Read(p []byte) (int, error) {
	if e.l == nil {
		return e.conn.Read(p)
	}
	e.l.calls.Unlock()
	n, err := e.conn.Read(p)
	e.l.calls.Lock()
	if n > 0 {
		e.c.heard.Store(int64(time.Since(e.c.start)))
	}
	return n, err
}

// flow returns a live flow, or nil for one that has ended. A flow that never
// was is an error.
func (l *link) flow(id uint32) (*Flow, error) {
	l.index.Lock()
	f := l.flows[id]
	l.index.Unlock()
	if f == nil {
		return nil, l.never(id)
	}
	return f, nil
}

func (l *link) onOpen(_ *carrier, id uint32, p []byte) error {
	switch {
	case l.s.accept == nil:
		return fmt.Errorf("%w: OPEN, but only edges open flows", errProtocol)
	case id <= l.lastID:
		return fmt.Errorf("%w: OPEN of flow %d after %d", errProtocol, id, l.lastID)
	case id%uint32(len(l.s.links)) != l.number:
		return fmt.Errorf("%w: OPEN of flow %d on link %d of %d", errProtocol, id, l.number, len(l.s.links))
	}
	l.lastID = id
	info, err := frame.ParseOpen(p, l.names.share)
	if err != nil {
		return err
	}
	f := &Flow{info: info, id: id}
	if info.Narrow {
		f.state |= flowNarrow
	}
	f.link.Store(l)
	if refusal := l.admit(f); refusal != "" {
		return l.refuse(id, refusal)
	}
	l.s.metrics.flows.Inc()
	if f.h = l.s.accept(f); f.h == nil {
		f.Close(ClosePolicy, "not wanted here")
	}
	return nil
}

// admit takes f in, or says why not.
func (l *link) admit(f *Flow) string {
	l.s.mu.Lock()
	within := l.s.rate.take(time.Now())
	l.s.mu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.ended():
		return "leaving"
	case int(l.s.count.Load()) >= l.s.maxFlows:
		return "too many flows"
	case !within:
		return "too many new flows"
	case len(l.control)+len(l.data) > maxRefusals:
		return "too many ends unheard"
	}
	l.putIn(f)
	return ""
}

// maxRefusals bounds the CLOSEs, of flows refused or ended, that wait for an
// edge that opens flows and does not read the answers.
const maxRefusals = 4 << 20

func (l *link) refuse(id uint32, why string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.control) > maxRefusals {
		return fmt.Errorf("%w: opens flows, but reads no refusal", errProtocol)
	}
	l.s.metrics.closed(ClosePolicy)
	l.control = frame.AppendClose(l.control, id, ClosePolicy, why)
	l.work.Signal()
	return nil
}

func (l *link) onData(_ *carrier, id uint32, p []byte) error {
	f, err := l.receive(id, len(p))
	if f != nil {
		f.h.Message(f, p)
	}
	return err
}

// overdrawn is the error for DATA beyond what a flow was allowed.
func overdrawn(id uint32, n, used, window int) error {
	return fmt.Errorf("%w: DATA of %d bytes on flow %d, which owes %d of %d", errProtocol, n, id, used, window)
}

func (l *link) onCredit(_ *carrier, id uint32, p []byte) error {
	n := int64(binary.BigEndian.Uint32(p))
	f, err := l.flow(id)
	if f == nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if w := l.windowOf(f); n == 0 || int64(f.credit)+n > int64(w) {
		return fmt.Errorf("%w: CREDIT of %d bytes on flow %d, which has %d of %d",
			errProtocol, n, id, f.credit, w)
	}
	f.credit += int32(n)
	l.unblock(f)
	return nil
}

func (l *link) onEvent(_ *carrier, id uint32, p []byte) error {
	f, err := l.flow(id)
	if f != nil {
		f.h.Event(f, Event(p[0]))
	}
	return err
}

func (l *link) onClose(_ *carrier, id uint32, p []byte) error {
	f, err := l.flow(id)
	if f == nil {
		return err
	}
	code, text := frame.ParseClose(p)
	l.mu.Lock()
	gone := l.remove(f, code)
	l.mu.Unlock()
	if gone {
		f.h.Closed(f, code, text)
	}
	return nil
}

// onAck forgets what the peer has handled, and lets the writer go on if it
// waited for that.
func (l *link) onAck(_ *carrier, _ uint32, p []byte) error {
	if !l.s.resumes() {
		return fmt.Errorf("%w: ACK was not agreed on", errProtocol)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	before, full := l.ring.acked, l.ring.held() >= softRing
	if err := l.ring.ack(binary.BigEndian.Uint64(p)); err != nil {
		return err
	}
	if l.ring.acked > before {
		l.moving = time.Now()
	}
	if full {
		l.work.Signal()
	}
	return nil
}

func (l *link) onPing(_ *carrier, _ uint32, p []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pong = append(l.pong[:0], p...)
	l.work.Signal()
	return nil
}

func (l *link) onPong(c *carrier, _ uint32, p []byte) error {
	sent, now := int64(binary.BigEndian.Uint64(p)), int64(time.Since(c.start))
	if rtt := now - sent; sent >= 0 && rtt >= 0 {
		l.s.rtt.Store(rtt)
		l.s.metrics.rtt.Observe(time.Duration(rtt).Seconds())
	}
	return nil
}

func (l *link) onDrain(_ *carrier, _ uint32, p []byte) error {
	first := l.s.takeNoMore(time.Duration(binary.BigEndian.Uint32(p)) * time.Millisecond)
	l.mu.Lock()
	crowded := len(l.urgent) > maxPiece // by answers that the peer does not read
	l.mu.Unlock()
	if l.s.others != nil && !crowded && l.s.others(first) {
		l.urge(func(b []byte) []byte { return frame.Append(b, frame.TypeSpare, 0, []byte{1}) })
	}
	return nil
}

// onNotice keeps what the operator should know of an edge.
func (l *link) onNotice(_ *carrier, _ uint32, p []byte) error {
	notes, err := frame.ParseNotice(p)
	if err == nil {
		l.s.mu.Lock()
		l.s.notices = notes
		l.s.mu.Unlock()
	}
	return err
}

func (l *link) onGoAway(_ *carrier, _ uint32, p []byte) error {
	err := goneAway(p)
	if isLeaving(err) {
		l.s.takeNoMore(0)
	}
	return err
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

// spares tells whether other links of the session live on: a peer that leaves
// says so on each, and a carrier that stalled is not the session.
func (g *goAway) spares() bool { return g.code == frame.GoAwayDead || g.code == frame.GoAwayLeaving }

func goneAway(p []byte) error {
	code, text := frame.ParseGoAway(p)
	return &goAway{code, text}
}

// isLeaving tells whether err is the peer's farewell.
func isLeaving(err error) bool {
	var away *goAway
	return errors.As(err, &away) && away.code == frame.GoAwayLeaving
}
