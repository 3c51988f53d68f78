package tunnel

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"sallyport/tunnel/frame"
)

// Minor versions of the protocol this package speaks. The major version is
// agreed on by ALPN, before a byte arrives here.
const (
	minMinor = 0
	maxMinor = 0
)

// A link is a connection on which both ends have said HELLO.
type link struct {
	conn  net.Conn
	ear   *ear
	in    *bufio.Reader
	hello frame.Hello // the peer's
}

// refusal is a HELLO this end does not accept.
type refusal struct {
	code   frame.GoAwayCode
	reason string // for counting
	text   string
}

func (r *refusal) Error() string { return "tunnel: refused: " + r.text }

// newLink wraps conn, which is authenticated.
func newLink(conn net.Conn) link {
	e := &ear{conn: conn}
	return link{conn: conn, ear: e, in: bufio.NewReaderSize(e, frame.HeaderLen+frame.MaxPayload)}
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
func (l *link) hear(role frame.Role, name string) error {
	b, err := l.in.Peek(frame.HeaderLen)
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
	if b, err = l.in.Peek(frame.HeaderLen + h.Len); err != nil {
		return fmt.Errorf("no HELLO: %w", lost(err))
	}
	if h.Type == frame.TypeGoAway {
		return goneAway(b[frame.HeaderLen:])
	}
	if l.hello, err = frame.ParseHello(b[frame.HeaderLen:]); err != nil {
		return err
	}
	if _, err = l.in.Discard(frame.HeaderLen + h.Len); err != nil {
		return err
	}
	return l.check(role, name)
}

func (l *link) check(role frame.Role, name string) error {
	h := l.hello
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
func (l *link) say(h frame.Hello) error {
	b, err := frame.AppendHello(nil, h)
	if err == nil {
		_, err = l.conn.Write(b)
	}
	return err
}

// refuse tells the peer why err ends the link, if it is the peer's fault, and
// closes it. It returns a word for err to count it under.
func (l *link) refuse(err error) string {
	defer l.conn.Close()
	code, word := frame.GoAwayProtocol, "hello"
	if r := (*refusal)(nil); errors.As(err, &r) {
		code, word = r.code, r.reason
	} else if !errors.Is(err, frame.ErrSyntax) && !errors.Is(err, errProtocol) {
		return "lost"
	}
	_ = l.conn.SetWriteDeadline(time.Now().Add(byeWithin))
	_, _ = l.conn.Write(frame.AppendGoAway(nil, code, err.Error()))
	return word
}

// introduce is what this end says of itself.
func (t *tunables) introduce(role frame.Role, name string, boot uint64) frame.Hello {
	return frame.Hello{
		MinMinor: minMinor, MaxMinor: maxMinor,
		Role: role, Node: name, Boot: boot, Links: 1, Weight: 1,
		Window: uint32(t.window), MaxFrame: frame.MaxPayload, Build: t.build,
	}
}

// serves tells whether the peer takes flows of that service.
func (s *session) serves(service string) bool {
	return len(s.hello.Services) == 0 || slices.Contains(s.hello.Services, service)
}
