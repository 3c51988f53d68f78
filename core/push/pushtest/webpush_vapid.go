package pushtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// vapid is who an application server says it is (RFC 8292).
type vapid struct {
	key     string // as in k, without padding
	subject string
	expires time.Time
}

// vapidLife is the longest a VAPID token may live (RFC 8292 §2).
const vapidLife = 24 * time.Hour

// refusal is how the push service refuses.
type refusal struct {
	status int
	reason string
}

func forbidden(reason string) *refusal { return &refusal{http.StatusForbidden, reason} }

// parseVAPID reads and checks the Authorization of a request to the given
// origin.
func parseVAPID(authorization, origin string, now time.Time) (vapid, *refusal) {
	token, key, ok := vapidParams(authorization)
	if !ok {
		return vapid{}, &refusal{http.StatusUnauthorized, "Authorization: must be vapid t=TOKEN, k=KEY (RFC 8292 §3)"}
	}
	public, err := parsePoint(key)
	if err != nil {
		return vapid{}, forbidden("Authorization: k: " + err.Error())
	}
	raw, signed, ok := splitJWT(token)
	if !ok || len(raw[2]) != 64 {
		return vapid{}, forbidden("Authorization: t: no JWT with an ES256 signature")
	}
	sum := sha256.Sum256([]byte(signed))
	r, sig := new(big.Int).SetBytes(raw[2][:32]), new(big.Int).SetBytes(raw[2][32:])
	if !ecdsa.Verify(public, sum[:], r, sig) {
		return vapid{}, forbidden("Authorization: t: signed with another key than k")
	}
	v := vapid{key: strings.TrimRight(key, "=")}
	return v, v.claims(raw, origin, now)
}

// claims reads and checks what the token says.
func (v *vapid) claims(raw [3][]byte, origin string, now time.Time) *refusal {
	var head struct {
		Alg string `json:"alg"`
	}
	var body struct {
		Aud string `json:"aud"`
		Exp int64  `json:"exp"`
		Sub string `json:"sub"`
	}
	if json.Unmarshal(raw[0], &head) != nil || head.Alg != "ES256" {
		return forbidden("Authorization: t: alg must be ES256")
	}
	if json.Unmarshal(raw[1], &body) != nil {
		return forbidden("Authorization: t: claims are no JSON object, or of the wrong types")
	}
	v.subject, v.expires = body.Sub, time.Unix(body.Exp, 0)
	switch {
	case body.Aud != origin:
		return forbidden(fmt.Sprintf("Authorization: t: aud must be %q", origin))
	case !now.Before(v.expires):
		return forbidden("Authorization: t: exp has passed")
	case v.expires.Sub(now) > vapidLife:
		return forbidden("Authorization: t: exp is more than 24 hours away")
	case body.Sub != "" && !strings.HasPrefix(body.Sub, "mailto:") && !strings.HasPrefix(body.Sub, "https://"):
		return forbidden("Authorization: t: sub must be a mailto: or an https: URL")
	}
	return nil
}

// vapidParams takes the field apart: vapid t=…, k=….
func vapidParams(authorization string) (token, key string, ok bool) {
	scheme, rest, _ := strings.Cut(authorization, " ")
	if !strings.EqualFold(scheme, "vapid") || len(rest) > maxAssertion {
		return "", "", false
	}
	for param := range strings.SplitSeq(rest, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(param), "=")
		value = strings.Trim(value, `"`)
		switch name {
		case "t":
			token = value
		case "k":
			key = value
		}
	}
	return token, key, token != "" && key != ""
}

// parsePoint reads a public key: a point of P-256, uncompressed, base64url.
func parsePoint(s string) (*ecdsa.PublicKey, error) {
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(s, "="))
	if err == nil {
		var key *ecdsa.PublicKey
		if key, err = ecdsa.ParseUncompressedPublicKey(elliptic.P256(), raw); err == nil {
			return key, nil
		}
	}
	return nil, fmt.Errorf("no uncompressed point of P-256 in base64url: %w", err)
}

// WriteFiles writes ca.pem, a new VAPID key, vapid.pem, and a subscription
// bound to it, subscription.json, the last two with mode 0600, into dir, which
// it creates, and returns their paths. Serve must have begun.
func (s *WebPush) WriteFiles(dir string) (caFile, keyFile, subscriptionFile string, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", "", "", fmt.Errorf("webpush simulator: make key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return "", "", "", fmt.Errorf("webpush simulator: make key: %w", err)
	}
	point, err := key.PublicKey.Bytes()
	if err != nil {
		return "", "", "", fmt.Errorf("webpush simulator: make key: %w", err)
	}
	sub, err := s.NewSubscription(base64.RawURLEncoding.EncodeToString(point))
	if err != nil {
		return "", "", "", err
	}
	text, err := json.MarshalIndent(sub, "", "  ")
	if err != nil {
		return "", "", "", err
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return "", "", "", err
	}
	names := [3]string{filepath.Join(dir, "ca.pem"), filepath.Join(dir, "vapid.pem"), filepath.Join(dir, "subscription.json")}
	for i, b := range [3][]byte{s.CA(), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), append(text, '\n')} {
		if err := os.WriteFile(names[i], b, 0o600); err != nil {
			return "", "", "", err
		}
	}
	return names[0], names[1], names[2], nil
}
