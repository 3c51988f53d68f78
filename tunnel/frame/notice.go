package frame

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxNotices is how many notes a NOTICE has at most. Each is at most MaxText
// bytes long.
const MaxNotices = 8

// CleanNotices returns what of notes may be sent: the first MaxNotices that
// are not empty, in valid UTF-8, without control and format characters, and
// cut to MaxText bytes. It does not change notes.
func CleanNotices(notes []string) []string {
	var clean []string
	for _, n := range notes {
		if len(clean) == MaxNotices {
			break
		}
		if n = cleanText(n); n != "" {
			clean = append(clean, n)
		}
	}
	return clean
}

// cleanText makes s fit for an operator's terminal and web page: what does not
// print becomes a space, what is no UTF-8 a question mark.
func cleanText(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r == utf8.RuneError:
			return '?'
		case !unicode.IsPrint(r):
			return ' '
		}
		return r
	}, s)
	return strings.TrimSpace(clip(strings.TrimSpace(s)))
}

// AppendNotice appends a NOTICE of these notes, which CleanNotices returned.
// None of them is a NOTICE too: it takes back those said before.
func AppendNotice(b []byte, notes []string) []byte {
	n := len(notes)
	for _, s := range notes {
		n += len(s)
	}
	b = AppendHeader(b, TypeNotice, 0, n)
	for _, s := range notes {
		b = append(b, byte(len(s)))
		b = append(b, s...)
	}
	return b
}

// ParseNotice reads the payload of a NOTICE. Its notes are cleaned as
// CleanNotices does: they are a stranger's words on their way to a person.
func ParseNotice(p []byte) ([]string, error) {
	var notes []string
	for len(p) > 0 {
		n := 1 + int(p[0])
		switch {
		case n > len(p):
			return nil, fmt.Errorf("%w: NOTICE cut off", ErrSyntax)
		case len(notes) == MaxNotices:
			return nil, fmt.Errorf("%w: NOTICE of more than %d notes", ErrSyntax, MaxNotices)
		}
		notes = append(notes, string(p[1:n]))
		p = p[n:]
	}
	return CleanNotices(notes), nil
}
