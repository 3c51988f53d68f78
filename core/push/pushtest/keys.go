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
	"slices"
	"strings"
	"sync"
	"time"
)

// Team is the team of the keys that NewKey makes.
const Team = "ABCDE12345"

// Key is a provider key as Apple knows it.
type Key struct {
	Team   string
	Env    string   // "" works in both environments
	Topics []string // bundle ids; nil allows all of the team
	Public *ecdsa.PublicKey
}

// keyring holds the keys by id.
type keyring struct {
	mu   sync.Mutex
	keys map[string]Key // guarded by mu
	made int            // guarded by mu
}

func (k *keyring) get(id string) (Key, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	key, ok := k.keys[id]
	return key, ok
}

func (k *keyring) set(id string, key Key) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.keys == nil {
		k.keys = make(map[string]Key)
	}
	k.keys[id] = key
}

// NewKey makes a key of [Team] that works for each topic in both environments,
// and returns what Apple lets one download, with the ids that belong to it.
// It returns nothing if the machine has no randomness.
func (s *APNs) NewKey() (p8 []byte, keyID, teamID string) {
	p8, keyID, teamID, _ = s.newKey()
	return p8, keyID, teamID
}

func (s *APNs) newKey() (p8 []byte, keyID, teamID string, err error) {
	p8, public, err := GenerateKey()
	if err != nil {
		return nil, "", "", err
	}
	s.keys.mu.Lock()
	s.keys.made++
	keyID = fmt.Sprintf("SIMKEY%04d", s.keys.made)
	s.keys.mu.Unlock()
	s.AddKey(keyID, Key{Team: Team, Public: public})
	return p8, keyID, Team, nil
}

// GenerateKey makes a .p8 key and returns it with its public half for
// [APNs.AddKey].
func GenerateKey() (p8 []byte, public *ecdsa.PublicKey, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, fmt.Errorf("make key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), &key.PublicKey, nil
}

// AddKey makes a key known, or changes it. Connections that already used it
// go on with the topics it had.
func (s *APNs) AddKey(keyID string, key Key) { s.keys.set(keyID, key) }

// RevokeKey forgets a key.
func (s *APNs) RevokeKey(keyID string) {
	s.keys.mu.Lock()
	defer s.keys.mu.Unlock()
	delete(s.keys.keys, keyID)
}

// claims are what a provider token says.
type claims struct {
	keyID, team string
	issued      time.Time
	key         Key
}

// verify checks the form and the signature of a provider token, not its age.
func (k *keyring) verify(token string) (claims, bool) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return claims{}, false
	}
	var raw [3][]byte
	for i, p := range parts {
		b, err := base64.RawURLEncoding.DecodeString(p)
		if err != nil {
			return claims{}, false
		}
		raw[i] = b
	}
	var head struct{ Alg, Kid string }
	var body struct {
		Iss string
		Iat int64
	}
	if json.Unmarshal(raw[0], &head) != nil || json.Unmarshal(raw[1], &body) != nil {
		return claims{}, false
	}
	key, ok := k.get(head.Kid)
	if !ok || head.Alg != "ES256" || key.Team != body.Iss || len(raw[2]) != 64 {
		return claims{}, false
	}
	sum := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	r, sig := new(big.Int).SetBytes(raw[2][:32]), new(big.Int).SetBytes(raw[2][32:])
	if !ecdsa.Verify(key.Public, sum[:], r, sig) {
		return claims{}, false
	}
	return claims{keyID: head.Kid, team: body.Iss, issued: time.Unix(body.Iat, 0), key: key}, true
}

// updates follows the provider tokens of one connection or address.
type updates struct {
	mu      sync.Mutex
	token   string    // guarded by mu
	changed time.Time // guarded by mu
}

// allow reports whether token may be used at now.
func (u *updates) allow(token string, now time.Time) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.token == token {
		return true
	}
	if u.token != "" && now.Sub(u.changed) < tokenEvery {
		return false
	}
	u.token, u.changed = token, now
	return true
}

// topicAllowed reports whether the key may push to the bundle id.
func (k Key) topicAllowed(bundle string) bool {
	return k.Topics == nil || slices.Contains(k.Topics, bundle)
}
