package frame

import (
	"encoding/binary"
	"fmt"
)

// HELLO and OPEN are lists of fields: tag u8 | len u16 | value[len]. Unknown
// tags are ignored, so that either end may learn to say more. A known tag
// that must stand once and stands twice is an error: two answers are none.

// fields walks a list. It allocates nothing.
type fields struct {
	rest []byte
	seen uint64 // tags below 64 met so far
}

// next returns the next field; ok is false at the end of the list.
func (f *fields) next() (tag byte, value []byte, ok bool, err error) {
	if len(f.rest) == 0 {
		return 0, nil, false, nil
	}
	if len(f.rest) < 3 {
		return 0, nil, false, fmt.Errorf("%w: field cut off", ErrSyntax)
	}
	tag, n := f.rest[0], int(binary.BigEndian.Uint16(f.rest[1:3]))
	if len(f.rest)-3 < n {
		return 0, nil, false, fmt.Errorf("%w: field %d of %d bytes, %d are there", ErrSyntax, tag, n, len(f.rest)-3)
	}
	value, f.rest = f.rest[3:3+n], f.rest[3+n:]
	return tag, value, true, nil
}

// once fails when tag was met before.
func (f *fields) once(tag byte) error {
	if tag >= 64 {
		return nil
	}
	if f.seen&(1<<tag) != 0 {
		return fmt.Errorf("%w: field %d stands twice", ErrSyntax, tag)
	}
	f.seen |= 1 << tag
	return nil
}

func appendField(b []byte, tag byte, value []byte) []byte {
	b = append(b, tag, byte(len(value)>>8), byte(len(value)))
	return append(b, value...)
}

// appendString leaves an empty string out: absent and empty are one.
func appendString(b []byte, tag byte, value string) []byte {
	if value == "" {
		return b
	}
	b = append(b, tag, byte(len(value)>>8), byte(len(value)))
	return append(b, value...)
}

func appendUint(b []byte, tag byte, size int, v uint64) []byte {
	b = append(b, tag, 0, byte(size))
	for i := size - 1; i >= 0; i-- {
		b = append(b, byte(v>>(8*i)))
	}
	return b
}

// parseUint reads a number of exactly size bytes, 1 to 8.
func parseUint(name string, value []byte, size int) (uint64, error) {
	if len(value) != size {
		return 0, fmt.Errorf("%w: %s has %d bytes, want %d", ErrSyntax, name, len(value), size)
	}
	var v uint64
	for _, c := range value {
		v = v<<8 | uint64(c)
	}
	return v, nil
}

// checkText refuses what has no place in a name or header value that will be
// logged and compared: too long, or with control characters.
func checkText[T string | []byte](name string, value T, limit int) error {
	if len(value) > limit {
		return fmt.Errorf("%w: %s has %d bytes, at most %d", ErrSyntax, name, len(value), limit)
	}
	for i := range len(value) {
		if value[i] < 0x20 || value[i] == 0x7f {
			return fmt.Errorf("%w: %s has a control character", ErrSyntax, name)
		}
	}
	return nil
}
