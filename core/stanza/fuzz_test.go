package stanza_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"sallyport/core/stanza"
)

// FuzzParse reads each text by encoding/xml, too. What we take, it must take,
// with the same name, attributes and children; what it takes, we may refuse
// only for a reason that XMPP gives.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		`<a/>`, `<m xmlns='jabber:client' to="x"><body>1 &lt; 2</body></m>`, `<a><![CDATA[ <b> ]]></a>`, `<a b='&#x41;&#65;'/>`,
		`<p:a xmlns:p='u'><p:b p:c='1'/></p:a>`, `<a xml:lang='de'>ü</a>`, `<a></a >`, `<a` + "\n\tb = 'c'" + `/>`, `<é/>`,
		`<a xmlns='x'><b xmlns=''/></a>`, `<!---->`, `<a>]]</a>`, `<a:b:c/>`, `<a b='x'c='y'/>`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		e, err := stanza.Parse(text, stanza.Limits{})
		o, ours := oracle(text)
		if err != nil {
			if ours == nil && excused(text, err) == "" {
				t.Fatalf("%q refused: %v", text, err)
			}
			return
		}
		if ours != nil {
			if strings.ContainsFunc(string(text), func(r rune) bool { return r >= 0x80 }) {
				return // encoding/xml has an older idea of names
			}
			t.Fatalf("%q taken, but %v", text, ours)
		}
		if got := (seen{string(e.Space), string(e.Local), nil, nil}); got.space != o.space || got.local != o.local {
			t.Fatalf("%q: name {%s}%s, want {%s}%s", text, got.space, got.local, o.space, o.local)
		}
		var attrs, children []string
		for _, a := range e.Attrs {
			attrs = append(attrs, string(a.Local)+"="+stanza.Unescape(a.Value))
		}
		for _, c := range e.Children {
			children = append(children, string(c.Space)+"|"+string(c.Local))
		}
		if !slices.Equal(attrs, o.attrs) || !slices.Equal(children, o.children[:min(64, len(o.children))]) {
			t.Fatalf("%q: %q %q, want %q %q", text, attrs, children, o.attrs, o.children)
		}
	})
}

type seen struct {
	space, local    string
	attrs, children []string
}

// oracle reads one element by encoding/xml.
func oracle(text []byte) (s seen, err error) {
	d := xml.NewDecoder(bytes.NewReader(text))
	depth := 0
	for done := false; ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) && done {
			return s, nil
		}
		if err != nil {
			return s, err
		}
		if done {
			return s, errors.New("more behind the element")
		}
		switch x := token.(type) {
		case xml.StartElement:
			switch depth {
			case 0:
				s.space, s.local = x.Name.Space, x.Name.Local
				for _, a := range x.Attr {
					if a.Name.Space != "xmlns" && a.Name.Local != "xmlns" || a.Name.Space != "" && a.Name.Space != "xmlns" {
						s.attrs = append(s.attrs, a.Name.Local+"="+a.Value)
					}
				}
			case 1:
				s.children = append(s.children, x.Name.Space+"|"+x.Name.Local)
			}
			depth++
		case xml.EndElement:
			depth--
			done = depth == 0
		case xml.CharData:
			if depth == 0 {
				return s, errors.New("text outside")
			}
		default:
			return s, errors.New("restricted")
		}
	}
}

// excused says why we may refuse what encoding/xml takes.
func excused(text []byte, err error) string {
	switch s := string(text); {
	case errors.Is(err, stanza.ErrPrefix):
		return "encoding/xml lets a prefix stand for itself"
	case errors.Is(err, stanza.ErrTooDeep), errors.Is(err, stanza.ErrTooLong):
		return "a bound"
	case strings.Contains(s, "xmlns"):
		return "declarations are read strictly"
	case strings.ContainsFunc(s, func(r rune) bool { return r >= 0x80 }):
		return "names of another edition of XML"
	case strings.ContainsAny(s, "=:") || strings.Contains(s, "]]>") || strings.Contains(s, "&#"):
		return "encoding/xml takes doubled attributes, none between two, odd colons, long references, ]]> in text"
	}
	return ""
}

// FuzzStream feeds a stream at once and byte by byte; what is seen is the same.
func FuzzStream(f *testing.F) {
	f.Add([]byte(header+`<a>ü&amp;]]</a><b c='>'/><![CDATA[]]></stream:stream>`), uint8(1))
	f.Add([]byte(header+`<a><![CDATA[ ]]]]>x</a> <b/>`), uint8(3))
	f.Fuzz(func(t *testing.T, text []byte, n uint8) {
		whole, err1 := read(string(text))
		split, err2 := read(pieces(string(text), int(n%16)+1)...)
		if !slices.Equal(whole, split) || (err1 == nil) != (err2 == nil) {
			t.Fatalf("%q at once: %q, %v; in pieces of %d: %q, %v", text, whole, err1, n%16+1, split, err2)
		}
	})
}
