// Package vault seals what must not lie in the store in clear: push tokens and
// what a queued push would say. It owns the key file, from the check of who may
// read it to the change of its key, and the form of a sealed value.
//
// It does not know what it seals, nor where the sealed value is kept.
package vault

import (
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"
)

// KeySize is the size of a key in octets.
const KeySize = chacha20poly1305.KeySize

// maxKeys is how many keys are valid at a time: the newest, and the one before
// it for what is still sealed with that.
const maxKeys = 2

// A sealed value is a version, the key's name, a nonce and the ciphertext with
// its tag. XChaCha20-Poly1305 has nonces long enough to be drawn at random for
// ever, however many devices register with one key; AES-GCM's are not.
const (
	version  = 1
	nameSize = 4
	head     = 1 + nameSize + chacha20poly1305.NonceSizeX

	// Overhead is how much longer a sealed value is than the plain one.
	Overhead = head + chacha20poly1305.Overhead
)

// Why a value cannot be opened.
var (
	// ErrKey: it was sealed with a key that the key file does not hold.
	ErrKey = errors.New("sealed with another key than the key file holds")
	// ErrForged: it is not what was sealed, or not under this name.
	ErrForged = errors.New("sealed value is damaged or belongs elsewhere")
)

// Vault seals with the newest of its keys and opens with each. It never
// changes, and is safe for concurrent use.
type Vault struct {
	keys []key // newest first
}

type key struct {
	name [nameSize]byte // tells keys apart, and tells nothing of the key
	aead cipher.AEAD
}

// New returns a vault with keys of [KeySize] octets, the newest first, one or
// two.
func New(keys ...[]byte) (*Vault, error) {
	if len(keys) == 0 || len(keys) > maxKeys {
		return nil, fmt.Errorf("vault: %d keys, must be 1 or %d", len(keys), maxKeys)
	}
	v := &Vault{}
	for _, k := range keys {
		aead, err := chacha20poly1305.NewX(k)
		if err != nil {
			return nil, fmt.Errorf("vault: %w", err)
		}
		sum := sha256.Sum256(append([]byte("sallyport vault key name\x00"), k...))
		v.keys = append(v.keys, key{name: [nameSize]byte(sum[:nameSize]), aead: aead})
	}
	return v, nil
}

// NewKey returns a random key.
func NewKey() []byte {
	k := make([]byte, KeySize)
	_, _ = rand.Read(k) // never fails (crypto/rand)
	return k
}

// Seal returns plain sealed under name, the key of the record that it will be
// part of: under another name it does not open. Two seals of one value differ.
func (v *Vault) Seal(name string, plain []byte) []byte {
	k := &v.keys[0]
	out := make([]byte, head, len(plain)+Overhead)
	out[0] = version
	copy(out[1:], k.name[:])
	nonce := out[1+nameSize : head]
	_, _ = rand.Read(nonce) // never fails (crypto/rand)
	return k.aead.Seal(out, nonce, plain, []byte(name))
}

// Open returns what was sealed under name. It is stale if that was with the
// older key: seal it again before the older key goes. Errors are [ErrKey] and
// [ErrForged].
func (v *Vault) Open(name string, sealed []byte) (plain []byte, stale bool, err error) {
	if len(sealed) < Overhead || sealed[0] != version {
		return nil, false, ErrForged
	}
	for i := range v.keys {
		k := &v.keys[i]
		if k.name != [nameSize]byte(sealed[1:1+nameSize]) {
			continue
		}
		plain, err := k.aead.Open(nil, sealed[1+nameSize:head], sealed[head:], []byte(name))
		if err != nil {
			return nil, false, ErrForged
		}
		return plain, i > 0, nil
	}
	return nil, false, ErrKey
}
