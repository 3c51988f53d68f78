package registrar

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// What Verify says. Callers answer each with a fresh challenge.
var (
	// ErrNoCredentials: there are none for this domain.
	ErrNoCredentials = errors.New("no credentials")
	// ErrStale: the credentials are right, the nonce is used up; challenge
	// with stale=true and the client tries again without asking its user.
	ErrStale = errors.New("stale nonce")
	// ErrWrong: unknown user, wrong password or malformed credentials, which
	// are not told apart.
	ErrWrong = errors.New("wrong credentials")
)

// Registrar authenticates the users of one domain. Its methods may be called
// from any goroutine.
type Registrar struct {
	// Static after New.
	domain string
	users  *Users

	keys   atomic.Pointer[[][]byte]
	counts counts
}

// New makes the authority of domain, which is also the digest realm. keys sign
// the nonces: the first makes them, all are accepted; there must be one, of 32
// random bytes, shared by all cores.
func New(domain string, users *Users, keys [][]byte) *Registrar {
	r := &Registrar{domain: strings.ToLower(domain), users: users}
	r.SetKeys(keys)
	return r
}

// SetKeys replaces the nonce keys, the newest first.
func (r *Registrar) SetKeys(keys [][]byte) { r.keys.Store(&keys) }

// Known reports whether the domain has the user.
func (r *Registrar) Known(user string) bool { return r.users.Known(r.domain, user) }

// Challenge makes the values of the WWW-Authenticate headers of a 401, one per
// algorithm in the order to be sent (RFC 8760 §2.4).
func (r *Registrar) Challenge(stale bool) []string {
	nonce := newNonce((*r.keys.Load())[0], r.domain, time.Now())
	suffix := ""
	if stale {
		suffix = ", stale=true"
	}
	out := make([]string, len(algorithms))
	for i, alg := range algorithms {
		out[i] = `Digest realm="` + r.domain + `", nonce="` + nonce + `", algorithm=` + string(alg) + `, qop="auth"` + suffix
	}
	return out
}

// maxHeaders bounds the Authorization headers looked at.
const maxHeaders = 8

// Verify names the user whose credentials are among the values of a request's
// Authorization headers. Other schemes and realms are passed over.
func (r *Registrar) Verify(method, requestURI string, authorization []string) (user string, err error) {
	err = ErrNoCredentials
	for _, value := range authorization[:min(len(authorization), maxHeaders)] {
		c, parseErr := parseAuthorization(value)
		switch {
		case errors.Is(parseErr, errNotDigest):
			continue
		case parseErr != nil:
			err = ErrWrong
			continue
		case !strings.EqualFold(c.realm, r.domain):
			continue
		}
		if err = r.check(c, method, requestURI); err == nil {
			return c.user, nil
		}
	}
	return "", err
}

func (r *Registrar) check(c *credentials, method, requestURI string) error {
	nc, err := strconv.ParseUint(c.nc, 16, 32)
	if err != nil || len(c.nc) != 8 || !strings.EqualFold(c.qop, "auth") || c.cnonce == "" ||
		c.alg.size() == 0 || c.nonce == "" || !sameURI(c.uri, requestURI) {
		return ErrWrong
	}
	keys := *r.keys.Load()
	ha1, known := r.users.account(r.domain, c.user)[c.alg]
	if !known { // as much work as for a user who exists
		ha1 = decoy(keys[0], c)
	}
	same := subtle.ConstantTimeCompare([]byte(c.expected(ha1, method)), []byte(c.response))
	if same != 1 || !known {
		return ErrWrong
	}
	made, ours := nonceTime(keys, r.domain, c.nonce)
	age := time.Since(made)
	if !ours || age > nonceLife || age < -clockSkew || !r.counts.use(c.nonce, made, nc, time.Now()) {
		return ErrStale
	}
	return nil
}

// decoy is an HA1 no password leads to.
func decoy(key []byte, c *credentials) []byte {
	m := hmac.New(sha256.New, key)
	m.Write([]byte("decoy\x00" + c.user))
	return m.Sum(nil)[:c.alg.size()]
}
