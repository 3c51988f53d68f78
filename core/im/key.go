package im

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
)

// key names a message by its ID; the copies of a user's devices have the same.
type key [16]byte

func keyOf(id string) key { return key(sum("", id)) }

// String is the key in the store.
func (k key) String() string { return base64.RawURLEncoding.EncodeToString(k[:]) }

// parseKey reads what String wrote.
func parseKey(s string) (k key, ok bool) {
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil || len(b) != len(k) {
		return k, false
	}
	return key(b), true
}

// mark names a message at a device, or at all of a user's.
type mark [16]byte

func markOf(who string, k key) mark { return mark(sum(who, string(k[:]))) }

// senderOf tells senders apart; 0 is nobody.
func senderOf(name string) uint64 {
	if name == "" {
		return 0
	}
	s := sum("sender", name)
	return binary.BigEndian.Uint64(s[:8]) | 1
}

func sum(of, name string) [16]byte {
	s := sha256.Sum256([]byte(of + "\x00" + name))
	return [16]byte(s[:16])
}

func sealName(device string, k key) string { return "im/" + k.String() + "/" + device }
