package sipmsg

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"sallyport/tunnel/sipstream"
)

// FuzzEdgeAndCoreAgree: of a stream that the edge cuts into messages, the core
// sees each end where the edge saw it end, and what the core writes the next
// hop cuts into that one message. Where two disagree, requests are smuggled.
func FuzzEdgeAndCoreAgree(f *testing.F) {
	files, _ := filepath.Glob("testdata/*/*.dat")
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Add([]byte("\r\n\r\n" + invite("l:\r\n 4", "Route: <sip:a;lr>") + "\r\n" + invite()))
	f.Fuzz(func(t *testing.T, stream []byte) {
		edge := sipstream.New(sipstream.Limits{})
		edge.Feed(stream)
		for {
			msg, kind, err := edge.Next()
			if err != nil || kind == sipstream.NeedMore {
				return
			}
			if kind != sipstream.Message {
				continue
			}
			m, fault := Parse(msg)
			if fault != nil {
				continue // refused, so it goes nowhere
			}
			if _, body, _ := bytes.Cut(msg, []byte("\r\n\r\n")); !bytes.Equal(m.Body(), body) {
				t.Fatalf("the edge sees the body %q, the core %q", body, m.Body())
			}
			out := Bytes(m)
			next := sipstream.New(sipstream.Limits{MaxHeader: 2 * len(out), MaxMessage: 2 * len(out)})
			next.Feed(out)
			if got, kind, err := next.Next(); kind != sipstream.Message || !bytes.Equal(got, out) {
				t.Fatalf("the core writes %q, of which the next hop sees %q, %v, %v", out, got, kind, err)
			}
		}
	})
}
