package sipmsg

import (
	"errors"
	"strings"

	"github.com/emiago/sipgo/sip"
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
	n, _, err := parseNameAddr(s)
	return n, err
}

// parseNameAddr also returns the URI's text.
func parseNameAddr(s string) (n NameAddr, uri string, err error) {
	s = trim(s)
	if s == "" {
		return NameAddr{}, "", errEmpty
	}
	open, err := scan(s, "<", false)
	if err != nil {
		return NameAddr{}, "", err
	}
	var display, params string
	if open == len(s) {
		uri, params, err = cutBare(s)
	} else {
		display, uri, params, err = cutBracketed(s, open)
	}
	if err != nil {
		return NameAddr{}, "", err
	}
	n = NameAddr{Raw: s, Display: display}
	if n.URI, err = ParseURI(uri); err != nil {
		return NameAddr{}, "", err
	}
	if n.Params, err = parseParams(params); err != nil {
		return NameAddr{}, "", err
	}
	return n, uri, nil
}

// cutBracketed takes "name <uri>;params" apart; the bracket is at open.
func cutBracketed(s string, open int) (display, uri, params string, err error) {
	if display, err = parseDisplay(trim(s[:open])); err != nil {
		return "", "", "", err
	}
	rest := s[open+1:]
	end := strings.IndexByte(rest, '>')
	if end < 0 {
		return "", "", "", errBracket
	}
	return display, rest[:end], rest[end+1:], nil
}

// cutBare takes "uri;params" apart. Without brackets all parameters are the
// header's.
func cutBare(s string) (uri, params string, err error) {
	if i := strings.IndexByte(s, ';'); i >= 0 {
		s, params = s[:i], s[i:]
	}
	switch uri = trim(s); {
	case uri == "":
		return "", "", errNoURI
	case strings.ContainsAny(uri, "?,"):
		return "", "", errBare
	}
	return uri, params, nil
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

// AOROf is the address-of-record that a From, To or their kin stands for; see
// [URI.AOR].
func AOROf(h sip.Header) (aor string, err error) {
	var u *sip.Uri
	switch h := h.(type) {
	case *sip.FromHeader:
		u = &h.Address
	case *sip.ToHeader:
		u = &h.Address
	}
	if u != nil && u.User != "" && u.Raw() == "" && !u.HierarhicalSlashes && strings.IndexByte(u.Host, ':') < 0 {
		return "sip:" + unescape(u.User) + "@" + lower(u.Host), nil
	}
	n, err := ParseNameAddr(h.Value())
	return n.URI.AOR(), err
}
