// Package aes128gcm encrypts what only a device may read: the content coding
// aes128gcm (RFC 8188) with keys agreed as for Web Push (RFC 8291). It is
// pure: bytes and keys go in, bytes come out.
//
// It does not know where the bytes travel, nor what they say.
package aes128gcm

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
)

// Sizes in octets (RFC 8188 §2.1).
const (
	SaltLen = 16
	tagLen  = 16
	// headLen is the header before the key id: salt, record size, length of the
	// key id.
	headLen = SaltLen + 4 + 1
	// minRecord holds one octet of data, its delimiter and the tag.
	minRecord = tagLen + 2
	maxKeyID  = 255
	keyLen    = 16
)

// Delimiters that follow the data of a record, before its padding.
const (
	more = 1 // another record follows
	last = 2
)

// ErrMalformed is what all faults of a body are that cannot be opened: it is
// cut off, was changed, or was not made for this key.
var ErrMalformed = errors.New("aes128gcm: not a body for this key")

// Encrypt encodes plain with the input keying material ikm, in records of
// rs octets (the last may be shorter), each without padding. salt has SaltLen
// octets and is never used twice with the same ikm. keyID names the key to the
// reader, in at most 255 octets.
func Encrypt(plain, ikm, salt []byte, keyID []byte, rs int) ([]byte, error) {
	switch {
	case len(salt) != SaltLen:
		return nil, fmt.Errorf("aes128gcm: salt has %d octets, must have %d", len(salt), SaltLen)
	case len(keyID) > maxKeyID:
		return nil, fmt.Errorf("aes128gcm: key id has %d octets, must have at most %d", len(keyID), maxKeyID)
	case rs < minRecord || uint64(rs) > 1<<32-1:
		return nil, fmt.Errorf("aes128gcm: record size is %d, must be %d or more", rs, minRecord)
	}
	c, err := newCoder(ikm, salt)
	if err != nil {
		return nil, err
	}
	room := rs - tagLen - 1
	records := max(1, (len(plain)+room-1)/room)
	out := appendHead(make([]byte, 0, headLen+len(keyID)+len(plain)+records*(tagLen+1)), salt, keyID, rs)
	for {
		n, delimiter := min(room, len(plain)), byte(more)
		if n == len(plain) {
			delimiter = last
		}
		out = c.seal(out, plain[:n], delimiter, 0)
		if delimiter == last {
			return out, nil
		}
		plain = plain[n:]
	}
}

// Decrypt decodes a body. key gives the input keying material for the key id
// in its header; its error is passed on. The result is shorter than body.
func Decrypt(body []byte, key func(keyID []byte) (ikm []byte, err error)) ([]byte, error) {
	h, rest, err := readHead(body)
	if err != nil {
		return nil, err
	}
	ikm, err := key(h.keyID)
	if err != nil {
		return nil, err
	}
	c, err := newCoder(ikm, h.salt)
	if err != nil {
		return nil, err
	}
	plain := make([]byte, 0, len(rest))
	for {
		n := len(rest)
		if uint64(n) > uint64(h.rs) {
			n = int(h.rs)
		}
		data, delimiter, err := c.open(rest[:n])
		if err != nil {
			return nil, err
		}
		plain = append(plain, data...)
		rest = rest[n:]
		if (delimiter == last) != (len(rest) == 0) {
			return nil, ErrMalformed // records were cut off, or others added
		}
		if delimiter == last {
			return plain, nil
		}
	}
}

// head is the header of a body (RFC 8188 §2.1).
type head struct {
	salt  []byte
	rs    uint32
	keyID []byte
}

func appendHead(b, salt, keyID []byte, rs int) []byte {
	b = append(b, salt...)
	b = binary.BigEndian.AppendUint32(b, uint32(rs))
	b = append(b, byte(len(keyID)))
	return append(b, keyID...)
}

func readHead(body []byte) (h head, rest []byte, err error) {
	if len(body) < headLen {
		return head{}, nil, ErrMalformed
	}
	h.salt = body[:SaltLen]
	h.rs = binary.BigEndian.Uint32(body[SaltLen:])
	end := headLen + int(body[headLen-1])
	if len(body) < end || h.rs < minRecord {
		return head{}, nil, ErrMalformed
	}
	h.keyID = body[headLen:end]
	return h, body[end:], nil
}

// coder is the cipher of one body and the number of its next record.
type coder struct {
	aead  cipher.AEAD
	nonce []byte
	seq   uint64
}

// newCoder derives key and first nonce (RFC 8188 §2.2, §2.3).
func newCoder(ikm, salt []byte) (*coder, error) {
	prk, err := hkdf.Extract(sha256.New, ikm, salt)
	if err != nil {
		return nil, fmt.Errorf("aes128gcm: %w", err)
	}
	key, err := hkdf.Expand(sha256.New, prk, "Content-Encoding: aes128gcm\x00", keyLen)
	if err != nil {
		return nil, fmt.Errorf("aes128gcm: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("aes128gcm: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("aes128gcm: %w", err)
	}
	nonce, err := hkdf.Expand(sha256.New, prk, "Content-Encoding: nonce\x00", aead.NonceSize())
	if err != nil {
		return nil, fmt.Errorf("aes128gcm: %w", err)
	}
	return &coder{aead: aead, nonce: nonce}, nil
}

// next is the nonce of the next record: the first, XOR its number.
func (c *coder) next() []byte {
	nonce := append([]byte(nil), c.nonce...)
	at := len(nonce) - 8
	binary.BigEndian.PutUint64(nonce[at:], binary.BigEndian.Uint64(nonce[at:])^c.seq)
	c.seq++
	return nonce
}

// seal appends a record to out: data, delimiter and pad zeros, encrypted.
func (c *coder) seal(out, data []byte, delimiter byte, pad int) []byte {
	record := make([]byte, len(data)+1+pad)
	copy(record, data)
	record[len(data)] = delimiter
	return c.aead.Seal(out, c.next(), record, nil)
}

// open decrypts a record and takes delimiter and padding off.
func (c *coder) open(record []byte) (data []byte, delimiter byte, err error) {
	plain, err := c.aead.Open(nil, c.next(), record, nil)
	if err != nil {
		return nil, 0, ErrMalformed
	}
	for i := len(plain) - 1; i >= 0; i-- {
		switch plain[i] {
		case 0:
		case more, last:
			return plain[:i], plain[i], nil
		default:
			return nil, 0, ErrMalformed
		}
	}
	return nil, 0, ErrMalformed
}
