package transport

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"

	"sallyport/edge/wsframe"
)

var (
	crlf   = []byte("\r\n")
	crlfx2 = []byte("\r\n\r\n")
)

var (
	// errBinary: XMPP is text (RFC 7395 §3.2).
	errBinary error = &Error{Protocol, errors.New("binary message: the subprotocol xmpp is text")}
	// errNoText: what came from inside is not UTF-8.
	errNoText error = &Error{Protocol, errors.New("message for the client is no text")}
)

// webSocket is SIP or XMPP over WebSocket: one message each way per WebSocket
// message, in SIP text or binary (RFC 7118 §5), in XMPP text (RFC 7395 §3.2).
type webSocket struct {
	// Static after upgrade; recv is set by Start, before anything is read.
	t    *Transport
	raw  net.Conn // below ws, for deadlines
	ws   *websocket.Conn
	recv Receiver
	text bool // as in framed

	// closing lets one Close act.
	closing sync.Once

	// Owned by read.
	spoke bool

	// Owned by who writes.
	part io.WriteCloser // of a message that has begun; nil: none has
}

// Start has the connection read, by a goroutine of its own: the library waits.
func (w *webSocket) Start(r Receiver) {
	w.recv = r
	go func() { r.Ended(w.read()) }()
}

func (w *webSocket) read() error {
	_ = w.raw.SetReadDeadline(time.Now().Add(w.t.cfg.FirstMessage))
	for {
		typ, from, err := w.ws.Reader(context.Background())
		if err != nil {
			return w.ended(err, w.spoke)
		}
		if w.spoke {
			_ = w.raw.SetReadDeadline(time.Now().Add(w.t.cfg.WholeMessage))
		}
		if err := w.message(typ, from); err != nil {
			return err
		}
		w.spoke = true
	}
}

// message reads one message, from as many fragments as it came in, and hands
// it over. The buffer is the pool's again before the next wait.
func (w *webSocket) message(typ websocket.MessageType, from io.Reader) error {
	pooled := w.t.buffers.Get().(*[]byte)
	defer w.t.buffers.Put(pooled)
	p, err := readAll(from, (*pooled)[:0])
	if err != nil {
		return w.ended(err, true)
	}
	_ = w.raw.SetReadDeadline(time.Time{})
	switch {
	case typ == websocket.MessageText && !utf8.Valid(p): // which the library leaves to us
		w.closing.Do(func() { _ = w.ws.Close(websocket.StatusInvalidFramePayloadData, wsframe.ErrText.Error()) })
		return wsframe.ErrText
	case w.text && typ == websocket.MessageBinary:
		w.closing.Do(func() { _ = w.ws.Close(websocket.StatusUnsupportedData, errBinary.Error()) })
		return errBinary
	}
	return hand(w.recv, p, w.text)
}

// hand gives r one message of a WebSocket: what is empty, or in SIP nothing but
// CRLF, is a sign of life.
func hand(r Receiver, p []byte, xmpp bool) error {
	switch {
	case len(p) == 0:
		r.Alive()
	case !xmpp && (bytes.Equal(p, crlf) || bytes.Equal(p, crlfx2)):
		r.KeepAlive()
	default:
		return r.Message(p)
	}
	return nil
}

// ended gives the error of a read its reason. What is neither the client's
// goodbye nor the network's doing is a frame that must not be.
func (w *webSocket) ended(err error, began bool) error {
	var network net.Error
	var goodbye websocket.CloseError
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return tooSlow(err, began)
	case errors.As(err, &goodbye):
		return err
	case errors.As(err, &network), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
		errors.Is(err, io.ErrClosedPipe), errors.Is(err, net.ErrClosed):
		return &Error{ClientReset, err} // no goodbye: 1006 in RFC 6455 §7.4.1
	default:
		return &Error{Protocol, err}
	}
}

// readAll appends all of from to p, which is empty. The connection's read
// limit bounds it.
func readAll(from io.Reader, p []byte) ([]byte, error) {
	for {
		if len(p) == cap(p) {
			p = append(make([]byte, 0, 4*cap(p)), p...)
		}
		n, err := from.Read(p[len(p):cap(p)])
		p = p[:len(p)+n]
		switch {
		case errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF):
			return p, nil
		case err != nil:
			return nil, err
		}
	}
}

// pinged and ponged hear of control frames; the library answers them.
func (w *webSocket) pinged(context.Context, []byte) bool { w.recv.Alive(); return true }
func (w *webSocket) ponged(context.Context, []byte)      { w.recv.Alive() }

// Write sends a text message, or in SIP a binary one where p is not UTF-8 and
// so must not be text (RFC 6455 §5.6).
func (w *webSocket) Write(p []byte) error {
	if w.part != nil {
		_, err := w.part.Write(p)
		if err == nil {
			err = w.part.Close()
		}
		w.part = nil
		return slow(err)
	}
	typ := websocket.MessageText
	if !utf8.Valid(p) {
		if w.text {
			return errNoText
		}
		typ = websocket.MessageBinary
	}
	return slow(w.ws.Write(context.Background(), typ, p))
}

// WritePart sends a fragment (RFC 6455 §5.4).
func (w *webSocket) WritePart(p []byte) error {
	if w.part == nil {
		part, err := w.ws.Writer(context.Background(), websocket.MessageText)
		if err != nil {
			return slow(err)
		}
		w.part = part
	}
	_, err := w.part.Write(p)
	return slow(err)
}

// Pong answers a keep-alive that came as a message, with CRLF.
func (w *webSocket) Pong() error { return w.Write(crlf) }

// Ping sends a ping frame and waits for the pong.
func (w *webSocket) Ping(ctx context.Context) error { return w.ws.Ping(ctx) }

// Go has t done.
func (w *webSocket) Go(t Task) { go t.Run() }

// Close sends a close frame and waits for the answer, 5 s each; where there is
// no hope it just closes.
func (w *webSocket) Close(r Reason) {
	w.closing.Do(func() {
		if !r.hopeless() {
			_ = w.ws.Close(r.status(), r.String())
			return
		}
		// Nothing must wait behind a write that makes no progress, the goodbye
		// of TLS included.
		_ = bottom(w.raw).Close()
		_ = w.ws.CloseNow()
	})
}
