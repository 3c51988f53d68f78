package aes128gcm

import "crypto/ecdh"

// SealWith lets a test give what is random otherwise.
func (d Device) SealWith(plain []byte, once *ecdh.PrivateKey, salt []byte, pad int) ([]byte, error) {
	return d.seal(plain, once, salt, pad)
}
