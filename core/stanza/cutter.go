package stanza

import (
	"bytes"
	"sync"
)

// Cutter is the state of one stream. It belongs to one goroutine. However the
// stream was split, it looks at each byte a fixed number of times, and between
// elements it holds no buffer: after [NeedMore] with nothing begun it has
// some 330 bytes, with what the header declared.
type Cutter struct {
	limits Limits
	err    error // after which there is nothing more
	framed bool  // each Feed is one element

	buf  []byte // what was fed and not yet returned
	lent bool   // buf is the caller's
	from int    // start of the element that is being read; all offsets count from here

	open  bool   // the stream's header was read
	name  []byte // of the stream element, with its prefix
	base  []ns   // what the header declared
	pos   int    // next byte to look at
	in    place  // where pos is
	scan  int    // in a tag: next byte to look at for its end
	quote byte   // in a tag: the quote that is open, 0 none
	space int    // blanks between elements, which end with this element

	*work // nil between elements
}

// work is what a Cutter needs while there is an element.
type work struct {
	scope []decl  // what open elements declared, outermost first
	stack []span  // names of open elements
	attrs []tagAt // of the tag being read
	seen  element // what is known of the element being read
	out   Element
	inner *Cutter // for Element.Inside
}

// works are shared by all streams, which are idle nearly always.
var works = sync.Pool{New: func() any { return new(work) }}

// span is a piece of the element that is being read.
type span struct{ lo, hi int }

// ns is a declared namespace with bytes of its own.
type ns struct{ prefix, uri []byte }

// decl is a namespace declared by an open element.
type decl struct {
	prefix, uri span
	depth       int
}

// tagAt is an attribute of a tag.
type tagAt struct{ prefix, local, value span }

// element is the element being read, by offsets.
type element struct {
	local    span
	space    uri
	attrs    []tagAt
	children []child
	unseen   int  // children beyond those
	used     used // of what the header declared
	kind     Kind // once it is closed
	closed   bool
}

// used marks entries of Cutter.base. A header declares at most 64; around a
// child there may be more, and those behind the first 64 count as used.
type used uint64

func (u *used) add(i int)     { *u |= 1 << min(i, 64) }
func (u used) has(i int) bool { return i >= 64 || u&(1<<i) != 0 }

type child struct {
	local, raw span
	space      uri
}

// uri is a namespace: a piece of the element, or, when the element did not
// declare it, known.
type uri struct {
	at    span
	known []byte
}

type place uint8

const (
	inText place = iota
	inTag
	inCDATA
)

// New makes a Cutter for a stream whose header is still to come.
func New(l Limits) *Cutter { return &Cutter{limits: l.withDefaults()} }

// NewFrames makes a Cutter for the messages of a WebSocket: each Feed is one
// element and nothing else (RFC 7395 §3.3). One that declares no default
// namespace is read as if on a stream.
func NewFrames(l Limits) *Cutter {
	return &Cutter{limits: l.withDefaults(), framed: true, open: true, base: streamBase}
}

// streamBase is what the header of each stream of ours declares.
var streamBase = []ns{{nil, []byte(NSClient)}, {[]byte("stream"), []byte(NSStreams)}}

// Restart expects another header next, as after authentication (RFC 6120
// §6.3.2).
func (c *Cutter) Restart() {
	c.consume()
	if !c.framed {
		c.open, c.base = false, nil
	}
}

// Feed gives the bytes that were read. The Cutter uses p itself until Next
// returned NeedMore.
func (c *Cutter) Feed(p []byte) {
	c.consume()
	if c.framed && (c.from != len(c.buf) || len(p) == 0) && c.err == nil {
		c.err = ErrSyntax
	}
	if c.from == len(c.buf) {
		c.buf, c.from, c.lent = p, 0, true
		return
	}
	c.own()
	c.buf = append(c.buf, p...)
}

// own takes what is left of a lent buffer into one of the Cutter's.
func (c *Cutter) own() {
	if c.lent {
		c.buf, c.lent = append([]byte(nil), c.buf[c.from:]...), false
		c.from = 0
	}
}

// Parse reads a text that is one element and nothing else.
func Parse(text []byte, l Limits) (*Element, error) {
	c := &Cutter{limits: l.withDefaults(), framed: true, open: true, work: new(work)}
	c.Feed(text)
	_, e, err := c.Next()
	return e, err
}

// Next returns what comes next in the stream. Blanks between elements
// (keep-alives, RFC 6120 §4.6.1) are passed over.
func (c *Cutter) Next() (Kind, *Element, error) {
	if c.err != nil {
		return NeedMore, nil, c.err
	}
	if c.work == nil {
		if c.from == len(c.buf) {
			return NeedMore, nil, nil
		}
		c.work = works.Get().(*work)
	}
	kind, err := c.next()
	switch {
	case err != nil:
		c.err = err
		c.buf, c.from = nil, 0
		c.rest()
		return NeedMore, nil, err
	case kind == NeedMore:
		c.keep()
		return NeedMore, nil, nil
	default:
		return kind, &c.out, nil
	}
}

// rest gives back what is not needed between elements.
func (c *Cutter) rest() {
	c.reset()
	clear(c.out.Attrs)
	clear(c.out.Children)
	c.out = Element{Attrs: c.out.Attrs[:0], Children: c.out.Children[:0]}
	if c.inner != nil {
		c.inner.buf = nil
	}
	works.Put(c.work)
	c.work = nil
}

// keep holds on to what is unfinished, and to nothing else.
func (c *Cutter) keep() {
	switch {
	case c.from == len(c.buf):
		c.buf, c.from, c.lent = nil, 0, false
		c.rest()
	case c.lent:
		c.own()
	case c.from > 0:
		c.buf = append(c.buf[:0], c.buf[c.from:]...)
		c.from = 0
	}
}

// reset forgets the element that was returned.
func (c *Cutter) reset() {
	c.scope, c.stack, c.attrs = c.scope[:0], c.stack[:0], c.attrs[:0]
	c.pos, c.in, c.quote = 0, inText, 0
	c.seen = element{attrs: c.seen.attrs[:0], children: c.seen.children[:0]}
}

// consume passes over the element that was returned last.
func (c *Cutter) consume() {
	if c.work != nil && c.seen.closed {
		c.from += c.pos
		c.space = 0
		c.reset()
	}
}

// Unfinished reports, after [NeedMore], whether something has begun whose end is
// still to come.
func (c *Cutter) Unfinished() bool { return c.from < len(c.buf) }

func (c *Cutter) next() (Kind, error) {
	c.consume()
	kind, err := c.read()
	if c.framed && err == nil && !c.alone(kind) {
		return NeedMore, ErrSyntax
	}
	return kind, err
}

// alone reports whether what was fed is one element, or was.
func (c *Cutter) alone(kind Kind) bool {
	switch kind {
	case Whole:
		return c.from+c.pos == len(c.buf) && c.space == 0
	case NeedMore:
		return c.from == len(c.buf) && c.space == 0
	default:
		return false
	}
}

func (c *Cutter) read() (Kind, error) {
	for {
		rest := c.buf[c.from:]
		if len(c.stack) == 0 && c.in == inText {
			n := blanks(rest)
			c.space += n
			c.from += n
			rest = rest[n:]
		}
		if c.pos > c.limits.MaxElement {
			return NeedMore, ErrTooLong
		}
		done, err := steps[c.in](c, rest)
		switch {
		case err != nil:
			return NeedMore, err
		case c.seen.closed:
			if c.pos > c.limits.MaxElement {
				return NeedMore, ErrTooLong
			}
			return c.finish(rest), nil
		case !done:
			if len(rest) > c.limits.MaxElement {
				return NeedMore, ErrTooLong
			}
			return NeedMore, nil
		}
	}
}

// steps read on, each in its place, and report whether they came to the end of
// that.
var steps = [...]func(c *Cutter, b []byte) (bool, error){
	inText:  (*Cutter).text,
	inTag:   (*Cutter).tag,
	inCDATA: (*Cutter).cdata,
}

func blanks(b []byte) int {
	for i, x := range b {
		if !isBlank(x) {
			return i
		}
	}
	return len(b)
}

func isBlank(b byte) bool { return b == ' ' || b == '\n' || b == '\r' || b == '\t' }

// text reads up to the next '<'.
func (c *Cutter) text(b []byte) (bool, error) {
	if c.pos >= len(b) {
		return false, nil
	}
	n := bytes.IndexByte(b[c.pos:], '<')
	if len(c.stack) == 0 && n != 0 {
		return false, ErrSyntax // text between elements
	}
	if n < 0 {
		// What ends in the middle of a reference or a rune is looked at again,
		// from there.
		whole := c.pos + settled(b[c.pos:])
		if err := checkText(b[c.pos:whole]); err != nil {
			return false, err
		}
		c.pos = whole
		return false, nil
	}
	if err := checkText(b[c.pos : c.pos+n]); err != nil {
		return false, err
	}
	c.pos += n
	rest := b[c.pos:]
	switch {
	case len(rest) < 2:
		return false, nil
	case rest[1] == '!':
		return c.bang(rest)
	case rest[1] == '?':
		return c.declaration(rest)
	}
	c.in, c.quote, c.scan = inTag, 0, c.pos+1
	return true, nil
}

var cdataStart, cdataEnd = []byte("<![CDATA["), []byte("]]>")

// bang reads what begins with "<!", which may be CDATA within an element.
func (c *Cutter) bang(b []byte) (bool, error) {
	n := min(len(b), len(cdataStart))
	if len(c.stack) == 0 || !bytes.Equal(b[:n], cdataStart[:n]) {
		return false, ErrRestricted
	}
	if n < len(cdataStart) {
		return false, nil
	}
	c.in = inCDATA
	c.pos += n
	return true, nil
}

// cdata reads up to the end of a CDATA section.
func (c *Cutter) cdata(b []byte) (bool, error) {
	n := bytes.Index(b[c.pos:], cdataEnd)
	if n < 0 {
		whole := max(c.pos, c.pos+settled(b[c.pos:])-len(cdataEnd)+1)
		for whole > c.pos && whole < len(b) && b[whole]&0xC0 == 0x80 {
			whole-- // not in the middle of a rune
		}
		if err := checkChars(b[c.pos:whole]); err != nil {
			return false, err
		}
		c.pos = whole
		return false, nil
	}
	if err := checkChars(b[c.pos : c.pos+n]); err != nil {
		return false, err
	}
	c.pos += n + len(cdataEnd)
	c.in = inText
	return true, nil
}

// declaration passes over the XML declaration, which may come before the
// header and nowhere else.
func (c *Cutter) declaration(b []byte) (bool, error) {
	const start = "<?xml"
	n := min(len(b), len(start))
	if c.open || c.space > 0 || string(b[:n]) != start[:n] {
		return false, ErrRestricted
	}
	end := bytes.Index(b, []byte("?>"))
	if end < 0 {
		if len(b) > 256 {
			return false, ErrSyntax
		}
		return false, nil
	}
	if !isBlank(b[n]) || end > 256 {
		return false, ErrRestricted
	}
	c.from += end + 2
	c.space = 1 // there is no second one
	return true, nil
}
