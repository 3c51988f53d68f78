// Package frame is the bytes between edge and core: frames, the HELLO that
// opens a link, and what OPEN says of a client. It is pure: it encodes and
// decodes, bounds whatever a stranger may claim, and knows no socket, no
// credit and no SIP. The dialogue it serves is told in ../spec.md.
package frame

import (
	"encoding/binary"
	"errors"
	"fmt"
)

const (
	// HeaderLen is the size of every frame's head:
	//
	//	len u24 | type u8 | flow u32 | payload[len]
	HeaderLen = 8
	// MaxPayload is the longest payload: one message of 64 KiB, whole.
	MaxPayload = 64 << 10
	// MaxHello bounds a HELLO, which is read before the peer is trusted.
	MaxHello = 4 << 10
	// MaxOpen bounds what an OPEN may say of a client.
	MaxOpen = 4 << 10
	// MaxText bounds the words beside a code in CLOSE and GOAWAY.
	MaxText = 255
)

// ErrSyntax is wrapped by every error this package returns for bytes that no
// honest peer sends. The link that carried them cannot be trusted further.
var ErrSyntax = errors.New("frame: malformed")

// Type says what a frame is. Two of its bits speak to those who do not know it:
//
//	0x80  skippable: a receiver that does not know the type ignores the frame
//	0x40  unsequenced: the frame belongs to one carrier, is not counted in
//	      receive offsets and is never replayed
type Type byte

// The types of this version. Sequenced frames speak of flows, unsequenced
// ones of the session.
const (
	TypeOpen   Type = 0x01 // edge to core: a client is there
	TypeData   Type = 0x02 // a whole message, or the last piece of one
	TypeCredit Type = 0x03 // u32: bytes the receiver may be sent again
	TypeClose  Type = 0x04 // u16 code, text: the flow has ended
	TypeEvent  Type = 0x05 // u8: something about the flow changed
	TypePart   Type = 0x06 // a piece of a message; needs FeatureParts

	TypeHello  Type = 0x40 // first frame each way
	TypeAck    Type = 0x41 // u64: sequenced bytes handled; needs FeatureResume
	TypePing   Type = 0x42 // 8 bytes, returned in a PONG
	TypePong   Type = 0x43 // the 8 bytes of the newest PING
	TypeDrain  Type = 0x44 // u32: milliseconds until the sender leaves
	TypeGoAway Type = 0x45 // u16 code, text: last frame of a link
	TypeDgram  Type = 0x46 // best effort bytes; needs FeatureDgram

	TypeNotice Type = 0xc1 // notes of an edge to whoever operates the core
	TypeNarrow Type = 0xc2 // u8: whether new flows get a quarter of the window; needs FeatureNarrow
	TypeSpare  Type = 0xc3 // u8: whether another core takes the flows of one that drains
)

// Skippable tells whether a receiver that does not know t ignores the frame.
func (t Type) Skippable() bool { return t&0x80 != 0 }

// Sequenced tells whether frames of type t count in the receive offset that
// HELLO and ACK carry.
func (t Type) Sequenced() bool { return t&0x40 == 0 }

// rule is what a header must satisfy before its payload is read.
type rule struct {
	name     string
	min, max int
	session  bool // flow is 0; otherwise it must not be
	reserved bool // has its place, but this version neither sends nor takes it
}

func ruleOf(t Type) (rule, bool) {
	switch t {
	case TypeOpen:
		return rule{name: "OPEN", min: 16, max: MaxOpen}, true
	case TypeData:
		return rule{name: "DATA", min: 1, max: MaxPayload}, true
	case TypeCredit:
		return rule{name: "CREDIT", min: 4, max: 4}, true
	case TypeClose:
		return rule{name: "CLOSE", min: 2, max: 2 + MaxText}, true
	case TypeEvent:
		return rule{name: "EVENT", min: 1, max: MaxText}, true
	case TypePart:
		return rule{name: "PART", min: 1, max: MaxPayload}, true
	case TypeHello:
		return rule{name: "HELLO", min: 1, max: MaxHello, session: true}, true
	case TypeAck:
		return rule{name: "ACK", min: 8, max: 8, session: true}, true
	case TypePing:
		return rule{name: "PING", min: 8, max: 8, session: true}, true
	case TypePong:
		return rule{name: "PONG", min: 8, max: 8, session: true}, true
	case TypeDrain:
		return rule{name: "DRAIN", min: 4, max: 4, session: true}, true
	case TypeGoAway:
		return rule{name: "GOAWAY", min: 2, max: 2 + MaxText, session: true}, true
	case TypeNotice:
		return rule{name: "NOTICE", max: MaxNotices * (1 + MaxText), session: true}, true
	case TypeNarrow:
		return rule{name: "NARROW", min: 1, max: 1, session: true}, true
	case TypeSpare:
		return rule{name: "SPARE", min: 1, max: 1, session: true}, true
	case TypeDgram:
		return rule{name: "DGRAM", min: 1, max: MaxPayload, reserved: true}, true
	}
	return rule{}, false
}

// String returns the name the specification uses, "OPEN" for instance.
func (t Type) String() string {
	if r, ok := ruleOf(t); ok {
		return r.name
	}
	return fmt.Sprintf("type 0x%02x", byte(t))
}

// Header is the head of a frame.
type Header struct {
	Len  int // of the payload, in bytes, at most MaxPayload
	Type Type
	Flow uint32 // 0 for frames that speak of the session
}

// ParseHeader reads the first HeaderLen bytes of b, which must hold them, and
// refuses what no known frame may claim, before a byte of payload is awaited.
// A header of an unknown skippable type is valid.
func ParseHeader(b []byte) (Header, error) {
	_ = b[HeaderLen-1]
	h := Header{
		Len:  int(b[0])<<16 | int(b[1])<<8 | int(b[2]),
		Type: Type(b[3]),
		Flow: binary.BigEndian.Uint32(b[4:8]),
	}
	if h.Type == TypeData && h.Len > 0 && h.Len <= MaxPayload && h.Flow != 0 {
		return h, nil // nine of ten frames
	}
	return h, h.check()
}

func (h Header) check() error {
	r, known := ruleOf(h.Type)
	switch {
	case !known && !h.Type.Skippable():
		return fmt.Errorf("%w: unknown frame %v", ErrSyntax, h.Type)
	case !known && h.Len > MaxPayload:
		return fmt.Errorf("%w: %v of %d bytes, at most %d", ErrSyntax, h.Type, h.Len, MaxPayload)
	case !known:
		return nil
	case r.reserved:
		return fmt.Errorf("%w: %v was not agreed on", ErrSyntax, h.Type)
	case h.Len < r.min || h.Len > r.max:
		return fmt.Errorf("%w: %v of %d bytes, want %d to %d", ErrSyntax, h.Type, h.Len, r.min, r.max)
	case r.session != (h.Flow == 0):
		return fmt.Errorf("%w: %v with flow %d", ErrSyntax, h.Type, h.Flow)
	}
	return nil
}

// AppendHeader appends the head of a frame with a payload of n bytes, at most
// MaxPayload, which the caller appends next.
func AppendHeader(b []byte, t Type, flow uint32, n int) []byte {
	return append(b, byte(n>>16), byte(n>>8), byte(n), byte(t),
		byte(flow>>24), byte(flow>>16), byte(flow>>8), byte(flow))
}

// Append appends a whole frame. The payload is at most MaxPayload long.
func Append(b []byte, t Type, flow uint32, payload []byte) []byte {
	return append(AppendHeader(b, t, flow, len(payload)), payload...)
}

// AppendUint32 appends a frame whose payload is one number: CREDIT, DRAIN.
func AppendUint32(b []byte, t Type, flow, v uint32) []byte {
	return binary.BigEndian.AppendUint32(AppendHeader(b, t, flow, 4), v)
}

// AppendUint64 appends a session frame whose payload is one number: PING,
// PONG, ACK.
func AppendUint64(b []byte, t Type, v uint64) []byte {
	return binary.BigEndian.AppendUint64(AppendHeader(b, t, 0, 8), v)
}
