package sipmsg

import (
	"bytes"
	"strings"

	"github.com/emiago/sipgo/sip"
)

// Bounds of one message. The transports bound its whole size.
const (
	maxHeaders     = 256
	maxHeaderBlock = 64 << 10
)

// Parse reads one whole message. Header names become canonical, folded lines
// are unfolded, and Via, Route, Record-Route, Contact, Path and Service-Route
// get one header per value. Nothing of raw is kept.
//
// A valid message comes without a fault. A request that is refused but can be
// answered comes with both: the answer's status is in the fault, and headers
// at fault are missing from the message. Anything else is a nil message and a
// fault; a response at fault is always dropped, and says so with Status 0. An
// ACK at fault is for the caller to drop: it has no answer.
// Bytes beyond Content-Length are ignored (RFC 3261 §18.3).
func Parse(raw []byte) (sip.Message, *Fault) {
	for len(raw) >= 2 && raw[0] == '\r' && raw[1] == '\n' {
		raw = raw[2:] // RFC 3261 §7.5
	}
	head, body, complete := cutHead(raw)
	if len(head) > maxHeaderBlock {
		f := fault(513, "", "header block too long")
		f.Close = true
		return nil, f
	}
	text := string(head)
	line, rest, _ := strings.Cut(text, "\r\n")
	b := &builder{length: -1}
	if b.startLine(line); b.msg == nil {
		return nil, b.fault
	}
	b.headers(rest)
	if !complete {
		b.refuse(fatal("", "no empty line after the headers"))
	}
	b.body(body)
	b.validate()
	return b.result()
}

// cutHead separates the header block, without the empty line, from the body.
func cutHead(raw []byte) (head, body []byte, complete bool) {
	end := bytes.Index(raw, []byte("\r\n\r\n"))
	if end < 0 {
		return raw, nil, false
	}
	return raw[:end], raw[end+4:], true
}

// builder collects one message and the first thing that is wrong with it.
type builder struct {
	msg     sip.Message
	request *sip.Request // nil for a response
	fault   *Fault
	seen    uint32 // bits of single-instance fields met
	count   int    // headers made
	vias    int
	routes  int
	length  int // Content-Length, -1 when absent
}

// refuse records f unless an earlier fault stands.
func (b *builder) refuse(f *Fault) {
	if b.fault == nil {
		b.fault = f
	} else if f.Close {
		b.fault.Close = true
	}
}

// result is what Parse returns.
func (b *builder) result() (sip.Message, *Fault) {
	switch {
	case b.fault == nil:
		return b.msg, nil
	case b.request == nil:
		b.fault.Status, b.fault.Reason = 0, "dropped"
		return nil, b.fault
	case b.vias == 0:
		b.fault.Close = true
		return nil, b.fault
	}
	return b.msg, b.fault
}

// headers reads the lines of the header block.
func (b *builder) headers(text string) {
	for text != "" {
		line, rest := cutLine(text)
		text = rest
		if b.line(line); b.count > maxHeaders {
			b.refuse(fatal("", "too many headers"))
			return
		}
	}
}

// cutLine takes one header line with its continuation lines, unfolded to
// single spaces (RFC 3261 §7.3.1).
func cutLine(text string) (line, rest string) {
	line, rest, _ = strings.Cut(text, "\r\n")
	if rest == "" || !isLWS(rest[0]) {
		return line, rest
	}
	var b strings.Builder
	b.WriteString(trim(line))
	for rest != "" && isLWS(rest[0]) {
		line, rest, _ = strings.Cut(rest, "\r\n")
		if part := trim(line); part != "" {
			b.WriteByte(' ')
			b.WriteString(part)
		}
	}
	return b.String(), rest
}

// line adds the header of one unfolded line.
func (b *builder) line(line string) {
	if hasJunk(line) {
		b.count++
		b.refuse(fatal("", "bare CR, LF or NUL in a header"))
		return
	}
	colon := strings.IndexByte(line, ':')
	if colon < 0 {
		b.count++
		b.refuse(bad("", "header line without colon"))
		return
	}
	name, value := trimRight(line[:colon]), trim(line[colon+1:])
	if !isToken(name) {
		b.count++
		b.refuse(bad("", "malformed header name"))
		return
	}
	f, known := lookup(name)
	if !known {
		b.add(sip.NewHeader(name, value))
		return
	}
	b.field(f, value)
}

func (b *builder) field(f *field, value string) {
	if f.bit != 0 {
		if b.seen&f.bit != 0 {
			b.count++
			dup := bad(f.name, "appears more than once")
			dup.Close = f.is&decides != 0
			b.refuse(dup)
			return
		}
		b.seen |= f.bit
	}
	// Without a comma the value's own parser finds what is unbalanced.
	if f.is&list == 0 || f.build != nil && value != "" && strings.IndexByte(value, ',') < 0 {
		b.build(f, value)
		return
	}
	if err := splitList(value, func(v string) { b.build(f, v) }); err != nil {
		b.count++
		if b.request != nil || f.name == "Via" {
			b.refuse(bad(f.name, err.Error()))
			return
		}
		b.add(sip.NewHeader(f.name, value))
	}
}

// build adds one value of a header field.
func (b *builder) build(f *field, value string) {
	if f.build == nil {
		b.add(sip.NewHeader(f.name, value))
		return
	}
	f.build(b, value)
}

func (b *builder) add(h sip.Header) {
	if b.count++; b.count <= maxHeaders {
		b.msg.AppendHeader(h)
	}
}

// body gives the message its body, as long as Content-Length says.
func (b *builder) body(rest []byte) {
	n := len(rest)
	if b.length >= 0 {
		if b.length > n {
			b.refuse(fatal("Content-Length", "body is shorter"))
			return
		}
		n = b.length
	}
	if n == 0 {
		b.msg.SetBody(nil)
		return
	}
	b.msg.SetBody(append(make([]byte, 0, n), rest[:n]...))
}

// hasJunk finds bytes that would end a line elsewhere. A NUL is let through
// as a quoted-pair, which RFC 3261 §25.1 allows.
func hasJunk(line string) bool {
	if strings.IndexByte(line, '\n') >= 0 || strings.IndexByte(line, '\r') >= 0 {
		return true
	}
	for i := strings.IndexByte(line, 0); i >= 0 && i < len(line); i++ {
		if line[i] == 0 && (i == 0 || line[i-1] != '\\') {
			return true
		}
	}
	return false
}

func trimRight(s string) string {
	for len(s) > 0 && isLWS(s[len(s)-1]) {
		s = s[:len(s)-1]
	}
	return s
}
