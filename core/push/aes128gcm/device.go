package aes128gcm

import (
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// Sizes of what a device hands over, and of what it is sent, in octets.
const (
	KeyLen  = 65 // P-256 point, uncompressed
	AuthLen = 16

	// Record is the record size in each header, and with it the largest body.
	// Push services must take 4096 octets (RFC 8030 §7.2).
	Record = 4096
	// MaxPlain is the longest text that [Seal] takes.
	MaxPlain = Record - headLen - KeyLen - tagLen - 1
	// step is what data and padding are a multiple of, so that the length tells
	// little of a name or a text.
	step = 64
)

// ErrTooLong says that a text is longer than MaxPlain.
var ErrTooLong = errors.New("aes128gcm: text is longer than one record")

// Device is what a body is sealed for: a device's public key and its
// authentication secret (RFC 8291 §2.1, §3.2).
type Device struct {
	public *ecdh.PublicKey
	auth   []byte
}

// String keeps the keys out of logs.
func (d Device) String() string { return "device keys" }

// GoString is String for %#v.
func (d Device) GoString() string { return d.String() }

// ParseDevice reads a device's keys, p256dh and auth, in base64url with or
// without padding. The errors name the key and quote nothing of it.
func ParseDevice(p256dh, auth string) (Device, error) {
	raw, err := decode(p256dh, KeyLen)
	if err != nil {
		return Device{}, fmt.Errorf("device key %w", err)
	}
	public, err := ecdh.P256().NewPublicKey(raw)
	if err != nil {
		return Device{}, errors.New("device key is no point of P-256")
	}
	secret, err := decode(auth, AuthLen)
	if err != nil {
		return Device{}, fmt.Errorf("device authentication secret %w", err)
	}
	return Device{public, secret}, nil
}

func decode(s string, octets int) ([]byte, error) {
	s = strings.TrimRight(s, "=")
	if len(s) != base64.RawURLEncoding.EncodedLen(octets) {
		return nil, fmt.Errorf("must be %d octets in base64url", octets)
	}
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		return nil, fmt.Errorf("must be %d octets in base64url", octets)
	}
	return b, nil
}

// Seal encrypts plain for the device whose keys these are: the body of a push
// (RFC 8291 §3, §4), in one record, padded to a multiple of 64 octets where
// there is room. It fails with ErrTooLong above MaxPlain octets, and for keys
// that [ParseDevice] refuses.
func Seal(plain []byte, p256dh, auth string) ([]byte, error) {
	d, err := ParseDevice(p256dh, auth)
	if err != nil {
		return nil, err
	}
	return d.Seal(plain)
}

// SealedLen is how many octets [Seal] makes of n, which is at most MaxPlain.
func SealedLen(n int) int { return headLen + KeyLen + n + 1 + padding(n) + tagLen }

func padding(n int) int {
	return min((step-(n+1)%step)%step, MaxPlain-n)
}

// Seal is the function Seal for keys already read.
func (d Device) Seal(plain []byte) ([]byte, error) {
	if len(plain) > MaxPlain {
		return nil, ErrTooLong
	}
	once, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("aes128gcm: %w", err)
	}
	salt := make([]byte, SaltLen)
	_, _ = rand.Read(salt) // never fails
	return d.seal(plain, once, salt, padding(len(plain)))
}

// seal is Seal with the key that is used once, the salt and the padding given.
func (d Device) seal(plain []byte, once *ecdh.PrivateKey, salt []byte, pad int) ([]byte, error) {
	if d.public == nil {
		return nil, errors.New("aes128gcm: no device key")
	}
	shared, err := once.ECDH(d.public)
	if err != nil {
		return nil, fmt.Errorf("aes128gcm: %w", err)
	}
	sender := once.PublicKey().Bytes()
	ikm, err := keyMaterial(shared, d.auth, d.public.Bytes(), sender)
	if err != nil {
		return nil, err
	}
	c, err := newCoder(ikm, salt)
	if err != nil {
		return nil, err
	}
	out := make([]byte, 0, headLen+KeyLen+len(plain)+1+pad+tagLen)
	return c.seal(appendHead(out, salt, sender, Record), plain, last, pad), nil
}

// keyMaterial combines the shared secret with the device's authentication
// secret (RFC 8291 §3.3, §3.4).
func keyMaterial(shared, auth, device, sender []byte) ([]byte, error) {
	info := "WebPush: info\x00" + string(device) + string(sender)
	ikm, err := hkdf.Key(sha256.New, shared, auth, info, sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("aes128gcm: %w", err)
	}
	return ikm, nil
}

// Open decrypts a body that was sealed for key and auth, as a device does. It
// fails with [ErrMalformed] for anything else.
func Open(body []byte, key *ecdh.PrivateKey, auth []byte) ([]byte, error) {
	h, rest, err := readHead(body)
	if err != nil {
		return nil, err
	}
	// One record, and the sender's key is the key id (RFC 8291 §4).
	if uint64(len(rest)) > uint64(h.rs) || len(h.keyID) != KeyLen {
		return nil, ErrMalformed
	}
	return Decrypt(body, func(keyID []byte) ([]byte, error) {
		sender, err := ecdh.P256().NewPublicKey(keyID)
		if err != nil {
			return nil, ErrMalformed
		}
		shared, err := key.ECDH(sender)
		if err != nil {
			return nil, ErrMalformed
		}
		return keyMaterial(shared, auth, key.PublicKey().Bytes(), keyID)
	})
}
