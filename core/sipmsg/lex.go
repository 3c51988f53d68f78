package sipmsg

import (
	"errors"
	"strconv"
	"strings"
)

var (
	errQuote   = errors.New("unbalanced quotes")
	errBracket = errors.New("unbalanced angle brackets")
	errEmpty   = errors.New("empty value")
)

// scan walks s up to the first byte of stops that stands outside quotes and,
// where brackets is set, outside <>. It returns len(s) when there is none.
func scan(s, stops string, brackets bool) (int, error) {
	quoted, inside := false, false
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case quoted && c == '\\':
			i++
		case c == '"' && !inside:
			quoted = !quoted
		case quoted:
		case brackets && c == '<':
			if inside {
				return 0, errBracket
			}
			inside = true
		case brackets && c == '>':
			if !inside {
				return 0, errBracket
			}
			inside = false
		case !inside && strings.IndexByte(stops, c) >= 0:
			return i, nil
		}
	}
	if quoted {
		return 0, errQuote
	}
	if inside {
		return 0, errBracket
	}
	return len(s), nil
}

// splitList cuts a comma-separated header value into its elements, calling
// yield for each, trimmed. Quotes and angle brackets protect commas.
func splitList(s string, yield func(string)) error {
	for {
		end, err := scan(s, ",", true)
		if err != nil {
			return err
		}
		v := trim(s[:end])
		if v == "" {
			return errEmpty
		}
		yield(v)
		if end == len(s) {
			return nil
		}
		s = s[end+1:]
	}
}

// trim removes linear white space at both ends.
func trim(s string) string {
	for len(s) > 0 && isLWS(s[0]) {
		s = s[1:]
	}
	for len(s) > 0 && isLWS(s[len(s)-1]) {
		s = s[:len(s)-1]
	}
	return s
}

func isLWS(c byte) bool { return c == ' ' || c == '\t' }

// class is a set of character classes.
type class uint8

const (
	alnum     class = 1 << iota // letters and digits
	token                       // RFC 3261's token
	paramName                   // token and what URI parameter names hold besides
	hostName                    // a host; "_" is in use though not allowed
)

// classes tells the classes of each byte.
var classes = func() (c [256]class) {
	for i := range c {
		b := byte(i)
		if b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' {
			c[i] = alnum | token | paramName | hostName
		}
	}
	for _, b := range []byte("-.!%*_+`'~") {
		c[b] |= token | paramName
	}
	for _, b := range []byte("[]/:&$()@") {
		c[b] |= paramName
	}
	for _, b := range []byte("-._") {
		c[b] |= hostName
	}
	return c
}()

func isAlnum(c byte) bool { return classes[c]&alnum != 0 }

// all reports whether s is not empty and each byte is of class c.
func all(s string, c class) bool {
	for i := 0; i < len(s); i++ {
		if classes[s[i]]&c == 0 {
			return false
		}
	}
	return s != ""
}

func isToken(s string) bool { return all(s, token) }

// parseUint reads digits alone, at most limit.
func parseUint(s string, limit uint64) (uint64, bool) {
	if s == "" || s[0] == '+' {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 10, 64)
	return n, err == nil && n <= limit
}

// unquote removes the quotes of a quoted-string and its backslashes; other
// text is returned as it is.
func unquote(s string) string {
	if len(s) < 2 || s[0] != '"' || s[len(s)-1] != '"' {
		return s
	}
	s = s[1 : len(s)-1]
	if strings.IndexByte(s, '\\') < 0 {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// quote makes a quoted-string of any text without line ends.
func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}
