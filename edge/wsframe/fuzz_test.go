package wsframe_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"

	"sallyport/edge/wsframe"
)

// canned is a connection whose client has said all it will say.
type canned struct {
	io.Reader
	net.Conn
}

// Read says in the end that it ended in the middle: the library takes a plain
// EOF within a message for the end of that message.
func (c canned) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}
func (canned) Write(p []byte) (int, error)      { return len(p), nil }
func (canned) Close() error                     { return nil }
func (canned) SetDeadline(time.Time) error      { return nil }
func (canned) SetReadDeadline(time.Time) error  { return nil }
func (canned) SetWriteDeadline(time.Time) error { return nil }

// taken is an HTTP server's side of an upgrade.
type taken struct {
	http.ResponseWriter
	conn net.Conn
}

func (taken) Header() http.Header { return http.Header{} }
func (taken) WriteHeader(int)     {}
func (t taken) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return t.conn, bufio.NewReadWriter(bufio.NewReader(t.conn), bufio.NewWriter(t.conn)), nil
}

// reference tells what coder/websocket makes of the same bytes, except that it
// does not look whether texts are UTF-8.
func reference(t *testing.T, in []byte, limit int) (out []string) {
	note := func(kind string, p []byte) { out = append(out, fmt.Sprintf("%s %q", kind, p)) }
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "/ws", nil)
	for k, v := range map[string]string{"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="} {
		req.Header.Set(k, v)
	}
	ws, err := websocket.Accept(taken{conn: canned{Reader: strings.NewReader(string(in))}}, req, &websocket.AcceptOptions{
		OnPingReceived: func(_ context.Context, p []byte) bool { note("ping", p); return true },
		OnPongReceived: func(_ context.Context, p []byte) { note("pong", p) },
	})
	if err != nil {
		t.Fatal(err)
	}
	ws.SetReadLimit(int64(limit))
	defer func() { _ = ws.CloseNow() }()
	for {
		typ, p, err := ws.Read(t.Context())
		var closed websocket.CloseError
		switch {
		case errors.As(err, &closed) && utf8.ValidString(closed.Reason):
			return append(out, fmt.Sprintf("close %d", closed.Code))
		case err != nil, typ == websocket.MessageText && !utf8.Valid(p):
			return out
		}
		note(map[websocket.MessageType]string{websocket.MessageText: "text", websocket.MessageBinary: "binary"}[typ], p)
	}
}

// ours tells what a Cutter makes of them, fed in pieces.
func ours(in []byte, limit, step int) (out []string, c *wsframe.Cutter) {
	c = wsframe.New(limit)
	for len(in) > 0 {
		n := min(step, len(in))
		c.Feed(append([]byte(nil), in[:n]...))
		in = in[n:]
		for {
			p, kind, err := c.Next()
			if err != nil {
				return out, c
			}
			if kind == wsframe.NeedMore {
				break
			}
			if kind == wsframe.Close {
				if status, _, err := wsframe.ParseClose(p); err == nil {
					out = append(out, fmt.Sprintf("close %d", status))
				}
				return out, c
			}
			out = append(out, fmt.Sprintf("%s %q", kind, p))
		}
	}
	return out, c
}

// FuzzCutter holds the Cutter against coder/websocket: both make the same of
// the same bytes, and it does not matter in which pieces they come.
func FuzzCutter(f *testing.F) {
	for _, seed := range []string{
		masked(fin|text, "hi") + masked(fin|closing, "\x03\xe8"),
		masked(text, "a") + masked(fin|ping, "p") + masked(fin|cont, "b"),
		masked(fin|binary, long[:300]) + masked(fin|pong, ""),
		masked(fin|text, long[:1200]), masked(fin|cont, "x"), "\x81\x01x",
		masked(fin|3, ""), masked(fin|0x40|text, "x"), masked(text, "a") + masked(text, "b"),
		masked(ping, "x"), masked(fin|closing, "\x03"), masked(fin|closing, "\x03\xed"),
		"\x81\xff\x80\x00\x00\x00\x00\x00\x00\x00abcd", masked(text, "") + masked(cont, "") + masked(fin|cont, ""),
	} {
		f.Add([]byte(seed), uint8(3))
	}
	f.Fuzz(func(t *testing.T, in []byte, step uint8) {
		const limit = 1000
		want := reference(t, in, limit)
		for _, n := range []int{len(in) + 1, int(step) + 1} {
			got, c := ours(in, limit, n)
			if strings.Join(got, "\n") != strings.Join(want, "\n") {
				t.Fatalf("in pieces of %d\ngot  %q\nwant %q", n, got, want)
			}
			if held := wsframe.Held(c); held > 4*limit {
				t.Fatalf("holds %d bytes", held)
			}
		}
	})
}
