package pushtest

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
)

// The parts of a body in the content coding aes128gcm (RFC 8188 §2.1), as RFC
// 8291 §4 narrows them: one record, and the sender's public key as key id.
const (
	saltLen  = 16
	sizeLen  = 4
	pointLen = 65
	tagLen   = 16
	headLen  = saltLen + sizeLen + 1 + pointLen
)

// openWebPush does what a user agent does with the body of a message (RFC 8291
// §3). It shares nothing with the code that seals, so that a mistake there
// shows here.
func openWebPush(private *ecdh.PrivateKey, auth, body []byte) ([]byte, error) {
	if len(body) < headLen+1+tagLen {
		return nil, errors.New("too short for a header and a record")
	}
	salt, rest := body[:saltLen], body[saltLen:]
	size, rest := binary.BigEndian.Uint32(rest), rest[sizeLen:]
	idLen, rest := int(rest[0]), rest[1:]
	if idLen != pointLen {
		return nil, fmt.Errorf("key id of %d bytes, where the sender's public key has %d", idLen, pointLen)
	}
	point, record := rest[:pointLen], rest[pointLen:]
	if uint64(size) < uint64(len(record)) || size < tagLen+2 {
		return nil, fmt.Errorf("record size %d, and %d bytes: RFC 8291 §4 allows one record", size, len(record))
	}
	sender, err := ecdh.P256().NewPublicKey(point)
	if err != nil {
		return nil, fmt.Errorf("key id: %w", err)
	}
	secret, err := private.ECDH(sender)
	if err != nil {
		return nil, fmt.Errorf("key id: %w", err)
	}
	info := bytes.Join([][]byte{[]byte("WebPush: info\x00"), private.PublicKey().Bytes(), point}, nil)
	ikm, err := hkdf.Key(sha256.New, secret, auth, string(info), sha256.Size)
	if err != nil {
		return nil, err
	}
	return openRecord(ikm, salt, record)
}

// openRecord opens the only record of a body (RFC 8188 §2).
func openRecord(ikm, salt, record []byte) ([]byte, error) {
	key, err := hkdf.Key(sha256.New, ikm, salt, "Content-Encoding: aes128gcm\x00", 16)
	if err != nil {
		return nil, err
	}
	nonce, err := hkdf.Key(sha256.New, ikm, salt, "Content-Encoding: nonce\x00", 12)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	plain, err := gcm.Open(nil, nonce, record, nil)
	if err != nil {
		return nil, errors.New("not sealed for this subscription, or changed on the way")
	}
	plain = bytes.TrimRight(plain, "\x00") // padding
	if n := len(plain); n > 0 && plain[n-1] == 2 {
		return plain[:n-1], nil
	}
	return nil, errors.New("no delimiter of a last record")
}
