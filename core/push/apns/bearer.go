package apns

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"time"
)

const (
	// grid is the step of issue times. Every core signs the same token in the
	// same half hour, before and after a restart, without telling the others:
	// to Apple they are one provider that seldom changes its token.
	grid = 30 * time.Minute
	// keepToken is how long a connection keeps its first token. Apple answers 429
	// to a connection that changes it more often.
	keepToken = 20 * time.Minute
	// maxTokenAge leaves ten minutes of clock error to Apple's hour.
	maxTokenAge = 50 * time.Minute
)

// signer signs provider tokens with one key ("Establishing a token-based
// connection to APNs"). It is immutable.
type signer struct {
	key         *ecdsa.PrivateKey
	keyID, team string
}

// parseKey reads a .p8 file: PKCS #8 in PEM, an ECDSA key on P-256.
func parseKey(text []byte) (*ecdsa.PrivateKey, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("not PEM; expected the .p8 file as Apple gave it")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("not a PKCS #8 private key: %w", err)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, errors.New("not an ECDSA key on P-256, as APNs demands")
	}
	return key, nil
}

// sign returns the token issued at iat. The same key, ids and time give the
// same bytes: the signature is deterministic (RFC 6979).
func (s *signer) sign(iat time.Time) (string, error) {
	head, err := json.Marshal(struct {
		Alg string `json:"alg"`
		Kid string `json:"kid"`
	}{"ES256", s.keyID})
	if err != nil {
		return "", err
	}
	claims, err := json.Marshal(struct {
		Iss string `json:"iss"`
		Iat int64  `json:"iat"`
	}{s.team, iat.Unix()})
	if err != nil {
		return "", err
	}
	enc := base64.RawURLEncoding
	text := enc.EncodeToString(head) + "." + enc.EncodeToString(claims)
	sum := sha256.Sum256([]byte(text))
	der, err := s.key.Sign(nil, sum[:], crypto.SHA256)
	if err != nil {
		return "", fmt.Errorf("sign provider token: %w", err)
	}
	var sig struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(der, &sig); err != nil {
		return "", fmt.Errorf("sign provider token: %w", err)
	}
	var raw [64]byte
	sig.R.FillBytes(raw[:32])
	sig.S.FillBytes(raw[32:])
	return text + "." + enc.EncodeToString(raw[:]), nil
}

// bearer is the provider token of one connection. Its owner locks.
//
//	first push        ≥ 20 min later, once the grid has moved on
//	    │                        │
//	    ▼                        ▼
//	token of this half hour ──▶ token of that half hour ──▶ …
//
// A token is at most 30 min old when it is taken, and kept for 20 min at
// least, so its age stays below 50 min.
type bearer struct {
	signer *signer
	exact  bool // issue at the very minute, not on the grid: Apple called the grid's token expired

	token string
	iat   time.Time // wall clock alone
	since time.Time // when the connection first used token
	held  time.Time // until when no other token is taken
}

// at returns the token to use at now.
func (b *bearer) at(now time.Time) (string, error) {
	if b.token != "" && (now.Sub(b.since) < keepToken || now.Before(b.held)) {
		return b.token, nil
	}
	iat := now.Truncate(grid)
	if b.exact && b.token == "" {
		iat = now.Truncate(time.Minute)
	}
	if b.token != "" && iat.Equal(b.iat) {
		return b.token, nil
	}
	token, err := b.signer.sign(iat)
	if err != nil {
		return "", err
	}
	b.token, b.iat, b.since = token, iat.Round(0), now
	return token, nil
}

// stale reports that the token is too old by the clock on the wall, yet may
// not be changed on this connection: the clock was set. Another connection
// is needed.
func (b *bearer) stale(now time.Time) bool {
	if b.token == "" || now.Before(b.held) || now.Sub(b.since) >= keepToken {
		return false
	}
	age := now.Round(0).Sub(b.iat)
	return age >= maxTokenAge || age < -time.Minute
}
