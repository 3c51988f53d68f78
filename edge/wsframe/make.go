package wsframe

import (
	"encoding/binary"
	"fmt"
	"unicode/utf8"
)

var opcodeOf = [...]byte{Text: 0x1, Binary: 0x2, Close: 0x8, Ping: 0x9, Pong: 0xa}

// Append adds one whole frame to b, unmasked as a server's are. The payload of
// a control frame is at most MaxControl bytes long.
func Append(b []byte, k Kind, payload []byte) []byte {
	return AppendFragment(b, k, true, true, payload)
}

// AppendFragment adds one frame of a message: the first has its kind, and the
// last ends it (RFC 6455 §5.4). Control frames may stand between them.
func AppendFragment(b []byte, k Kind, first, last bool, payload []byte) []byte {
	head := byte(opContinuation)
	if first {
		head = opcodeOf[k]
	}
	if last {
		head |= fin
	}
	b = append(b, head)
	switch n := len(payload); {
	case n < 126:
		b = append(b, byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 127), uint64(n))
	}
	return append(b, payload...)
}

// MaxHead is what Append adds to a payload at most, in bytes.
const MaxHead = 10

// Status codes of a close frame (RFC 6455 §7.4.1) that are never sent.
const (
	statusReserved = 1004
	// StatusNone stands for a close frame without a status.
	StatusNone     = 1005
	statusAbnormal = 1006
	statusTLS      = 1015
)

// ClosePayload is the payload of a close frame. The text is cut to what fits.
func ClosePayload(status int, text string) []byte {
	text = text[:min(len(text), MaxControl-2)]
	for !utf8.ValidString(text) {
		text = text[:len(text)-1]
	}
	return append(binary.BigEndian.AppendUint16(nil, uint16(status)), text...)
}

// ParseClose reads the payload of a client's close frame. The error is
// ErrProtocol for a status that must not be sent, and ErrText.
func ParseClose(p []byte) (status int, text string, err error) {
	switch len(p) {
	case 0:
		return StatusNone, "", nil
	case 1:
		return 0, "", fmt.Errorf("%w: half a close status", ErrProtocol)
	}
	status = int(binary.BigEndian.Uint16(p))
	switch {
	case status == statusReserved, status == StatusNone, status == statusAbnormal, status == statusTLS,
		status < 1000, status > 1014 && status < 3000, status > 4999:
		return 0, "", fmt.Errorf("%w: close status %d", ErrProtocol, status)
	}
	if !utf8.Valid(p[2:]) {
		return 0, "", ErrText
	}
	return status, string(p[2:]), nil
}
