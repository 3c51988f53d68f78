package stanza

import "bytes"

// tagEnd is where the '>' of the start tag of raw is, and whether it closes
// the element, too.
func tagEnd(raw []byte) (at int, empty bool) {
	var quote byte
	for i, x := range raw {
		switch {
		case quote != 0:
			if x == quote {
				quote = 0
			}
		case x == '"' || x == '\'':
			quote = x
		case x == '>':
			return i, raw[i-1] == '/'
		}
	}
	return len(raw), false
}

// nameEnd is where the name ends with which raw begins, behind its '<'.
func nameEnd(raw []byte) int {
	end, _ := readName(raw, 1)
	return max(end, 1)
}

// findAttr finds an attribute of raw's start tag by its name as written, a
// declaration among them: raw[lo:hi] is all of it, its blanks excepted.
func findAttr(raw []byte, name string) (lo, hi int, ok bool) {
	for i := nameEnd(raw); i < len(raw); {
		i += blanks(raw[i:])
		end, _ := readName(raw, i)
		if end < 0 {
			return 0, 0, false // the end of the tag
		}
		quote := end + bytes.IndexByte(raw[end:], '=') + 1
		quote += blanks(raw[quote:])
		closing := quote + 1 + bytes.IndexByte(raw[quote+1:], raw[quote])
		if string(raw[i:end]) == name {
			return i, closing + 1, true
		}
		i = closing + 1
	}
	return 0, 0, false
}

// AppendChild appends to dst the whole element raw with child as its last
// child. child is an element that declares its namespace, or several, or
// escaped text.
func AppendChild(dst, raw, child []byte) []byte {
	at, empty := tagEnd(raw)
	if empty {
		dst = append(dst, bytes.TrimRight(raw[:at-1], " \t\r\n")...)
		dst = append(append(dst, '>'), child...)
		dst = append(append(dst, "</"...), raw[1:nameEnd(raw)]...)
		return append(dst, '>')
	}
	at = bytes.LastIndex(raw, []byte("</"))
	return append(append(append(dst, raw[:at]...), child...), raw[at:]...)
}

// AppendWithAttr appends to dst the whole element raw with an attribute, whose
// name has no prefix or that of xml, set to value, which is escaped; "" takes
// the attribute away.
func AppendWithAttr(dst, raw []byte, name, value string) []byte {
	lo, hi, found := findAttr(raw, name)
	switch {
	case !found:
		lo = nameEnd(raw)
		hi = lo
	default:
		lo = len(bytes.TrimRight(raw[:lo], " \t\r\n"))
	}
	dst = append(dst, raw[:lo]...)
	if value != "" {
		dst = appendAttr(dst, name, value)
	}
	return append(dst, raw[hi:]...)
}

// appendAttr writes an attribute with a blank before it.
func appendAttr(dst []byte, name, value string) []byte {
	dst = append(append(append(dst, ' '), name...), "='"...)
	return append(AppendEscaped(dst, value), '\'')
}

// AppendPortable appends e to dst as it may stand on any stream with a header
// of [Stream.AppendHeader]: what e uses of the header of its own stream beyond
// that is declared by e. Nearly always these are e's bytes as they came.
func (e *Element) AppendPortable(dst []byte) []byte {
	n := nameEnd(e.came)
	dst = append(dst, e.came[:n]...)
	return append(e.appendDeclared(dst), e.came[n:]...)
}

// appendDeclared writes the declarations that e needs to be portable.
func (e *Element) appendDeclared(dst []byte) []byte {
	base := e.of.base
	for i := len(base) - 1; i >= 0; i-- {
		if e.of.seen.used.has(i) && !streamBase[0].is(base[i]) && !streamBase[1].is(base[i]) && !e.shadows(base, i) {
			dst = append(dst, " xmlns"...)
			if len(base[i].prefix) > 0 {
				dst = append(append(dst, ':'), base[i].prefix...)
			}
			dst = append(dst, '=')
			dst = appendQuoted(dst, base[i].uri)
		}
	}
	return dst
}

// shadows reports whether the prefix of a declaration around e is declared
// anew, by e or between.
func (e *Element) shadows(base []ns, i int) bool {
	for _, d := range base[i+1:] {
		if bytes.Equal(d.prefix, base[i].prefix) {
			return true
		}
	}
	for _, d := range e.of.scope {
		if bytes.Equal(d.prefix.of(e.came), base[i].prefix) {
			return true
		}
	}
	return false
}

func (n ns) is(o ns) bool { return bytes.Equal(n.prefix, o.prefix) && bytes.Equal(n.uri, o.uri) }

// appendQuoted quotes what stood in quotes of some kind.
func appendQuoted(dst, value []byte) []byte {
	quote := byte('\'')
	if bytes.IndexByte(value, quote) >= 0 {
		quote = '"'
	}
	return append(append(append(dst, quote), value...), quote)
}

// AppendEdited appends e, portable, with each of its children as edit wants
// it: ch.Raw to keep it, nil to drop it, anything else in its place. Text
// between them stays, and so do the children behind the first 64
// ([Element.Unseen]).
func (e *Element) AppendEdited(dst []byte, edit func(ch *Child) []byte) []byte {
	n := nameEnd(e.came)
	dst = e.appendDeclared(append(dst, e.came[:n]...))
	for i := range e.Children {
		ch := &e.Children[i]
		dst = append(dst, e.came[n:ch.at]...)
		dst = append(dst, edit(ch)...)
		n = ch.at + len(ch.Raw)
	}
	return append(dst, e.came[n:]...)
}

var (
	declareClient  = []byte(" xmlns='" + NSClient + "'")
	declareStreams = []byte(" xmlns:stream='" + NSStreams + "'")
	streamPrefix   = []byte("stream:")
)

// AppendFrame appends to dst a whole element that is portable
// ([Element.AppendPortable]) as a message of a WebSocket, where there is no
// header that declares anything (RFC 7395 §3.3.3).
func AppendFrame(dst, portable []byte) []byte {
	n := nameEnd(portable)
	dst = append(dst, portable[:n]...)
	if _, _, ok := findAttr(portable, "xmlns"); !ok {
		dst = append(dst, declareClient...)
	}
	if bytes.Contains(portable, streamPrefix) {
		if _, _, ok := findAttr(portable, "xmlns:stream"); !ok {
			dst = append(dst, declareStreams...)
		}
	}
	return append(dst, portable[n:]...)
}
