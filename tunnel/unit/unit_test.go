package unit_test

import (
	"strings"
	"testing"
	"time"

	"github.com/pelletier/go-toml/v2"

	"sallyport/tunnel/unit"
)

func TestDurationIsReadWithItsUnit(t *testing.T) {
	good := map[string]time.Duration{
		"13s": 13 * time.Second, "24h": 24 * time.Hour, "1m30s": 90 * time.Second, "500ms": 500 * time.Millisecond, "0s": 0,
	}
	for text, want := range good {
		var d unit.Duration
		if err := d.UnmarshalText([]byte(text)); err != nil || d.Duration != want {
			t.Errorf("%q: got %v, %v, want %v", text, d, err, want)
		}
	}
	for _, text := range []string{"13", "0", "-1", "1.5", "", "s", "13 s", "thirteen"} {
		var d unit.Duration
		if err := d.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q was taken as %v", text, d)
		}
	}
}

func TestSizeIsReadWithBinaryUnits(t *testing.T) {
	good := map[string]unit.Size{
		"64KiB": 64 << 10, "1MiB": 1 << 20, "2GiB": 2 << 30, "512B": 512, "65536": 65536, "0": 0, "64 KiB": 64 << 10,
	}
	for text, want := range good {
		var s unit.Size
		if err := s.UnmarshalText([]byte(text)); err != nil || s != want {
			t.Errorf("%q: got %v, %v, want %v", text, s, err, want)
		}
	}
	for _, text := range []string{"", "B", "KiB", "64KB", "64k", "-1", "1.5MiB", "9223372036854775807GiB", "+1", "99999999999999999999"} {
		var s unit.Size
		if err := s.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q was taken as %v", text, s)
		}
	}
}

func TestTextRoundTrip(t *testing.T) {
	for _, want := range []string{"13s", "24h", "1m30s", "1h30m", "500ms", "2m", "0s", "1h0m1s"} {
		var d unit.Duration
		if err := d.UnmarshalText([]byte(want)); err != nil {
			t.Fatal(err)
		}
		if got, _ := d.MarshalText(); string(got) != want {
			t.Errorf("duration %q is written %q", want, got)
		}
	}
	for _, want := range []string{"64KiB", "1MiB", "3GiB", "1500B", "0B"} {
		var s unit.Size
		if err := s.UnmarshalText([]byte(want)); err != nil {
			t.Fatal(err)
		}
		if got, _ := s.MarshalText(); string(got) != want {
			t.Errorf("size %q is written %q", want, got)
		}
	}
}

func TestTOMLBareNumberIsNoDuration(t *testing.T) {
	var c struct {
		Window unit.Duration `toml:"window"`
		Max    unit.Size     `toml:"max"`
	}
	if err := toml.Unmarshal([]byte("window = 7\n"), &c); err == nil {
		t.Errorf("window = 7 was taken as %v", c.Window)
	}
	if err := toml.Unmarshal([]byte("window = \"7s\"\nmax = \"64KiB\"\n"), &c); err != nil || c.Window.Duration != 7*time.Second || c.Max != 64<<10 {
		t.Errorf("got %+v, %v", c, err)
	}
	out, err := toml.Marshal(c)
	if err != nil || !strings.Contains(string(out), "'7s'") || !strings.Contains(string(out), "'64KiB'") {
		t.Errorf("written as %q, %v", out, err)
	}
}
