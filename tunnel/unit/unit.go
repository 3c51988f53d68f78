// Package unit holds durations and sizes as a config file writes them. It
// knows how they look as text, and nothing of what they measure.
package unit

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Duration is a span of time written with its unit, "13s", "1m30s" or "24h".
// It is a struct, not an integer kind, so that a bare number in a file is an
// error and never taken for nanoseconds.
type Duration struct{ time.Duration }

// UnmarshalText reads a duration in the form of [time.ParseDuration]. A number
// without a unit is an error, the bare zero included.
func (d *Duration) UnmarshalText(text []byte) error {
	s := string(text)
	if _, err := strconv.ParseFloat(s, 64); err == nil {
		return fmt.Errorf("duration %q has no unit: write 500ms, 13s, 5m or 24h", s)
	}
	v, err := time.ParseDuration(s)
	if err != nil {
		return fmt.Errorf("%q is no duration: write 500ms, 13s, 5m or 24h", s)
	}
	d.Duration = v
	return nil
}

// MarshalText writes the duration as a file would have it: "24h", not
// "24h0m0s".
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// String is the short form, without the zero parts that [time.Duration] adds.
func (d Duration) String() string {
	s := d.Duration.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// Size is a number of bytes, written "64KiB", "1MiB", "512B" or as digits in
// quotes. It is never negative.
type Size int64

// units are the suffixes of a size, the largest first. B alone comes last,
// since it ends the others too.
var units = [...]struct {
	suffix string
	bytes  int64
}{
	{"GiB", 1 << 30},
	{"MiB", 1 << 20},
	{"KiB", 1 << 10},
	{"B", 1},
}

// UnmarshalText reads a size. Only whole numbers and binary units are taken:
// "64KB" is an error, because half the world reads it as 64,000.
func (s *Size) UnmarshalText(text []byte) error {
	digits, scale := string(text), int64(1)
	for _, u := range units {
		if rest, ok := strings.CutSuffix(digits, u.suffix); ok {
			digits, scale = strings.TrimRight(rest, " "), u.bytes
			break
		}
	}
	n, err := strconv.ParseUint(digits, 10, 63)
	if err != nil || int64(n) > math.MaxInt64/scale {
		return fmt.Errorf("%q is no size: write a whole number with B, KiB, MiB or GiB, such as 64KiB", text)
	}
	*s = Size(int64(n) * scale)
	return nil
}

// MarshalText writes the size with the largest unit that divides it.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// String is the text of [Size.MarshalText].
func (s Size) String() string {
	for _, u := range units {
		if n := int64(s); n != 0 && n%u.bytes == 0 {
			return strconv.FormatInt(n/u.bytes, 10) + u.suffix
		}
	}
	return "0B"
}
