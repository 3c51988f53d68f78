package push

import (
	"crypto/sha1" // #nosec G505 -- RFC 9562 §5.5 names SHA-1; nothing secret hangs on it
	"encoding/hex"
)

// namespaceURL is the namespace of names in RFC 9562 §6.6 under which our
// UUIDs are made.
var namespaceURL = [16]byte{
	0x6b, 0xa7, 0xb8, 0x11, 0x9d, 0xad, 0x11, 0xd1,
	0x80, 0xb4, 0x00, 0xc0, 0x4f, 0xd4, 0x30, 0xc8,
}

// CallUUID is the UUID an app gives to CallKit for a call: version 5 (RFC 9562
// §5.5) of the Call-ID in the URL namespace, in lower case. The app computes
// the same from the INVITE, so that push and INVITE are one call to the phone.
func CallUUID(callID string) string { return uuid5(callID) }

func uuid5(name string) string {
	h := sha1.New() // #nosec G401 -- see the import
	h.Write(namespaceURL[:])
	h.Write([]byte(name))
	var u [16]byte
	copy(u[:], h.Sum(nil))
	u[6] = u[6]&0x0f | 0x50
	u[8] = u[8]&0x3f | 0x80
	var b [36]byte
	hex.Encode(b[0:8], u[0:4])
	hex.Encode(b[9:13], u[4:6])
	hex.Encode(b[14:18], u[6:8])
	hex.Encode(b[19:23], u[8:10])
	hex.Encode(b[24:36], u[10:16])
	b[8], b[13], b[18], b[23] = '-', '-', '-', '-'
	return string(b[:])
}

// pushID is the id of the push of one event to one token. It is the same each
// time that push is sent, here or by another core, so that who gets it twice
// can tell.
func pushID(event, callID string, t Token) string {
	return uuid5(event + "\x00" + callID + "\x00" + t.Value)
}

// notePushID is the id of the push of a note to a device: the same over retries,
// restarts and cores, and whatever token it goes to.
func notePushID(device string, n Note, t Token) string {
	if device == "" {
		device = t.Value
	}
	return uuid5(rowKey(device, noteID(n)))
}
