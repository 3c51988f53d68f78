package registrar

import (
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/url"
	"strings"
)

func (a algorithm) size() int {
	switch a {
	case sha256Alg:
		return sha256.Size
	case md5Alg:
		return md5.Size
	}
	return 0
}

func (a algorithm) sum(s string) []byte {
	if a == md5Alg {
		h := md5.Sum([]byte(s))
		return h[:]
	}
	h := sha256.Sum256([]byte(s))
	return h[:]
}

// credentials are the parameters of one Authorization header with the Digest
// scheme (RFC 7616 §3.4).
type credentials struct {
	user, realm, nonce, uri, response string
	cnonce, qop, nc                   string
	alg                               algorithm
}

// expected is the response RFC 7616 §3.4.1 asks for with qop=auth.
func (c *credentials) expected(ha1 []byte, method string) string {
	ha2 := hex.EncodeToString(c.alg.sum(method + ":" + c.uri))
	all := strings.Join([]string{hex.EncodeToString(ha1), c.nonce, c.nc, c.cnonce, c.qop, ha2}, ":")
	return hex.EncodeToString(c.alg.sum(all))
}

// Bounds of one Authorization value.
const (
	maxAuthorization = 4096
	maxAuthParams    = 32
)

var (
	errNotDigest = errors.New("not digest")
	errAuth      = errors.New("malformed authorization")
)

// parseAuthorization reads one Authorization value. Parameters may come in any
// order and case, quoted or not; one that appears twice is an error.
func parseAuthorization(s string) (*credentials, error) {
	if len(s) > maxAuthorization {
		return nil, errAuth
	}
	scheme, rest, _ := strings.Cut(strings.TrimSpace(s), " ")
	if !strings.EqualFold(scheme, "Digest") {
		return nil, errNotDigest
	}
	params, err := parseAuthParams(rest)
	if err != nil {
		return nil, err
	}
	c := &credentials{
		user: params["username"], realm: params["realm"], nonce: params["nonce"], uri: params["uri"],
		response: strings.ToLower(params["response"]), cnonce: params["cnonce"], nc: params["nc"],
		qop: params["qop"], alg: algorithm(strings.ToUpper(params["algorithm"])),
	}
	if c.alg == "" {
		c.alg = md5Alg // RFC 7616 §3.3
	}
	if ext, ok := params["username*"]; ok {
		if c.user, ok = extValue(ext); !ok || params["username"] != "" {
			return nil, errAuth
		}
	}
	return c, nil
}

// extValue reads an ext-value in UTF-8 (RFC 5987), the only charset RFC 7616
// allows.
func extValue(s string) (string, bool) {
	const prefix = "utf-8''"
	if len(s) < len(prefix) || !strings.EqualFold(s[:len(prefix)], prefix) {
		return "", false
	}
	v, err := url.PathUnescape(s[len(prefix):])
	return v, err == nil
}

func parseAuthParams(s string) (map[string]string, error) {
	params := make(map[string]string, 12)
	for {
		s = strings.TrimLeft(s, " \t,")
		if s == "" {
			return params, nil
		}
		name, rest, ok := strings.Cut(s, "=")
		name = strings.ToLower(strings.TrimSpace(name))
		if !ok || name == "" || strings.ContainsAny(name, "\", \t") {
			return nil, errAuth
		}
		value, rest, ok := cutValue(strings.TrimLeft(rest, " \t"))
		if _, twice := params[name]; !ok || twice || len(params) == maxAuthParams {
			return nil, errAuth
		}
		params[name] = value
		s = rest
	}
}

// cutValue takes a token or a quoted-string off the front of s, which then
// goes on with a comma or ends.
func cutValue(s string) (value, rest string, ok bool) {
	if !strings.HasPrefix(s, `"`) {
		value, rest, _ = strings.Cut(s, ",")
		value = strings.TrimSpace(value)
		return value, rest, value != "" && !strings.ContainsAny(value, "\" \t")
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			if i++; i < len(s) {
				b.WriteByte(s[i])
			}
		case '"':
			rest = strings.TrimLeft(s[i+1:], " \t")
			return b.String(), rest, rest == "" || rest[0] == ','
		default:
			b.WriteByte(s[i])
		}
	}
	return "", "", false
}

// sameURI compares the digest's uri with the Request-URI as loosely as proxies
// on the way demand: scheme, parameters, headers and a default port do not
// count (RFC 3261 §22.4 lets servers be liberal here).
func sameURI(a, b string) bool { return strings.EqualFold(bareURI(a), bareURI(b)) }

func bareURI(s string) string {
	_, s, _ = strings.Cut(s, ":")
	user, host := "", s
	if at := strings.LastIndexByte(s, '@'); at >= 0 {
		user, host = s[:at+1], s[at+1:]
	}
	if i := strings.IndexAny(host, ";?"); i >= 0 {
		host = host[:i]
	}
	for _, port := range []string{":5060", ":5061"} {
		host = strings.TrimSuffix(host, port)
	}
	return user + host
}
