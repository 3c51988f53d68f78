package sipmsg

import (
	"errors"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// URI is an address (RFC 3261 §19.1). Its text is kept as written: nothing is
// unescaped and case is preserved.
type URI struct {
	// Scheme is in lower case: "sip", "sips", "tel"…
	Scheme string
	// User and Password are what stands before the "@", still escaped.
	User, Password string
	// Host is a name or an address, IPv6 in brackets.
	Host string
	// Port is 0 when none was given.
	Port int
	// Params are the URI parameters.
	Params Params
	// Headers is what follows "?", unparsed.
	Headers string
	// Opaque holds all that follows the colon of a scheme other than sip
	// and sips; the other fields are empty then.
	Opaque string
}

var (
	errURI    = errors.New("malformed URI")
	errScheme = errors.New("URI without scheme")
	errHost   = errors.New("malformed host in URI")
	errPort   = errors.New("malformed port in URI")
	errUser   = errors.New("malformed user in URI")
)

// ParseURI reads one URI without surrounding brackets or white space.
func ParseURI(s string) (URI, error) {
	if strings.ContainsAny(s, " \t\r\n\x00<>\"") {
		return URI{}, errURI
	}
	scheme, rest, ok := strings.Cut(s, ":")
	if !ok || !isScheme(scheme) {
		return URI{}, errScheme
	}
	u := URI{Scheme: lower(scheme)}
	if u.Scheme != "sip" && u.Scheme != "sips" {
		if u.Opaque = rest; rest == "" || rest[0] == ';' { // parameters of nothing
			return URI{}, errURI
		}
		return u, nil
	}
	return u.parseSIP(rest)
}

// parseSIP reads what follows "sip:". The user ends at the last "@" before
// the parameters' part that can follow a host, so that ";" and "?" in a user
// (RFC 4475 §3.1.1.13) are not mistaken for the end of the host.
func (u URI) parseSIP(s string) (URI, error) {
	if at := strings.IndexByte(s, '@'); at >= 0 {
		u.User, u.Password, _ = strings.Cut(s[:at], ":")
		if u.User == "" || !escapesValid(s[:at]) {
			return URI{}, errUser
		}
		s = s[at+1:]
	}
	s, u.Headers, _ = strings.Cut(s, "?")
	hostport, params := s, ""
	if i := strings.IndexByte(s, ';'); i >= 0 {
		hostport, params = s[:i], s[i:]
	}
	if strings.IndexByte(params, '"') >= 0 {
		return URI{}, errParam
	}
	var err error
	if u.Host, u.Port, err = splitHostPort(hostport); err != nil {
		return URI{}, err
	}
	if u.Params, err = parseParams(strings.TrimRight(params, ";")); err != nil {
		return URI{}, err
	}
	return u, nil
}

// splitHostPort reads "host", "host:port" or "[v6]:port". A port of 0 stands
// for none.
func splitHostPort(s string) (host string, port int, err error) {
	host, rest := s, ""
	if strings.HasPrefix(s, "[") {
		end := strings.IndexByte(s, ']')
		if end < 0 {
			return "", 0, errHost
		}
		if a, err := parseIPv6(s[1:end]); err != nil || !a.Is6() || a.Zone() != "" {
			return "", 0, errHost
		}
		host, rest = s[:end+1], s[end+1:]
	} else if i := strings.IndexByte(s, ':'); i >= 0 {
		host, rest = s[:i], s[i:]
	}
	if host == "" || host[0] != '[' && !isHost(host) {
		return "", 0, errHost
	}
	if rest == "" {
		return host, 0, nil
	}
	n, ok := parseUint(rest[1:], 65535)
	if rest[0] != ':' || !ok || n == 0 {
		return "", 0, errPort
	}
	return host, int(n), nil
}

// parseIPv6 is netip.ParseAddr, and takes the third colon that RFC 3261's
// grammar has before an IPv4 part (RFC 5118 §4.10).
func parseIPv6(s string) (netip.Addr, error) {
	if i := strings.Index(s, ":::"); i >= 0 && strings.IndexByte(s, '.') > i {
		s = s[:i] + s[i+1:]
	}
	return netip.ParseAddr(s)
}

func isHost(s string) bool { return all(s, hostName) && len(s) <= 255 }

func isScheme(s string) bool {
	for i := 0; i < len(s); i++ {
		if !isAlnum(s[i]) && s[i] != '+' && s[i] != '-' && s[i] != '.' {
			return false
		}
	}
	return s != "" && (s[0]|0x20) >= 'a' && (s[0]|0x20) <= 'z'
}

// escapesValid reports whether each "%" is followed by two hex digits.
func escapesValid(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] == '%' {
			if i+2 >= len(s) || unhex(s[i+1]) < 0 || unhex(s[i+2]) < 0 {
				return false
			}
			i += 2
		}
	}
	return true
}

// String writes the URI back.
func (u URI) String() string {
	var b strings.Builder
	b.WriteString(u.Scheme)
	b.WriteByte(':')
	if u.Opaque != "" {
		b.WriteString(u.Opaque)
		return b.String()
	}
	if u.User != "" {
		b.WriteString(u.User)
		if u.Password != "" {
			b.WriteByte(':')
			b.WriteString(u.Password)
		}
		b.WriteByte('@')
	}
	b.WriteString(u.Host)
	if u.Port != 0 {
		b.WriteByte(':')
		b.WriteString(strconv.Itoa(u.Port))
	}
	u.Params.write(&b)
	if u.Headers != "" {
		b.WriteByte('?')
		b.WriteString(u.Headers)
	}
	return b.String()
}

// Without returns u without the URI parameters called by names.
func (u URI) Without(names ...string) URI {
	u.Params = u.Params.Without(names...)
	return u
}

// WithoutPush returns u without RFC 8599's push parameters, Linphone's extra
// pn-… ones and its older app-id (RFC 8599 §13: they must not reach others).
func (u URI) WithoutPush() URI {
	u.Params = u.Params.filter(func(name string) bool { return !isPushParam(name) })
	return u
}

// WithoutTokens is WithoutPush, but pn-purr stays: it is meant for the far end
// of a dialog, and names nobody to whom it was not given (RFC 8599 §6).
func (u URI) WithoutTokens() URI {
	u.Params = u.Params.filter(func(name string) bool {
		return !isPushParam(name) || strings.EqualFold(name, "pn-purr")
	})
	return u
}

func isPushParam(name string) bool {
	return len(name) > 3 && strings.EqualFold(name[:3], "pn-") || strings.EqualFold(name, "app-id")
}

// AOR is the address-of-record u stands for: "sip:user@host", for sips too,
// with the host in lower case and needless escapes of the user undone
// (RFC 3261 §10.3 step 5), without port, password and parameters. A URI of
// another scheme is its own, less parameters.
func (u URI) AOR() string {
	if u.Opaque != "" {
		rest, _, _ := strings.Cut(u.Opaque, ";")
		return u.Scheme + ":" + rest
	}
	if u.User == "" {
		return "sip:" + lower(u.Host)
	}
	return "sip:" + unescape(u.User) + "@" + lower(u.Host)
}

// mustMatch are the parameters that matter even when one side lacks them
// (RFC 3261 §19.1.4).
var mustMatch = []string{"user", "ttl", "method", "maddr", "transport"}

// Equal compares as RFC 3261 §19.1.4 asks: user and password with case, the
// rest without; an absent port is not 5060; parameters present on both sides
// must agree, and user, ttl, method, maddr and transport must be on both.
// Push parameters are compared by callers (RFC 8599 §5.3.2).
func (u URI) Equal(v URI) bool {
	if u.Scheme != v.Scheme || u.Port != v.Port || !strings.EqualFold(u.Host, v.Host) ||
		unescape(u.User) != unescape(v.User) || unescape(u.Password) != unescape(v.Password) || u.Opaque != v.Opaque {
		return false
	}
	for _, name := range mustMatch {
		if u.Params.Has(name) != v.Params.Has(name) {
			return false
		}
	}
	for _, p := range u.Params {
		w, ok := v.Params.Get(p.Name)
		if ok && !strings.EqualFold(unescape(unquote(p.Value)), unescape(w)) {
			return false
		}
	}
	return sameHeaders(u.Headers, v.Headers)
}

// sameHeaders compares the "?a=b&c=d" parts in any order.
func sameHeaders(a, b string) bool {
	if a == b {
		return true
	}
	x, y := strings.Split(lower(a), "&"), strings.Split(lower(b), "&")
	slices.Sort(x)
	slices.Sort(y)
	return slices.Equal(x, y)
}

// unreserved are the marks that need no escape in a user part.
const unreserved = "-_.!~*'()&=+$,;?/"

// unescape undoes escapes that need not be and writes the others in upper
// case, so that equal users become equal text.
func unescape(s string) string {
	if strings.IndexByte(s, '%') < 0 {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '%' || i+2 >= len(s) || unhex(s[i+1]) < 0 || unhex(s[i+2]) < 0 {
			b.WriteByte(s[i])
			continue
		}
		c := byte(unhex(s[i+1])<<4 | unhex(s[i+2]))
		if isAlnum(c) || c < 0x80 && strings.IndexByte(unreserved, c) >= 0 {
			b.WriteByte(c)
		} else {
			b.WriteString(strings.ToUpper(s[i : i+3]))
		}
		i += 2
	}
	return b.String()
}

func unhex(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// lower is strings.ToLower for ASCII, without a copy when nothing changes.
func lower(s string) string {
	for i := 0; i < len(s); i++ {
		if s[i] >= 'A' && s[i] <= 'Z' {
			return strings.ToLower(s)
		}
	}
	return s
}
