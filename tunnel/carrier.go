package tunnel

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"sallyport/tunnel/frame"
)

// Minor versions of the protocol this package speaks. The major version is
// agreed on by ALPN, before a byte arrives here. Minor 1 brought several
// links, resume, narrow flows and notices.
const (
	minMinor = 0
	maxMinor = 1
)

// features are what this package offers. What the peer does not, is not used.
const features = frame.FeatureResume | frame.FeatureParts | frame.FeatureNarrow

// A carrier is one connection, on which both ends say HELLO, and which then
// carries a link until it breaks.
type carrier struct {
	// Static after attach.
	conn    net.Conn
	ear     *ear
	in      *bufio.Reader // owned by the reader
	hello   frame.Hello   // the peer's
	start   time.Time
	resumed bool          // it is not the link's first
	done    chan struct{} // closed when it is broken
	gone    chan struct{} // closed when its goroutines have stopped

	heard atomic.Int64 // when bytes last came, since start

	// Guarded by the link's mu.
	err     error // why it is broken
	bye     []byte
	leaving bool // it ends when all is written
}

// refusal is a HELLO this end does not accept.
type refusal struct {
	code   frame.GoAwayCode
	reason string // for counting
	text   string
}

func (r *refusal) Error() string { return "tunnel: refused: " + r.text }

// newCarrier wraps conn, which is authenticated, and tunes its socket.
func newCarrier(conn net.Conn) *carrier {
	tune(conn)
	e := &ear{conn: conn}
	return &carrier{
		conn: conn, ear: e, in: bufio.NewReaderSize(e, frame.HeaderLen+frame.MaxPayload), start: time.Now(),
		done: make(chan struct{}), gone: make(chan struct{}),
	}
}

// tune sets what serves a tunnel best on the socket under conn, if there is
// one. A kernel that knows an option not does without.
func tune(conn net.Conn) {
	for {
		under, ok := conn.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		conn = under.NetConn()
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetNoDelay(true)
		tuneTCP(tcp)
	}
}

// within runs f, in which conn is read and written, and lets it take no longer
// than d or ctx.
func within(ctx context.Context, conn net.Conn, d time.Duration, f func() error) error {
	if err := conn.SetDeadline(time.Now().Add(d)); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	err := f()
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err == nil {
		err = conn.SetDeadline(time.Time{})
	}
	return err
}

// hear reads the peer's HELLO and checks that it is a node of the role and
// name expected, and speaks our language.
func (c *carrier) hear(role frame.Role, name string) error {
	b, err := c.in.Peek(frame.HeaderLen)
	if err != nil {
		return fmt.Errorf("no HELLO: %w", lost(err))
	}
	h, err := frame.ParseHeader(b)
	if err != nil {
		return err
	}
	if h.Type != frame.TypeHello && h.Type != frame.TypeGoAway {
		return fmt.Errorf("%w: %v before HELLO", errProtocol, h.Type)
	}
	if b, err = c.in.Peek(frame.HeaderLen + h.Len); err != nil {
		return fmt.Errorf("no HELLO: %w", lost(err))
	}
	if h.Type == frame.TypeGoAway {
		return goneAway(b[frame.HeaderLen:])
	}
	if c.hello, err = frame.ParseHello(b[frame.HeaderLen:]); err != nil {
		return err
	}
	if _, err = c.in.Discard(frame.HeaderLen + h.Len); err != nil {
		return err
	}
	return c.check(role, name)
}

func (c *carrier) check(role frame.Role, name string) error {
	h := c.hello
	switch {
	case h.Role != role:
		return &refusal{frame.GoAwayIdentity, "role", fmt.Sprintf("the peer's role is %v, not %v", h.Role, role)}
	case h.Node != name:
		return &refusal{frame.GoAwayIdentity, "name",
			fmt.Sprintf("the peer calls itself %q, its certificate says %q", h.Node, name)}
	case h.MinMinor > maxMinor || h.MaxMinor < minMinor:
		return &refusal{frame.GoAwayVersion, "version",
			fmt.Sprintf("the peer speaks minor versions %d to %d, this end %d to %d",
				h.MinMinor, h.MaxMinor, minMinor, maxMinor)}
	}
	return nil
}

// say writes this end's HELLO.
func (c *carrier) say(h frame.Hello) error {
	b, err := frame.AppendHello(nil, h)
	if err == nil {
		_, err = c.conn.Write(b)
	}
	return err
}

// refuse tells the peer why err ends the carrier, if it is the peer's fault,
// and closes it. It returns a word for err to count it under.
func (c *carrier) refuse(err error) string {
	defer c.conn.Close()
	code, word := frame.GoAwayProtocol, "hello"
	if r := (*refusal)(nil); errors.As(err, &r) {
		code, word = r.code, r.reason
	} else if !errors.Is(err, frame.ErrSyntax) && !errors.Is(err, errProtocol) {
		return "lost"
	}
	_ = c.conn.SetWriteDeadline(time.Now().Add(byeWithin))
	_, _ = c.conn.Write(frame.AppendGoAway(nil, code, err.Error()))
	return word
}

// introduce is what this end says of itself.
func (t *tunables) introduce(role frame.Role, name string, boot uint64) frame.Hello {
	return frame.Hello{
		MinMinor: minMinor, MaxMinor: t.minor, Features: t.features,
		Role: role, Node: name, Boot: boot, Links: 1, Weight: 1,
		Window: uint32(t.window), MaxFrame: frame.MaxPayload, Build: t.build,
	}
}

// errTakenOver is why a carrier ended that another took over from.
var errTakenOver = errors.New("tunnel: a newer connection took the link over")

// breaks ends c because of err. A code other than 0 is told to the peer, if
// that takes no time to speak of. The mu of its link is held.
func (c *carrier) breaks(err error, code frame.GoAwayCode) {
	if c.err != nil {
		return
	}
	if c.leaving {
		err, code = errLeft, 0
	}
	c.err = err
	deadline := time.Now()
	if code != 0 {
		c.bye = frame.AppendGoAway(nil, code, err.Error())
		deadline = deadline.Add(byeWithin)
	}
	// The writer closes the connection; this makes it stop writing.
	_ = c.conn.SetWriteDeadline(deadline)
	close(c.done)
}

// byeWithin bounds how long an ending carrier may still write.
const byeWithin = time.Second
