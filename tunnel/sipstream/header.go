package sipstream

import (
	"bytes"
	"fmt"
)

// trimLine takes the CRLF off a line and refuses what other parsers may take
// for a line end of their own: a bare LF, a bare CR, a NUL. Let through, they
// smuggle headers past whoever counts lines differently. A NUL that a backslash
// quotes is legal (RFC 3261 §25.1, RFC 4475 §3.1.1.2).
func trimLine(line []byte) ([]byte, error) {
	body, ok := bytes.CutSuffix(line, []byte("\r\n"))
	if !ok {
		return nil, fmt.Errorf("%w: a line ends with a bare LF", ErrSyntax)
	}
	if bytes.IndexByte(body, '\r') >= 0 {
		return nil, fmt.Errorf("%w: bare CR in the header block", ErrSyntax)
	}
	for i := bytes.IndexByte(body, 0); i >= 0 && i < len(body); i++ {
		if body[i] == 0 && (i == 0 || body[i-1] != '\\') {
			return nil, fmt.Errorf("%w: NUL in the header block", ErrSyntax)
		}
	}
	return body, nil
}

// checkFirst tells SIP from other protocols by its first line: a status line
// or a request line of any version (RFC 3261 §7). What else may be wrong with
// it deserves an answer, so it passes.
func checkFirst(line []byte) error {
	if prefixFold(line, "SIP/") {
		return nil
	}
	method, rest, ok := bytes.Cut(line, []byte(" "))
	if !ok || len(method) == 0 || bytes.ContainsFunc(method, func(r rune) bool { return r > 0x7f || !tokenChar(byte(r)) }) {
		return fmt.Errorf("%w: first line is neither a request line nor a status line", ErrSyntax)
	}
	for i := bytes.IndexByte(rest, ' '); i >= 0; {
		rest = rest[i+1:]
		if prefixFold(rest, "SIP/") {
			return nil
		}
		i = bytes.IndexByte(rest, ' ')
	}
	return fmt.Errorf("%w: first line names no SIP version", ErrSyntax)
}

// contentLength is the length of the body that the header block announces.
// Without the header the body is empty: on a stream nothing else can be meant.
func contentLength(block []byte) (int, error) {
	var value []byte
	seen, inside := false, false
	first := bytes.IndexByte(block, '\n') + 1
	if block[first] == ' ' || block[first] == '\t' {
		return 0, fmt.Errorf("%w: the first line is folded", ErrSyntax)
	}
	for i := first; i < len(block); {
		n := bytes.IndexByte(block[i:], '\n') + 1
		line := block[i : i+n-2]
		i += n
		switch {
		case len(line) == 0:
		case line[0] == ' ' || line[0] == '\t': // folded, RFC 3261 §7.3.1
			if inside {
				value = append(append(value[:len(value):len(value)], ' '), line...)
			}
		default:
			name, v, _ := bytes.Cut(line, []byte(":"))
			name = bytes.TrimRight(name, " \t")
			inside = bytes.EqualFold(name, []byte("Content-Length")) || bytes.EqualFold(name, []byte("l"))
			if inside && seen {
				return 0, fmt.Errorf("%w: there are two of them", ErrLength)
			}
			if inside {
				seen, value = true, v
			}
		}
	}
	if !seen {
		return 0, nil
	}
	return digits(bytes.Trim(value, " \t"))
}

// digits reads a number and nothing else: no sign, no space, no list. It
// stops counting far above any limit on a message.
func digits(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, fmt.Errorf("%w: empty", ErrLength)
	}
	n := 0
	for _, d := range b {
		if d < '0' || d > '9' {
			return 0, fmt.Errorf("%w: not a number", ErrLength)
		}
		if n < 1<<30 {
			n = n*10 + int(d-'0')
		}
	}
	return n, nil
}

// tokenChar reports whether b may stand in a method (token, RFC 3261 §25.1).
func tokenChar(b byte) bool {
	switch {
	case 'a' <= b && b <= 'z', 'A' <= b && b <= 'Z', '0' <= b && b <= '9':
		return true
	default:
		return bytes.IndexByte([]byte("-.!%*_+`'~"), b) >= 0
	}
}

func prefixFold(b []byte, prefix string) bool {
	return len(b) >= len(prefix) && bytes.EqualFold(b[:len(prefix)], []byte(prefix))
}
