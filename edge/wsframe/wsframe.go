// Package wsframe is the framing of a WebSocket server (RFC 6455 §5), without
// extensions: it cuts what a client sends into messages and control frames, and
// makes the frames that go back. It does not know sockets, HTTP or what
// messages say, and it never waits: bytes are given to it as they come.
package wsframe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unicode/utf8"
)

// What ends a connection. After any of these later calls of Next return the
// same error again.
var (
	// ErrProtocol: what came breaks RFC 6455.
	ErrProtocol = errors.New("bad websocket frame")
	// ErrTooBig: a message is longer than the limit.
	ErrTooBig = errors.New("websocket message too long")
	// ErrText: a text is not UTF-8 (§8.1).
	ErrText = errors.New("websocket text that is not UTF-8")
)

// Kind says what Next found.
type Kind uint8

const (
	// NeedMore: nothing whole is there; read and Feed.
	NeedMore Kind = iota
	// Text: one whole message, of however many fragments.
	Text
	// Binary: the same.
	Binary
	// Ping: a control frame, between messages or within one.
	Ping
	// Pong: the same.
	Pong
	// Close: the same.
	Close
)

// String names the kind.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

var kindNames = [...]string{"need-more", "text", "binary", "ping", "pong", "close"}

// The first byte of a frame, and the second (RFC 6455 §5.2).
const (
	fin      = 0x80
	reserved = 0x70
	opcode   = 0x0f
	masked   = 0x80
	length   = 0x7f

	opContinuation = 0x0
	opControl      = 0x8 // and above

	// MaxControl is the longest payload of a control frame, in bytes.
	MaxControl = 125
	// longestHead is a first byte, nine of length and four of mask.
	longestHead = 14
)

// kindOf is the kind by opcode; opcodes of no kind must not be.
var kindOf = [opcode + 1]Kind{0x1: Text, 0x2: Binary, 0x8: Close, 0x9: Ping, 0xa: Pong}

// Cutter is the framing state of one client. It belongs to one goroutine.
// Between messages it holds nothing, so that it may be given to another client
// when Idle says so.
type Cutter struct {
	max int
	in  []byte // what was fed and not yet looked at; not ours
	err error

	head  [longestHead]byte
	heads int // bytes of a head that has not come whole

	frame   bool // a head has come, and not all of the payload
	opcode  byte
	fin     bool
	left    int // payload yet to come
	mask    [4]byte
	masking int // where in the mask the payload is

	message Kind   // under way; NeedMore: none
	payload []byte // of the message under way
	control []byte // of the control frame under way
}

// New returns a Cutter at the start of a connection. Messages may be max bytes
// long, and max is positive.
func New(max int) *Cutter { return &Cutter{max: max} }

// Limit changes how long messages may be, where the Cutter is idle.
func (c *Cutter) Limit(max int) { c.max = max }

// Idle reports whether nothing is under way: no frame and no message.
func (c *Cutter) Idle() bool {
	return c.heads == 0 && !c.frame && c.message == NeedMore && len(c.in) == 0 && c.err == nil
}

// Feed gives p to the Cutter, until Next says NeedMore: the masks in it are
// taken off in place. Call Next until it says so before feeding again.
func (c *Cutter) Feed(p []byte) { c.in = p }

// Next returns what comes first: a message or control frame with its payload,
// which is valid until the next call, or NeedMore. An error is final.
func (c *Cutter) Next() ([]byte, Kind, error) {
	for c.err == nil {
		if !c.frame && !c.begin() {
			break
		}
		switch p, kind := c.take(); {
		case kind == Text && !utf8.Valid(p):
			c.err = ErrText
		case kind != NeedMore:
			return p, kind, nil
		}
		if c.frame {
			break // its payload has not come whole
		}
	}
	return nil, NeedMore, c.err
}

// begin reads the head of a frame and reports whether it was whole and good.
func (c *Cutter) begin() bool {
	for {
		need := 2
		if c.heads >= need {
			need = headLength(c.head[1])
		}
		n := copy(c.head[c.heads:need], c.in)
		c.in = c.in[n:]
		c.heads += n
		switch {
		case c.heads < need:
			return false
		case need > 2:
			c.heads = 0
			return c.accept()
		case c.head[1]&masked == 0:
			c.err = fmt.Errorf("%w: not masked", ErrProtocol)
			return false
		}
	}
}

// headLength is the length of the head of a masked frame.
func headLength(second byte) int {
	switch second & length {
	case 126:
		return 2 + 2 + 4
	case 127:
		return 2 + 8 + 4
	default:
		return 2 + 4
	}
}

// accept judges a whole head.
func (c *Cutter) accept() bool {
	first, n, at := c.head[0], uint64(c.head[1]&length), 2
	switch n {
	case 126:
		n, at = uint64(binary.BigEndian.Uint16(c.head[2:])), 4
	case 127:
		n, at = binary.BigEndian.Uint64(c.head[2:]), 10
	}
	c.opcode, c.fin = first&opcode, first&fin != 0
	bad := ""
	switch {
	case first&reserved != 0:
		bad = "reserved bits"
	case c.opcode != opContinuation && kindOf[c.opcode] == NeedMore:
		bad = "unknown opcode"
	case c.opcode >= opControl && !c.fin:
		bad = "a fragmented control frame"
	case c.opcode >= opControl && n > MaxControl:
		bad = "a long control frame"
	case c.opcode == opContinuation && c.message == NeedMore:
		bad = "a continuation of nothing"
	case c.opcode != opContinuation && c.opcode < opControl && c.message != NeedMore:
		bad = "a message within a message"
	case n > 1<<63-1:
		bad = "a negative length"
	case c.opcode < opControl && n > uint64(c.max-len(c.payload)):
		c.err = fmt.Errorf("%w: over %d bytes", ErrTooBig, c.max)
		return false
	}
	if bad != "" {
		c.err = fmt.Errorf("%w: %s", ErrProtocol, bad)
		return false
	}
	copy(c.mask[:], c.head[at:])
	c.frame, c.left, c.masking = true, int(n), 0
	return true
}

// take unmasks what has come of the payload, and returns what is whole by it.
// A message that came in one piece is returned where it lies.
func (c *Cutter) take() ([]byte, Kind) {
	n := min(len(c.in), c.left)
	p := c.in[:n:n]
	c.in, c.left = c.in[n:], c.left-n
	c.masking = unmask(p, c.mask, c.masking)
	ends := c.left == 0
	c.frame = !ends
	if c.opcode >= opControl {
		return c.gather(&c.control, p, ends, kindOf[c.opcode])
	}
	if c.opcode != opContinuation {
		c.message = kindOf[c.opcode]
	}
	kind := c.message
	if ends = ends && c.fin; ends {
		c.message = NeedMore
	}
	return c.gather(&c.payload, p, ends, kind)
}

// gather adds p to what is under way, and returns all of it when it ends.
func (c *Cutter) gather(all *[]byte, p []byte, ends bool, kind Kind) ([]byte, Kind) {
	if !ends || len(*all) > 0 {
		*all = append(*all, p...)
		p = *all
	}
	if !ends {
		return nil, NeedMore
	}
	*all = nil
	return p, kind
}

// unmask takes the mask off p, from place at in the mask on, and returns the
// place where it is then.
func unmask(p []byte, mask [4]byte, at int) int {
	var key [8]byte
	for i := range key {
		key[i] = mask[(at+i)&3]
	}
	wide := binary.NativeEndian.Uint64(key[:])
	rest := p
	for len(rest) >= 8 {
		binary.NativeEndian.PutUint64(rest, binary.NativeEndian.Uint64(rest)^wide)
		rest = rest[8:]
	}
	for i := range rest {
		rest[i] ^= key[i]
	}
	return (at + len(p)) & 3
}
