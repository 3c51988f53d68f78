// Package sipstream cuts a byte stream into SIP messages (RFC 3261 §18.3) and
// keep-alives (RFC 5626 §3.5.1). It knows where a message ends, by the empty
// line and Content-Length, and no other header; whether what it cut is good
// SIP is for others to judge.
package sipstream

import (
	"bytes"
	"errors"
	"fmt"
)

// What cannot be framed. After any of these the place of the next message is
// unknown, so the connection has to end; later calls of Next return the same
// error again.
var (
	// ErrHeaderTooLong: no end of the header block within Limits.MaxHeader.
	ErrHeaderTooLong = errors.New("sip header block too long")
	// ErrMessageTooLong: header block and body together exceed Limits.MaxMessage.
	ErrMessageTooLong = errors.New("sip message too long")
	// ErrLength: a Content-Length that is no number, or more than one of them.
	ErrLength = errors.New("bad sip content-length")
	// ErrSyntax: a bare CR or LF or a NUL in the header block, or a first line
	// that is neither a request line nor a status line.
	ErrSyntax = errors.New("not sip")
)

// Defaults for limits left at zero.
const (
	DefaultMaxHeader  = 16 << 10
	DefaultMaxMessage = 64 << 10
)

// Limits bound what a Cutter holds, in bytes. Zero means the default.
type Limits struct {
	// MaxHeader is the longest header block, first line and empty line included.
	MaxHeader int
	// MaxMessage is the longest message, header block and body together.
	MaxMessage int
}

// Kind says what Next found.
type Kind uint8

const (
	// NeedMore: nothing whole is there; read and Feed.
	NeedMore Kind = iota
	// Message: one whole SIP message.
	Message
	// Ping: CRLFCRLF between messages, to be answered with CRLF.
	Ping
	// Pong: a lone CRLF between messages. A Ping whose halves arrive apart is
	// told as a Pong and then a Ping.
	Pong
)

// String names the kind.
func (k Kind) String() string {
	switch k {
	case NeedMore:
		return "need-more"
	case Message:
		return "message"
	case Ping:
		return "ping"
	case Pong:
		return "pong"
	default:
		return fmt.Sprintf("kind(%d)", uint8(k))
	}
}

// Cutter is the framing state of one stream. It belongs to one goroutine. It
// looks at each byte of a header block twice at most, however it was split,
// and between messages it holds no buffer.
type Cutter struct {
	limits Limits
	buf    []byte // what was fed and not yet returned
	lent   bool   // buf is the caller's
	from   int    // start of what is not yet returned
	line   int    // start of the line being looked at, counted from from
	seek   int    // where to go on looking for its end, counted from from
	total  int    // length of the message once its header block is whole, else 0
	half   bool   // the last thing returned was a lone CRLF
	err    error
}

// New returns a Cutter at the start of a stream.
func New(l Limits) *Cutter {
	if l.MaxHeader <= 0 {
		l.MaxHeader = DefaultMaxHeader
	}
	if l.MaxMessage <= 0 {
		l.MaxMessage = DefaultMaxMessage
	}
	return &Cutter{limits: l}
}

// Feed appends p, which it may keep until Next says NeedMore: what is whole is
// returned where it lies, and only the rest is copied. Call Next until it says
// so before feeding again: the limits are checked there.
func (c *Cutter) Feed(p []byte) {
	if c.Buffered() == 0 {
		c.buf, c.from, c.lent = p, 0, true
		return
	}
	c.keep()
	if c.from > 0 {
		// What Next returned is given up now; the rest moves to the front.
		c.buf = c.buf[:copy(c.buf, c.buf[c.from:])]
		c.from = 0
	}
	c.buf = append(c.buf, p...)
}

// Buffered is the number of bytes held that Next has not returned.
func (c *Cutter) Buffered() int { return len(c.buf) - c.from }

// Next returns what comes first: a message, a keep-alive, or NeedMore. The
// message is valid until the next Feed and as long as what was fed last is not
// written to. An error is final.
func (c *Cutter) Next() ([]byte, Kind, error) {
	if c.err != nil {
		return nil, NeedMore, c.err
	}
	if c.line == 0 && c.total == 0 {
		if k := c.keepAlive(); k != NeedMore {
			return nil, k, nil
		}
	}
	if c.total == 0 {
		if err := c.header(); err != nil {
			c.err, c.buf, c.from = err, nil, 0
			return nil, NeedMore, err
		}
	}
	if c.total == 0 || c.Buffered() < c.total {
		c.keep()
		return nil, NeedMore, nil
	}
	msg := c.buf[c.from : c.from+c.total : c.from+c.total]
	c.from += c.total
	c.line, c.seek, c.total, c.half = 0, 0, 0, false
	return msg, Message, nil
}

// keep holds on to what was not returned, in a buffer of its own.
func (c *Cutter) keep() {
	switch {
	case c.Buffered() == 0:
		c.buf, c.from, c.lent = nil, 0, false
	case c.lent:
		c.buf, c.from, c.lent = append([]byte(nil), c.buf[c.from:]...), 0, false
	}
}

// keepAlive takes CRLFs off the front, where only whole messages came before.
func (c *Cutter) keepAlive() Kind {
	b := c.buf[c.from:]
	switch {
	case !c.half && bytes.HasPrefix(b, []byte("\r\n\r\n")):
		c.from, c.seek = c.from+4, 0
		return Ping
	case bytes.HasPrefix(b, []byte("\r\n")):
		c.from, c.seek = c.from+2, 0
		c.half = !c.half
		if c.half {
			return Pong
		}
		return Ping
	default:
		return NeedMore
	}
}

// header looks at the lines that have come since it last looked, and sets
// total when the empty one is among them.
func (c *Cutter) header() error {
	b := c.buf[c.from:]
	for {
		n := bytes.IndexByte(b[c.seek:], '\n')
		if n < 0 {
			c.seek = len(b)
			return c.partial(b)
		}
		end := c.seek + n + 1
		if end > c.limits.MaxHeader {
			return fmt.Errorf("%w: over %d bytes", ErrHeaderTooLong, c.limits.MaxHeader)
		}
		line, err := trimLine(b[c.line:end])
		if err != nil {
			return err
		}
		if c.line == 0 {
			if err := checkFirst(line); err != nil {
				return err
			}
		}
		c.line, c.seek = end, end
		if len(line) == 0 {
			return c.whole(b[:end])
		}
	}
}

// partial judges a header block whose end has not come: too long is told
// early, and so is a stream that is plainly something else.
func (c *Cutter) partial(b []byte) error {
	if len(b) > c.limits.MaxHeader {
		return fmt.Errorf("%w: over %d bytes", ErrHeaderTooLong, c.limits.MaxHeader)
	}
	// A lone CR may become a keep-alive; those with their LF are gone by now.
	if c.line == 0 && len(b) > 0 && !tokenChar(b[0]) && string(b) != "\r" {
		return fmt.Errorf("%w: byte 0x%02x starts no message", ErrSyntax, b[0])
	}
	return nil
}

// whole reads the length of the body off a complete header block.
func (c *Cutter) whole(block []byte) error {
	body, err := contentLength(block)
	if err != nil {
		return err
	}
	if body > c.limits.MaxMessage || len(block)+body > c.limits.MaxMessage {
		return fmt.Errorf("%w: over %d bytes", ErrMessageTooLong, c.limits.MaxMessage)
	}
	c.total = len(block) + body
	return nil
}
