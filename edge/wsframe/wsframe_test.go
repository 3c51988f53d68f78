package wsframe_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"sallyport/edge/wsframe"
)

// masked makes a client's frame.
func masked(first byte, payload string) string {
	b := []byte{first, 0x80}
	switch n := len(payload); {
	case n < 126:
		b[1] |= byte(n)
	case n < 1<<16:
		b = append(b[:1], 0xfe, byte(n>>8), byte(n))
	default:
		b = append(b[:1], 0xff, 0, 0, 0, 0, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	}
	mask := [4]byte{0xa1, 2, 0xff, 4}
	b = append(b, mask[:]...)
	for i := range len(payload) {
		b = append(b, payload[i]^mask[i%4])
	}
	return string(b)
}

// cut feeds the pieces one by one and tells what came out.
func cut(c *wsframe.Cutter, pieces ...string) (out []string, err error) {
	for _, p := range pieces {
		c.Feed([]byte(p))
		for {
			payload, kind, err := c.Next()
			if err != nil {
				return out, err
			}
			if kind == wsframe.NeedMore {
				break
			}
			out = append(out, fmt.Sprintf("%v %s", kind, payload))
		}
	}
	return out, nil
}

const text, binary, cont, closing, ping, pong, fin = 1, 2, 0, 8, 9, 10, 0x80

var long = strings.Repeat("0123456789", 7000)

func TestFramesAreCutHoweverTheyAreSplit(t *testing.T) {
	cases := map[string]struct {
		in   string
		want []string
	}{
		"text":                       {masked(fin|text, "hi"), []string{"text hi"}},
		"binary":                     {masked(fin|binary, "\xff"), []string{"binary \xff"}},
		"nothing":                    {masked(fin|text, ""), []string{"text "}},
		"a length of two bytes":      {masked(fin|text, long[:300]), []string{"text " + long[:300]}},
		"a length of eight bytes":    {masked(fin|text, long), []string{"text " + long}},
		"two messages":               {masked(fin|text, "a") + masked(fin|text, "b"), []string{"text a", "text b"}},
		"fragments":                  {masked(text, "a") + masked(cont, "") + masked(fin|cont, "b"), []string{"text ab"}},
		"a ping within a message":    {masked(binary, "a") + masked(fin|ping, "x") + masked(fin|cont, "b"), []string{"ping x", "binary ab"}},
		"a pong and a close":         {masked(fin|pong, "") + masked(fin|closing, "\x03\xe8bye"), []string{"pong ", "close \x03\xe8bye"}},
		"the longest control frame":  {masked(fin|ping, long[:125]), []string{"ping " + long[:125]}},
		"a message after fragments":  {masked(text, "a") + masked(fin|cont, "b") + masked(fin|binary, "c"), []string{"text ab", "binary c"}},
		"a letter in two fragments":  {masked(text, "\xc3") + masked(fin|cont, "\xa4"), []string{"text ä"}},
		"an empty first fragment":    {masked(text, "") + masked(fin|cont, "b"), []string{"text b"}},
		"not the shortest of length": {"\x81\xfe\x00\x01\x00\x00\x00\x00x", []string{"text x"}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			steps := []int{1, 2, 3, 7, 8, 9, 1000, len(tc.in)}
			for _, step := range steps {
				var pieces []string
				for rest := tc.in; rest != ""; {
					n := min(step, len(rest))
					pieces, rest = append(pieces, rest[:n]), rest[n:]
				}
				c := wsframe.New(100_000)
				got, err := cut(c, pieces...)
				if err != nil || fmt.Sprint(got) != fmt.Sprint(tc.want) {
					t.Fatalf("in pieces of %d: got %.80q, %v", step, got, err)
				}
				if !c.Idle() {
					t.Fatalf("in pieces of %d: not idle at the end", step)
				}
			}
		})
	}
}

func TestIdleIsBetweenMessagesOnly(t *testing.T) {
	all := masked(text, "ab") + masked(fin|ping, "") + masked(fin|cont, "c")
	for n := 1; n < len(all); n++ {
		c := wsframe.New(100)
		if _, err := cut(c, all[:n]); err != nil {
			t.Fatal(err)
		}
		if c.Idle() {
			t.Errorf("idle after %d of %d bytes", n, len(all))
		}
	}
}

func TestFramesThatMustNotBeAreErrors(t *testing.T) {
	cases := map[string]struct {
		in   string
		want error
	}{
		"a continuation of nothing":  {masked(fin|cont, "x"), wsframe.ErrProtocol},
		"a message within a message": {masked(text, "x") + masked(fin|text, "y"), wsframe.ErrProtocol},
		"not masked":                 {"\x81\x01x", wsframe.ErrProtocol},
		"a fragmented ping":          {masked(ping, ""), wsframe.ErrProtocol},
		"a long ping":                {masked(fin|ping, long[:126]), wsframe.ErrProtocol},
		"opcode 3":                   {masked(fin|3, ""), wsframe.ErrProtocol},
		"opcode 11":                  {masked(fin|11, ""), wsframe.ErrProtocol},
		"reserved bit 1":             {masked(fin|0x40|text, ""), wsframe.ErrProtocol},
		"reserved bit 2":             {masked(fin|0x20|text, ""), wsframe.ErrProtocol},
		"reserved bit 3":             {masked(fin|0x10|text, ""), wsframe.ErrProtocol},
		"a negative length":          {"\x81\xff\x80\x00\x00\x00\x00\x00\x00\x00abcd", wsframe.ErrProtocol},
		"a message too long":         {masked(fin|text, long[:101]), wsframe.ErrTooBig},
		"fragments too long":         {masked(text, long[:60]) + masked(fin|cont, long[:41]), wsframe.ErrTooBig},
		"a text that is not UTF-8":   {masked(fin|text, "\xff"), wsframe.ErrText},
		"half a letter":              {masked(text, "\xc3") + masked(fin|cont, ""), wsframe.ErrText},
		"a length that is absurd":    {"\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xffabcd", wsframe.ErrTooBig},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			c := wsframe.New(100)
			if got, err := cut(c, tc.in); !errors.Is(err, tc.want) || len(got) > 0 {
				t.Errorf("got %q, %v", got, err)
			}
			if _, _, err := c.Next(); !errors.Is(err, tc.want) {
				t.Errorf("then %v", err)
			}
		})
	}
}

func TestWhatIsPromisedIsNotHeldReadyFor(t *testing.T) {
	var before, after [1]float64
	c := wsframe.New(1 << 30)
	before[0] = testing.AllocsPerRun(1, func() {})
	c.Feed([]byte("\x81\xff\x00\x00\x00\x00\x3f\xff\xff\xffabcd12345"))
	after[0] = testing.AllocsPerRun(1, func() { _, _, _ = c.Next() })
	if _, kind, err := c.Next(); kind != wsframe.NeedMore || err != nil || after[0] > before[0]+1 {
		t.Errorf("%v, %v, %v allocations", kind, err, after[0])
	}
	if n := wsframe.Held(c); n > 64 {
		t.Errorf("holds %d bytes for 5", n)
	}
}

func TestMessageInOnePieceCostsNothing(t *testing.T) {
	c := wsframe.New(100_000)
	frame := []byte(masked(fin|text, long[:2000]))
	buf := make([]byte, len(frame))
	if n := testing.AllocsPerRun(100, func() {
		c.Feed(buf[:copy(buf, frame)])
		for {
			if _, kind, _ := c.Next(); kind == wsframe.NeedMore {
				return
			}
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestFramesMadeAreReadBack(t *testing.T) {
	for _, n := range []int{0, 1, 125, 126, 65535, 65536} {
		payload := bytes.Repeat([]byte("x"), n)
		b := wsframe.Append(nil, wsframe.Binary, payload)
		if len(b) > n+wsframe.MaxHead || b[0] != fin|binary || b[1]&0x80 != 0 || !bytes.HasSuffix(b, payload) {
			t.Errorf("%d bytes: % x", n, b[:min(len(b), 12)])
		}
	}
}

func TestFragmentsMadeAreOneMessage(t *testing.T) {
	b := wsframe.AppendFragment(nil, wsframe.Text, true, false, []byte("a"))
	b = wsframe.Append(b, wsframe.Pong, nil)
	b = wsframe.AppendFragment(b, wsframe.Text, false, false, []byte("b"))
	b = wsframe.AppendFragment(b, wsframe.Text, false, true, nil)
	if want := "\x01\x01a\x8a\x00\x00\x01b\x80\x00"; string(b) != want {
		t.Errorf("% x, want % x", b, want)
	}
}

func TestCloseStatus(t *testing.T) {
	for status, good := range map[int]bool{999: false, 1000: true, 1004: false, 1005: false, 1006: false, 1014: true, 1015: false, 1016: false, 2999: false, 3000: true, 4999: true, 5000: false} {
		got, text, err := wsframe.ParseClose(wsframe.ClosePayload(status, "why"))
		if good != (err == nil) || good && (got != status || text != "why") {
			t.Errorf("%d: %d %q %v", status, got, text, err)
		}
	}
	if status, _, err := wsframe.ParseClose(nil); status != wsframe.StatusNone || err != nil {
		t.Errorf("none: %d, %v", status, err)
	}
	if _, _, err := wsframe.ParseClose([]byte{3}); !errors.Is(err, wsframe.ErrProtocol) {
		t.Errorf("half: %v", err)
	}
	if _, _, err := wsframe.ParseClose([]byte("\x03\xe8\xff")); !errors.Is(err, wsframe.ErrText) {
		t.Errorf("not UTF-8: %v", err)
	}
	if p := wsframe.ClosePayload(1000, strings.Repeat("ä", 100)); len(p) != 124 { // not half a letter
		t.Errorf("%d bytes", len(p))
	}
}
