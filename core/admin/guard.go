package admin

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
)

// minToken is how many characters make a token that cannot be guessed.
const minToken = 16

// Reload reads the token file again. On an error the old token stays.
func (a *Admin) Reload() error {
	if a.cfg.TokenFile == "" {
		return nil
	}
	token, err := readToken(a.cfg.TokenFile)
	if err != nil {
		return fmt.Errorf("admin.token_file: %w", err)
	}
	sum := sha256.Sum256(token)
	a.mu.Lock()
	a.token = sum[:]
	a.mu.Unlock()
	return nil
}

func readToken(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, 4096))
	if err != nil {
		return nil, err
	}
	token := bytes.TrimSpace(data)
	if len(token) < minToken || bytes.ContainsAny(token, " \t\r\n") {
		return nil, fmt.Errorf("%s: must hold one line with a secret of %d characters or more, for example from `openssl rand -hex 32`", path, minToken)
	}
	return token, nil
}

// refusal is an answer other than success, with its reason for people.
type refusal struct {
	status int
	text   string
}

func (r refusal) Error() string { return r.text }

// guard lets a request to the API through, or says why not.
func (a *Admin) guard(r *http.Request) error {
	if !a.hostAllowed(r) {
		return refusal{http.StatusMisdirectedRequest, fmt.Sprintf("Host %q is not this API's: use localhost, the address it listens on, or list the name", r.Host)}
	}
	if !a.authorized(r) {
		return refusal{http.StatusUnauthorized, "a bearer token is needed: the content of admin.token_file"}
	}
	if r.Method != http.MethodPost {
		return nil
	}
	if err := http.NewCrossOriginProtection().Check(r); err != nil {
		return refusal{http.StatusForbidden, "a POST from another origin is refused"}
	}
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != "application/json" {
		return refusal{http.StatusUnsupportedMediaType, "Content-Type must be application/json"}
	}
	return nil
}

// hostAllowed refuses names that a web page elsewhere may have pointed here
// (DNS rebinding). Addresses cannot be pointed, so the one that the request
// came to, and loopback, are good.
func (a *Admin) hostAllowed(r *http.Request) bool {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	addr, err := netip.ParseAddr(strings.Trim(host, "[]"))
	if err != nil {
		return a.hosts[strings.ToLower(strings.TrimSuffix(host, "."))]
	}
	local, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	return addr.IsLoopback() || ok && local.AddrPort().Addr().Unmap() == addr.Unmap()
}

func (a *Admin) authorized(r *http.Request) bool {
	a.mu.Lock()
	want := a.token
	a.mu.Unlock()
	if want == nil {
		return true
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	got := sha256.Sum256([]byte(strings.TrimSpace(token)))
	return strings.EqualFold(scheme, "Bearer") && subtle.ConstantTimeCompare(got[:], want) == 1
}

// statusOf is the HTTP status for an error, and what to tell the client.
func statusOf(err error) (int, string) {
	var r refusal
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &r):
		return r.status, r.text
	case errors.As(err, &tooLarge):
		return http.StatusRequestEntityTooLarge, fmt.Sprintf("the body is larger than %d bytes", tooLarge.Limit)
	case errors.Is(err, ErrNoDevice):
		return http.StatusNotFound, err.Error()
	default:
		return http.StatusInternalServerError, err.Error()
	}
}
