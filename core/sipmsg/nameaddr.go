package sipmsg

import (
	"errors"
	"strings"
)

// NameAddr is the value of From, To, Route, P-Asserted-Identity and their
// kin: an address with an optional display name and parameters.
type NameAddr struct {
	// Raw is the whole value as written.
	Raw string
	// Display is the display name, unquoted; empty when there is none.
	Display string
	// URI is the address.
	URI URI
	// Params are the header's parameters, such as tag.
	Params Params
}

var (
	errDisplay = errors.New("malformed display name")
	errNoURI   = errors.New("no URI")
	errBare    = errors.New(`URI with "?" or "," needs angle brackets`)
)

// ParseNameAddr reads one name-addr or addr-spec (RFC 3261 §20.10). Without
// angle brackets all parameters are the header's, and "?" is refused.
func ParseNameAddr(s string) (NameAddr, error) {
	s = trim(s)
	if s == "" {
		return NameAddr{}, errEmpty
	}
	n := NameAddr{Raw: s}
	open, err := scan(s, "<", false)
	if err != nil {
		return NameAddr{}, err
	}
	if open == len(s) {
		return n.parseBare(s)
	}
	if n.Display, err = parseDisplay(trim(s[:open])); err != nil {
		return NameAddr{}, err
	}
	rest := s[open+1:]
	end := strings.IndexByte(rest, '>')
	if end < 0 {
		return NameAddr{}, errBracket
	}
	if n.URI, err = ParseURI(rest[:end]); err != nil {
		return NameAddr{}, err
	}
	if n.Params, err = parseParams(rest[end+1:]); err != nil {
		return NameAddr{}, err
	}
	return n, nil
}

// parseBare reads an addr-spec with header parameters. The parameters start
// at the first semicolon after the user part.
func (n NameAddr) parseBare(s string) (NameAddr, error) {
	end := strings.IndexByte(s, ';')
	if end < 0 {
		end = len(s)
	}
	spec := trim(s[:end])
	if spec == "" {
		return NameAddr{}, errNoURI
	}
	if strings.ContainsAny(spec, "?,") {
		return NameAddr{}, errBare
	}
	var err error
	if n.URI, err = ParseURI(spec); err != nil {
		return NameAddr{}, err
	}
	if n.Params, err = parseParams(s[end:]); err != nil {
		return NameAddr{}, err
	}
	return n, nil
}

// parseDisplay takes a quoted-string or words. RFC 3261 wants the words to be
// tokens; other bytes of a name are let through, except those that would make
// the value ambiguous (RFC 4475 §3.1.2.15).
func parseDisplay(s string) (string, error) {
	if s == "" || s[0] != '"' {
		if strings.ContainsAny(s, "\",:;@") {
			return "", errDisplay
		}
		return s, nil
	}
	if !isParamValue(s) {
		return "", errDisplay
	}
	return unquote(s), nil
}

// String writes the value anew, always with angle brackets.
func (n NameAddr) String() string {
	var b strings.Builder
	if n.Display != "" {
		b.WriteString(quote(n.Display))
		b.WriteByte(' ')
	}
	b.WriteByte('<')
	b.WriteString(n.URI.String())
	b.WriteByte('>')
	n.Params.write(&b)
	return b.String()
}

// Tag is the tag parameter, empty when there is none.
func (n NameAddr) Tag() string {
	t, _ := n.Params.Get("tag")
	return t
}
