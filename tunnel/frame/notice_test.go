package frame_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"sallyport/tunnel/frame"
)

func TestNoticesAreReadAsTheyWereSaid(t *testing.T) {
	for _, want := range [][]string{
		nil, {"the certificate of edge.example.com ends in 9 days"},
		slices.Repeat([]string{strings.Repeat("é", 127)}, frame.MaxNotices),
	} {
		p := payload(t, frame.AppendNotice(nil, want), frame.TypeNotice)
		if got, err := frame.ParseNotice(p); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q became %q, %v", want, got, err)
		}
	}
}

// What an edge says is shown to a person: it can neither fill a screen nor
// steer a terminal.
func TestNoticesAreCleaned(t *testing.T) {
	for said, want := range map[string][]string{
		"":                         nil,
		" \t\n":                    nil,
		"two\nlines":               {"two lines"},
		"\x1b[2Jcleared":           {"[2Jcleared"},
		"C1 \u009b1m":              {"C1  1m"},
		"turned \u202eround":       {"turned  round"},
		"no \xff utf8":             {"no ? utf8"},
		strings.Repeat("x", 300):   {strings.Repeat("x", 255)},
		strings.Repeat("é", 200):   {strings.Repeat("é", 127)},
		strings.Repeat("\xff", 90): {strings.Repeat("?", 90)},
	} {
		if got := frame.CleanNotices([]string{said}); !slices.Equal(got, want) {
			t.Errorf("%q became %q, want %q", said, got, want)
		}
		if len(said) > frame.MaxText {
			continue
		}
		raw := append([]byte{byte(len(said))}, said...)
		if got, err := frame.ParseNotice(raw); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q was read as %q, %v", said, got, err)
		}
	}
	if got := frame.CleanNotices(slices.Repeat([]string{"x"}, 20)); len(got) != frame.MaxNotices {
		t.Errorf("%d notes of 20", len(got))
	}
	for name, p := range map[string][]byte{
		"cut off": {5, 'x'}, "too many": make([]byte, frame.MaxNotices+1),
	} {
		if _, err := frame.ParseNotice(p); !errors.Is(err, frame.ErrSyntax) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzNotice(f *testing.F) {
	f.Add(frame.AppendNotice(nil, []string{"the certificate ends soon", "é"})[frame.HeaderLen:])
	f.Add([]byte{0, 0, 3, 27, '[', 'm'})
	f.Fuzz(func(t *testing.T, p []byte) {
		notes, err := frame.ParseNotice(p)
		if err != nil {
			if !errors.Is(err, frame.ErrSyntax) {
				t.Fatalf("error of another kind: %v", err)
			}
			return
		}
		if len(notes) > frame.MaxNotices {
			t.Fatalf("%d notes", len(notes))
		}
		for _, n := range notes {
			if len(n) > frame.MaxText || n == "" || !utf8.ValidString(n) || strings.ContainsFunc(n, unicode.IsControl) {
				t.Fatalf("%q was let pass", n)
			}
		}
		again, err := frame.ParseNotice(frame.AppendNotice(nil, notes)[frame.HeaderLen:])
		if err != nil || !slices.Equal(again, notes) {
			t.Fatalf("%q became %q: %v", notes, again, err)
		}
	})
}
