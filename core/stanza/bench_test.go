package stanza_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"runtime"
	"testing"

	"sallyport/core/stanza"
)

const chat = `<message xmlns='jabber:client' from='alice@example.com/phone.1a2b3c' to='bob@example.com/desk' type='chat' id='6f1d5d0e-6d0c-4b8c-9a3f-0e2c1b7a9d55'>` +
	`<body>Shall we meet at the usual place at half past seven?</body><active xmlns='http://jabber.org/protocol/chatstates'/>` +
	`<request xmlns='urn:xmpp:receipts'/><origin-id xmlns='urn:xmpp:sid:0' id='6f1d5d0e-6d0c-4b8c-9a3f-0e2c1b7a9d55'/></message>`

// BenchmarkChatStanza is the cutting and the inspection of one chat message of
// 400 bytes: ours, with all that it checks; a splitter that looks for tags and
// no further, and searches for what it is asked for; and encoding/xml, which
// does not keep the bytes.
func BenchmarkChatStanza(b *testing.B) {
	text := []byte(chat)
	run := func(name string, one func() bool) {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				if !one() {
					b.Fatal("not read")
				}
			}
		})
	}
	c := stanza.New(stanza.Limits{})
	c.Feed([]byte(header))
	if _, _, err := c.Next(); err != nil {
		b.Fatal(err)
	}
	run("cutter", func() bool {
		c.Feed(text)
		kind, e, err := c.Next()
		good := err == nil && kind == stanza.Whole && e.Child("jabber:client", "body") != nil && e.Attr("type") != nil &&
			e.Attr("from") != nil && e.Attr("to") != nil && e.Attr("id") != nil
		kind, _, _ = c.Next()
		return good && kind == stanza.NeedMore
	})
	s := splitter{open: true}
	run("splitter", func() bool {
		s.buf = append(s.buf, text...)
		e := s.next()
		return e != nil && nameOf(e) == "message" && valueOf(e, "type") == "chat" && valueOf(e, "from") != "" && valueOf(e, "to") != "" &&
			valueOf(e, "id") != "" && bytes.Contains(e, []byte("<body"))
	})
	run("encoding-xml", func() bool {
		d := xml.NewDecoder(bytes.NewReader(text))
		for {
			if _, err := d.RawToken(); err != nil {
				return errors.Is(err, io.EOF)
			}
		}
	})
}

// splitter is the least that cuts well-formed input.
type splitter struct {
	buf  []byte
	open bool
}

// next returns a copy of the element that buf begins with, nil if it is not
// whole.
func (s *splitter) next() []byte {
	for i, depth := 0, 0; ; {
		k := bytes.IndexByte(s.buf[i:], '<')
		if k < 0 || i+k+1 >= len(s.buf) {
			return nil
		}
		i += k
		end := tagEndOf(s.buf[i:])
		if end < 0 {
			return nil
		}
		switch {
		case s.buf[i+1] == '/':
			depth--
		case s.buf[i+end-2] != '/':
			depth++
		}
		if i += end; depth == 0 {
			out := bytes.Clone(s.buf[:i])
			s.buf = append(s.buf[:0], s.buf[i:]...)
			return out
		}
	}
}

// tagEndOf is the length of the tag that b begins with.
func tagEndOf(b []byte) int {
	var quote byte
	for i, x := range b {
		switch {
		case quote != 0:
			if x == quote {
				quote = 0
			}
		case x == '"' || x == '\'':
			quote = x
		case x == '>':
			return i + 1
		}
	}
	return -1
}

func nameOf(b []byte) string {
	n := bytes.IndexAny(b, " />\t\r\n")
	return string(b[1:n])
}

func valueOf(b []byte, name string) string {
	tag := b[:tagEndOf(b)]
	_, rest, found := bytes.Cut(tag, []byte(" "+name+"="))
	if !found || len(rest) == 0 {
		return ""
	}
	value, _, _ := bytes.Cut(rest[1:], rest[:1])
	return string(value)
}

// A parked session has two of them.
func TestAnIdleStreamHoldsNoBuffer(t *testing.T) {
	const streams, most = 1000, 512
	text := []byte(header + chat)
	all := make([]*stanza.Cutter, streams)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range all {
		all[i] = stanza.New(stanza.Limits{})
		all[i].Feed(bytes.Clone(text))
		for kind := stanza.Header; kind != stanza.NeedMore; {
			var err error
			if kind, _, err = all[i].Next(); err != nil {
				t.Fatal(err)
			}
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if each := (int64(after.HeapAlloc) - int64(before.HeapAlloc)) / streams; each > most {
		t.Errorf("%d bytes for an idle stream, want at most %d", each, most)
	} else {
		t.Logf("%d bytes for an idle stream", each)
	}
	runtime.KeepAlive(all)
}
