package pushtest

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// oauth is Google's token endpoint for one service account (RFC 7523, as
// "Using OAuth 2.0 for Server to Server Applications" narrows it).
type oauth struct {
	// Static after newOAuth.
	project string
	email   string
	life    time.Duration
	pem     []byte

	mu       sync.Mutex
	keyID    string               // guarded by mu
	key      *rsa.PublicKey       // guarded by mu; nil when revoked
	given    map[string]time.Time // guarded by mu; access token to its end
	requests int                  // guarded by mu
}

const (
	// maxAccess bounds the access tokens remembered.
	maxAccess = 10_000
	// maxAssertion bounds the JWT of a request; Google's own are below 1 KiB.
	maxAssertion = 8 << 10
	// oauthSkew is what Google forgives a clock.
	oauthSkew = 5 * time.Minute
)

const (
	grantJWT       = "urn:ietf:params:oauth:grant-type:jwt-bearer"
	scopeMessaging = "https://www.googleapis.com/auth/firebase.messaging"
	scopePlatform  = "https://www.googleapis.com/auth/cloud-platform"
	googleTokenURI = "https://oauth2.googleapis.com/token"
)

func newOAuth(project string, life time.Duration) (*oauth, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, fmt.Errorf("fcm simulator: make key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("fcm simulator: make key: %w", err)
	}
	return &oauth{
		project: project, email: "sallyport@" + project + ".iam.gserviceaccount.com", life: life,
		pem:   pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}),
		keyID: randomHex(20), key: &key.PublicKey, given: make(map[string]time.Time),
	}, nil
}

func randomHex(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// ServiceAccount is the JSON file that Google's console would give for the
// simulator's project, with the simulator as its token_uri. It is known once
// Serve has begun.
func (s *FCM) ServiceAccount() ([]byte, error) {
	if s.err != nil {
		return nil, s.err
	}
	url := s.URL()
	if url == "" {
		return nil, errors.New("fcm simulator: it does not serve yet: the service account names its address")
	}
	o := s.oauth
	o.mu.Lock()
	defer o.mu.Unlock()
	return json.MarshalIndent(map[string]string{
		"type":           "service_account",
		"project_id":     o.project,
		"private_key_id": o.keyID,
		"private_key":    string(o.pem),
		"client_email":   o.email,
		"client_id":      "100000000000000000001",
		"auth_uri":       url + "/auth",
		"token_uri":      url + "/token",
	}, "", "  ")
}

// WriteFiles writes ca.pem and service-account.json, with mode 0600, into dir,
// which it creates, and returns their paths. Serve must have begun.
func (s *FCM) WriteFiles(dir string) (caFile, accountFile string, err error) {
	account, err := s.ServiceAccount()
	if err != nil {
		return "", "", err
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return "", "", err
	}
	caFile = filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(caFile, s.CA(), 0o600); err != nil {
		return "", "", err
	}
	accountFile = filepath.Join(dir, "service-account.json")
	return caFile, accountFile, os.WriteFile(accountFile, account, 0o600)
}

func (o *oauth) asked() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.requests
}

func (o *oauth) expire() {
	o.mu.Lock()
	defer o.mu.Unlock()
	clear(o.given)
}

func (o *oauth) revoke() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.key = nil
}

// oauthError is an answer of the token endpoint (RFC 6749 §5.2).
type oauthError struct {
	Code        string `json:"error"`
	Description string `json:"error_description,omitempty"`
}

func invalidGrant(text string) *oauthError { return &oauthError{"invalid_grant", text} }

// token answers a request for an access token.
func (s *FCM) token(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		writeOAuth(w, http.StatusBadRequest, &oauthError{Code: "invalid_request"})
		return
	}
	if !s.pause(r.Context()) {
		return
	}
	if f, ok := s.oauthFaults.take(""); ok {
		if f.Drop {
			<-r.Context().Done()
			return
		}
		setRetryAfter(w, f)
		if status, reason, html := f.result(); html {
			writePage(w, status)
			return
		} else if status != http.StatusOK {
			writeOAuth(w, status, &oauthError{Code: reason})
			return
		}
	}
	if grant := r.PostForm.Get("grant_type"); grant != grantJWT {
		writeOAuth(w, http.StatusBadRequest, &oauthError{"unsupported_grant_type", "Invalid grant_type: " + grant})
		return
	}
	audiences := []string{"https://" + r.Host + "/token", googleTokenURI}
	token, fault := s.oauth.grant(r.PostForm.Get("assertion"), audiences, s.now())
	if fault != nil {
		writeOAuth(w, http.StatusBadRequest, fault)
		return
	}
	writeJSON(w, map[string]any{
		"access_token": token, "token_type": "Bearer", "expires_in": int(s.oauth.life.Seconds()),
	})
}

func writeOAuth(w http.ResponseWriter, status int, fault *oauthError) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(fault) // the client is gone if this fails
}

// grant gives an access token for a good assertion.
func (o *oauth) grant(assertion string, audiences []string, now time.Time) (string, *oauthError) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.requests++
	if fault := o.check(assertion, audiences, now); fault != nil {
		return "", fault
	}
	for t, end := range o.given {
		if !now.Before(end) {
			delete(o.given, t)
		}
	}
	if len(o.given) >= maxAccess {
		return "", &oauthError{"rate_limit_exceeded", "Too many access tokens."}
	}
	token := "ya29." + randomHex(32)
	o.given[token] = now.Add(o.life)
	return token, nil
}

// check applies Google's rules to an assertion. Guarded by mu.
func (o *oauth) check(assertion string, audiences []string, now time.Time) *oauthError {
	head, body, ok := o.open(assertion)
	iat, exp := time.Unix(body.Iat, 0), time.Unix(body.Exp, 0)
	aud := false
	for _, a := range audiences {
		aud = aud || a == body.Aud
	}
	switch {
	case !ok:
		return invalidGrant("Invalid JWT Signature.")
	case head.Alg != "RS256":
		return invalidGrant("Invalid JWT: only RS256 is taken.")
	case body.Iss != o.email:
		return invalidGrant("Invalid grant: account not found")
	case !aud:
		return invalidGrant("Invalid JWT: Failed audience check.")
	case !hasScope(body.Scope):
		return &oauthError{"invalid_scope", "Invalid OAuth scope or ID token audience provided."}
	case exp.Sub(iat) > time.Hour, exp.Before(iat):
		return invalidGrant("Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe.")
	case iat.After(now.Add(oauthSkew)), !now.Before(exp.Add(oauthSkew)):
		return invalidGrant("Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. " +
			"Check your iat and exp values in the JWT claim.")
	}
	return nil
}

func hasScope(scopes string) bool {
	for s := range strings.FieldsSeq(scopes) {
		if s == scopeMessaging || s == scopePlatform {
			return true
		}
	}
	return false
}

type assertionHead struct {
	Alg string `json:"alg"`
	Kid string `json:"kid"`
}

type assertionBody struct {
	Iss   string `json:"iss"`
	Scope string `json:"scope"`
	Aud   string `json:"aud"`
	Iat   int64  `json:"iat"`
	Exp   int64  `json:"exp"`
}

// open takes an assertion apart and reports whether the key signed it. The
// algorithm is the caller's to check. Guarded by mu.
func (o *oauth) open(assertion string) (head assertionHead, body assertionBody, ok bool) {
	raw, text, ok := splitJWT(assertion)
	if !ok || json.Unmarshal(raw[0], &head) != nil || json.Unmarshal(raw[1], &body) != nil {
		return head, body, false
	}
	if o.key == nil || head.Kid != "" && head.Kid != o.keyID {
		return head, body, false
	}
	sum := sha256.Sum256([]byte(text))
	return head, body, rsa.VerifyPKCS1v15(o.key, crypto.SHA256, sum[:], raw[2]) == nil
}

// splitJWT decodes the three parts of a JWT, and returns what was signed.
func splitJWT(token string) (raw [3][]byte, signed string, ok bool) {
	parts := strings.Split(token, ".")
	if len(token) > maxAssertion || len(parts) != 3 {
		return raw, "", false
	}
	for i, p := range parts {
		b, err := base64.RawURLEncoding.DecodeString(p)
		if err != nil {
			return raw, "", false
		}
		raw[i] = b
	}
	return raw, parts[0] + "." + parts[1], true
}

// authorized reports whether a request carries an access token that lives.
func (o *oauth) authorized(r *http.Request, now time.Time) bool {
	kind, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(kind, "bearer") {
		return false
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	end, ok := o.given[token]
	return ok && now.Before(end)
}
