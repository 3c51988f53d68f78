package stanza

import (
	"bytes"
	"strconv"
	"strings"
	"unicode/utf8"
)

// What a byte may be.
const (
	plainByte  = 1 << iota // in text and values, as it is
	startByte              // of a name
	insideByte             // of a name, not its first
	tagByte                // in a tag, outside quotes: ends it or begins a quote
	spoilByte              // in a namespace: it is not as it stands
)

// bytesOf says what each byte may be. Those above 0x7F are looked at as runes.
var bytesOf = func() (t [256]uint8) {
	for b := range 256 {
		switch {
		case b >= 'a' && b <= 'z', b >= 'A' && b <= 'Z', b == '_':
			t[b] = plainByte | startByte | insideByte
		case b >= '0' && b <= '9', b == '-', b == '.':
			t[b] = plainByte | insideByte
		case b == '\t', b == '\n', b == '\r', b >= 0x20 && b < 0x80 && b != '&' && b != '<' && b != ']':
			t[b] = plainByte
		}
		if b == '<' || b == '>' || b == '"' || b == '\'' {
			t[b] |= tagByte
		}
		if b == '&' || b == ' ' || b == '\t' || b == '\r' || b == '\n' {
			t[b] |= spoilByte
		}
	}
	return t
}()

// readName reads a name that begins at i and returns where it ends and its
// colon, -1 for none; end is -1 when there is no name.
func readName(b []byte, i int) (end, colon int) {
	colon = -1
	first := true
	for i < len(b) {
		x := b[i]
		switch {
		case bytesOf[x]&insideByte != 0:
			if first && bytesOf[x]&startByte == 0 {
				return -1, -1
			}
			i, first = i+1, false
		case x == ':':
			if first || colon >= 0 {
				return -1, -1
			}
			colon, i, first = i, i+1, true
		case x >= utf8.RuneSelf:
			r, n := utf8.DecodeRune(b[i:])
			if !nameRune(r, first) {
				return -1, -1
			}
			i, first = i+n, false
		case first:
			return -1, -1
		default:
			return i, colon
		}
	}
	if first {
		return -1, -1
	}
	return i, colon
}

// starts are the runes above ASCII with which a name may begin (XML 1.0 §2.3).
var starts = [...][2]rune{
	{0xC0, 0xD6}, {0xD8, 0xF6}, {0xF8, 0x2FF}, {0x370, 0x37D}, {0x37F, 0x1FFF}, {0x200C, 0x200D},
	{0x2070, 0x218F}, {0x2C00, 0x2FEF}, {0x3001, 0xD7FF}, {0xF900, 0xFDCF}, {0xFDF0, 0xFFFC}, {0x10000, 0xEFFFF},
}

func nameRune(r rune, first bool) bool {
	for _, s := range starts {
		if r >= s[0] && r <= s[1] {
			return true
		}
	}
	return !first && (r == 0xB7 || r >= 0x300 && r <= 0x36F || r == 0x203F || r == 0x2040)
}

// checkText checks the text between tags.
func checkText(b []byte) error { return check(b, true, true) }

// checkValue checks an attribute's value, in which '<' was looked for.
func checkValue(b []byte) error { return check(b, true, false) }

// checkChars checks the content of a CDATA section.
func checkChars(b []byte) error { return check(b, false, false) }

func check(b []byte, references, brackets bool) error {
	for i := 0; i < len(b); {
		x := b[i]
		if bytesOf[x]&plainByte != 0 {
			i++
			continue
		}
		n := 1
		switch {
		case x >= utf8.RuneSelf:
			r, size := utf8.DecodeRune(b[i:])
			if r == utf8.RuneError && size == 1 || !isChar(r) {
				return ErrSyntax
			}
			n = size
		case x == '&' && references:
			if _, n = reference(b[i:]); n == 0 {
				return ErrSyntax
			}
		case x == ']':
			if brackets && bytes.HasPrefix(b[i:], cdataEnd) {
				return ErrSyntax
			}
		case x == '&', x == '<': // of CDATA
		default:
			return ErrSyntax
		}
		i += n
	}
	return nil
}

// isChar says what XML 1.0 §2.2 calls a character.
func isChar(r rune) bool {
	return r == '\t' || r == '\n' || r == '\r' || r >= 0x20 && r <= 0xD7FF || r >= 0xE000 && r <= 0xFFFD || r >= 0x10000 && r <= 0x10FFFF
}

// maxReference is how long a reference is at most: "&#1114111;" with a zero or
// two to spare.
const maxReference = 12

// entities are those of XML 1.0 §4.6; there are no others in XMPP.
var entities = map[string]rune{"amp": '&', "lt": '<', "gt": '>', "quot": '"', "apos": '\''}

// reference reads the reference with which b begins; n is 0 if it is none.
func reference(b []byte) (r rune, n int) {
	end := bytes.IndexByte(b[:min(len(b), maxReference)], ';')
	if end < 2 {
		return 0, 0
	}
	name := string(b[1:end])
	if r, ok := entities[name]; ok {
		return r, end + 1
	}
	digits, numeric := strings.CutPrefix(name, "#")
	base := 10
	if hex, ok := strings.CutPrefix(digits, "x"); ok {
		digits, base = hex, 16
	}
	for i := range len(digits) {
		x := digits[i]
		if decimal, hex := x >= '0' && x <= '9', x|0x20 >= 'a' && x|0x20 <= 'f'; !decimal && (base == 10 || !hex) {
			return 0, 0
		}
	}
	v, err := strconv.ParseUint(digits, base, 21)
	if !numeric || err != nil || !isChar(rune(v)) {
		return 0, 0
	}
	return rune(v), end + 1
}

// settled is how much of a text that goes on can be checked now: not the
// reference, the rune or the brackets that it may end in the middle of.
func settled(b []byte) int {
	n := len(b)
	if i := bytes.LastIndexByte(b[max(0, n-maxReference+1):], '&'); i >= 0 {
		if i += max(0, n-maxReference+1); bytes.IndexByte(b[i:], ';') < 0 {
			n = i
		}
	}
	for i := n - 1; i >= max(0, n-utf8.UTFMax); i-- {
		if utf8.RuneStart(b[i]) {
			if !utf8.FullRune(b[i:n]) {
				n = i
			}
			break
		}
	}
	for k := 0; k < 2 && n > 0 && b[n-1] == ']'; k++ {
		n--
	}
	return n
}

// Unescape resolves the references in a value or text of an [Element]. What is
// no reference stays.
func Unescape(b []byte) string {
	if bytes.IndexByte(b, '&') < 0 {
		return string(b)
	}
	return string(appendText(make([]byte, 0, len(b)), b, len(b)))
}

// Text returns the text of the whole element raw, unescaped, with that of the
// elements inside; of a longer one the first most bytes, cut between characters.
func Text(raw []byte, most int) string {
	var out []byte
	for i, _ := tagEnd(raw); i < len(raw) && len(out) < most; {
		i++ // the '>'
		n := bytes.IndexByte(raw[i:], '<')
		if n < 0 {
			break
		}
		out = appendText(out, raw[i:i+n], most)
		i += n
		if bytes.HasPrefix(raw[i:], cdataStart) {
			i += len(cdataStart)
			n = bytes.Index(raw[i:], cdataEnd)
			out = append(out, raw[i:i+min(n, max(most-len(out), 0))]...)
			i += n + len(cdataEnd) - 1
			continue
		}
		n, _ = tagEnd(raw[i:])
		i += n
	}
	out = out[:min(len(out), most)]
	for {
		if r, n := utf8.DecodeLastRune(out); r != utf8.RuneError || n != 1 {
			return string(out)
		}
		out = out[:len(out)-1] // cut in its middle
	}
}

// Text is the text of an element; see [Text].
func (e *Element) Text(most int) string { return Text(e.Raw, most) }

// Text is the text of a child; see [Text].
func (c *Child) Text(most int) string { return Text(c.Raw, most) }

// appendText resolves references, and stops soon after out has most bytes.
func appendText(out, b []byte, most int) []byte {
	for i := 0; i < len(b) && len(out) < most; {
		if b[i] == '&' {
			if r, n := reference(b[i:]); n > 0 {
				out = utf8.AppendRune(out, r)
				i += n
				continue
			}
		}
		out = append(out, b[i])
		i++
	}
	return out
}

// escapes are what may not stand as it is in a value or a text, or would not
// come back as it is.
var escapes = map[byte]string{
	'&': "&amp;", '<': "&lt;", '>': "&gt;", '"': "&quot;", '\'': "&apos;", '\t': "&#9;", '\n': "&#10;", '\r': "&#13;",
}

// AppendEscaped appends s so that it can stand in a value or a text of XML.
// What XML has no room for becomes U+FFFD.
func AppendEscaped(dst []byte, s string) []byte {
	for _, r := range s {
		if r < utf8.RuneSelf {
			if e, ok := escapes[byte(r)]; ok {
				dst = append(dst, e...)
				continue
			}
		}
		if !isChar(r) {
			r = utf8.RuneError
		}
		dst = utf8.AppendRune(dst, r)
	}
	return dst
}
