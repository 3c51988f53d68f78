package phone

import (
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"strings"
)

// algorithms are the digests a phone knows (RFC 3261 §22, RFC 8760).
var algorithms = map[string]func() hash.Hash{
	"MD5":     md5.New,
	"SHA-256": sha256.New,
}

// authorization answers the first challenge of a 401 or 407 whose algorithm it
// knows, as RFC 8760 §2.4 asks. It returns the header to add.
func authorization(challenged *Message, req *Message, user, password string) (Header, error) {
	name, answer := "WWW-Authenticate", "Authorization"
	if challenged.Status == 407 {
		name, answer = "Proxy-Authenticate", "Proxy-Authorization"
	}
	challenges := challenged.Lines(name)
	for _, challenge := range challenges {
		scheme, rest, _ := strings.Cut(challenge, " ")
		p := authParams(rest)
		algorithm := p["algorithm"]
		defaultTo(&algorithm, "MD5")
		make, known := algorithms[strings.ToUpper(algorithm)]
		if !strings.EqualFold(scheme, "Digest") || !known {
			continue
		}
		return Header{answer, digest(make, algorithm, p, req, user, password)}, nil
	}
	return Header{}, fmt.Errorf("phone: no challenge to answer among %q", challenges)
}

func digest(make func() hash.Hash, algorithm string, p map[string]string, req *Message, user, password string) string {
	sum := func(parts ...string) string {
		h := make()
		h.Write([]byte(strings.Join(parts, ":")))
		return hex.EncodeToString(h.Sum(nil))
	}
	ha1 := sum(user, p["realm"], password)
	ha2 := sum(req.Method, req.URI)
	var b strings.Builder
	fmt.Fprintf(&b, `Digest username="%s", realm="%s", nonce="%s", uri="%s", algorithm=%s`, user, p["realm"], p["nonce"], req.URI, algorithm)
	if strings.Contains(p["qop"], "auth") {
		cnonce := token(8)
		fmt.Fprintf(&b, `, response="%s", cnonce="%s", qop=auth, nc=00000001`, sum(ha1, p["nonce"], "00000001", cnonce, "auth", ha2), cnonce)
	} else {
		fmt.Fprintf(&b, `, response="%s"`, sum(ha1, p["nonce"], ha2))
	}
	if opaque, ok := p["opaque"]; ok {
		fmt.Fprintf(&b, `, opaque="%s"`, opaque)
	}
	return b.String()
}

// authParams reads name=value pairs split by commas outside quotes.
func authParams(s string) map[string]string {
	params := map[string]string{}
	for _, part := range splitList(s) {
		name, value, _ := strings.Cut(part, "=")
		params[strings.ToLower(strings.TrimSpace(name))] = strings.Trim(strings.TrimSpace(value), `"`)
	}
	return params
}

// stale reports whether a challenge only says that the nonce was too old.
func stale(m *Message) bool {
	for _, name := range []string{"WWW-Authenticate", "Proxy-Authenticate"} {
		for _, challenge := range m.Lines(name) {
			_, rest, _ := strings.Cut(challenge, " ")
			if strings.EqualFold(authParams(rest)["stale"], "true") {
				return true
			}
		}
	}
	return false
}
