package transport

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"

	"sallyport/edge/wsframe"
)

// goodbyeTime is how long a close frame may take to leave, and how long the
// client's answer to it is waited for.
const goodbyeTime = 5 * time.Second

// framed is a WebSocket as webSocket is, with frames of our own: the library
// waits inside a frame and so cannot be parked.
type framed struct {
	// Static after upgrade; recv is set by Start.
	t    *Transport
	conn net.Conn
	recv Receiver
	text bool // XMPP: no message is binary, and none a keep-alive

	// closing lets one Close act.
	closing sync.Once

	// writing lets one frame out at a time.
	writing sync.Mutex
	closed  bool // a close frame has left; nothing follows it
	open    bool // a message has begun and not ended

	// Guarded by mu.
	mu      sync.Mutex
	leaving bool          // Close has set the clock: what comes is not heard any more
	done    bool          // nothing is read any more
	pong    chan struct{} // somebody waits for one

	// Owned by read.
	rest []byte          // came behind the upgrade
	cut  *wsframe.Cutter // nil between messages
	patience
}

// Start has the connection read.
func (f *framed) Start(r Receiver) {
	f.recv = r
	f.t.begin(f.conn, f)
}

// over ends a connection that waited for the answer to its goodbye.
func (f *framed) over(err error) {
	f.mu.Lock()
	leaving := f.leaving
	f.done = true
	f.mu.Unlock()
	if leaving {
		_ = f.conn.Close()
	}
	f.recv.Ended(err)
}

func (f *framed) read(bool) error {
	buf := f.t.buffers.Get().(*[]byte)
	defer f.t.buffers.Put(buf)
	if f.cut == nil {
		f.cut = f.t.cutters.Get().(*wsframe.Cutter)
		f.cut.Limit(f.t.longest(f.text))
	}
	f.clock(func() { f.greet(&f.t.cfg, f.conn) })
	for {
		n, err := f.fill(*buf)
		f.cut.Feed((*buf)[:n])
		whole, derr := f.deliver()
		switch {
		case derr != nil:
			return f.refuse(derr)
		case err != nil && !errors.Is(err, errIdle):
			return f.ended(err)
		}
		between := f.cut.Idle()
		f.clock(func() { f.turn(&f.t.cfg, f.conn, whole, between) })
		if err != nil {
			if between {
				f.t.cutters.Put(f.cut)
				f.cut = nil
			}
			return err
		}
	}
}

// clock sets the read deadline, unless Close has set the last.
func (f *framed) clock(set func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.leaving {
		set()
	}
}

// fill reads what is next, beginning with what came behind the upgrade.
func (f *framed) fill(buf []byte) (int, error) {
	if len(f.rest) == 0 {
		return f.conn.Read(buf)
	}
	n := copy(buf, f.rest)
	if f.rest = f.rest[n:]; len(f.rest) == 0 {
		f.rest = nil
	}
	return n, nil
}

// deliver hands over what is whole and reports whether a message was.
func (f *framed) deliver() (whole bool, err error) {
	for {
		p, kind, err := f.cut.Next()
		switch kind {
		case wsframe.NeedMore:
			return whole, err
		case wsframe.Text, wsframe.Binary:
			whole, err = true, f.message(kind, p)
		case wsframe.Ping:
			f.recv.Alive()
			err = f.write(wsframe.Pong, p)
		case wsframe.Pong:
			f.ponged()
		case wsframe.Close:
			err = f.goodbye(p)
		}
		if err != nil {
			return whole, err
		}
	}
}

func (f *framed) message(kind wsframe.Kind, p []byte) error {
	f.mu.Lock()
	leaving := f.leaving
	f.mu.Unlock()
	switch {
	case leaving:
		return nil
	case f.text && kind == wsframe.Binary:
		return errBinary
	}
	return hand(f.recv, p, f.text)
}

func (f *framed) ponged() {
	f.recv.Alive()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.pong != nil {
		close(f.pong)
		f.pong = nil
	}
}

// goodbye answers a close frame, which is the end (RFC 6455 §5.5.1).
func (f *framed) goodbye(p []byte) error {
	status, text, err := wsframe.ParseClose(p)
	if err != nil {
		return err
	}
	f.say(p)
	return websocket.CloseError{Code: websocket.StatusCode(status), Reason: text}
}

// refuse tells a client whose frames cannot be read why it is sent away.
func (f *framed) refuse(err error) error {
	switch {
	case errors.Is(err, wsframe.ErrTooBig):
		f.say(wsframe.ClosePayload(int(websocket.StatusMessageTooBig), err.Error()))
	case errors.Is(err, wsframe.ErrText):
		f.say(wsframe.ClosePayload(int(websocket.StatusInvalidFramePayloadData), err.Error()))
	case errors.Is(err, errBinary):
		f.say(wsframe.ClosePayload(int(websocket.StatusUnsupportedData), err.Error()))
	case errors.Is(err, wsframe.ErrProtocol):
		f.say(wsframe.ClosePayload(int(websocket.StatusProtocolError), err.Error()))
	}
	return err
}

// ended gives the error of a read its reason.
func (f *framed) ended(err error) error {
	err = tooSlow(err, f.spoke())
	if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
		return &Error{ClientReset, err} // no goodbye: 1006 in RFC 6455 §7.4.1
	}
	return err
}

// Write sends a text message, or in SIP a binary one where p is not UTF-8 and
// so must not be text (RFC 6455 §5.6).
func (f *framed) Write(p []byte) error {
	f.writing.Lock()
	defer f.writing.Unlock()
	kind := wsframe.Text
	if !f.open && !utf8.Valid(p) {
		if f.text {
			return errNoText
		}
		kind = wsframe.Binary
	}
	first := !f.open
	f.open = false
	return f.put(kind, first, true, p)
}

// WritePart sends a fragment (RFC 6455 §5.4).
func (f *framed) WritePart(p []byte) error {
	f.writing.Lock()
	defer f.writing.Unlock()
	first := !f.open
	f.open = true
	return f.put(wsframe.Text, first, false, p)
}

// write sends one whole frame, most likely a control frame.
func (f *framed) write(k wsframe.Kind, p []byte) error {
	f.writing.Lock()
	defer f.writing.Unlock()
	return f.put(k, true, true, p)
}

// put writes one frame. f.writing is held.
func (f *framed) put(k wsframe.Kind, first, last bool, p []byte) error {
	buf := f.t.buffers.Get().(*[]byte)
	defer f.t.buffers.Put(buf)
	b := wsframe.AppendFragment((*buf)[:0], k, first, last, p)
	switch {
	case f.closed && k == wsframe.Pong:
		return nil // its ping crossed our goodbye; the client's is still to come
	case f.closed:
		return net.ErrClosed
	}
	f.closed = k == wsframe.Close
	_, err := f.conn.Write(b)
	return slow(err)
}

// say sends a close frame, in a time in which the client will take it or never
// will; that of a write that is under way ends with it.
func (f *framed) say(payload []byte) bool {
	_ = f.conn.SetWriteDeadline(time.Now().Add(goodbyeTime))
	return f.write(wsframe.Close, payload) == nil
}

// Pong answers a keep-alive that came as a message, with CRLF.
func (f *framed) Pong() error { return f.Write(crlf) }

// Ping sends a ping frame and waits for a pong.
func (f *framed) Ping(ctx context.Context) error {
	f.mu.Lock()
	if f.pong == nil {
		f.pong = make(chan struct{})
	}
	pong := f.pong
	f.mu.Unlock()
	if err := f.write(wsframe.Ping, nil); err != nil {
		return err
	}
	select {
	case <-pong:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Go has t done.
func (f *framed) Go(t Task) { start(f.conn, t) }

// Close sends a close frame and returns: the connection ends when the client
// has answered, or in 5 s. Where there is no hope it ends at once.
func (f *framed) Close(r Reason) {
	f.closing.Do(func() {
		if r.hopeless() {
			_ = bottom(f.conn).Close()
			return
		}
		said := f.say(wsframe.ClosePayload(int(r.status()), r.String()))
		f.mu.Lock()
		waits := said && !f.done
		if waits {
			f.leaving = true
			_ = f.conn.SetReadDeadline(time.Now().Add(goodbyeTime))
		}
		f.mu.Unlock()
		if !waits {
			_ = f.conn.Close()
		}
	})
}
