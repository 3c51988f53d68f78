package sipstream_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"sallyport/tunnel/sipstream"
)

const options = "OPTIONS sip:a@example.com SIP/2.0\r\nContent-Length: 0\r\n\r\n"

// cut feeds the pieces one by one and tells all that came out, in order.
func cut(c *sipstream.Cutter, pieces ...string) (out []string, err error) {
	for _, p := range pieces {
		c.Feed([]byte(p))
		for {
			msg, kind, err := c.Next()
			if err != nil {
				return out, err
			}
			if kind == sipstream.NeedMore {
				break
			}
			if kind == sipstream.Message {
				out = append(out, string(msg))
			} else {
				out = append(out, kind.String())
			}
		}
	}
	return out, nil
}

func request(headers, body string) string {
	return "MESSAGE sip:a@example.com SIP/2.0\r\n" + headers + "\r\n" + body
}

func TestStreamIsCutByContentLength(t *testing.T) {
	body5 := request("Content-Length: 5\r\n", "hello")
	cases := map[string]struct {
		in   []string
		want []string
	}{
		"one message":                   {[]string{options}, []string{options}},
		"two in one read":               {[]string{options + body5}, []string{options, body5}},
		"a body":                        {[]string{body5}, []string{body5}},
		"a compact length":              {[]string{request("l: 2\r\n", "hi")}, []string{request("l: 2\r\n", "hi")}},
		"odd case, space before colon":  {[]string{request("CONTENT-length \t:  2 \r\n", "hi")}, []string{request("CONTENT-length \t:  2 \r\n", "hi")}},
		"a folded length":               {[]string{request("Content-Length:\r\n  2\r\n", "hi")}, []string{request("Content-Length:\r\n  2\r\n", "hi")}},
		"no length is no body":          {[]string{request("", "") + options}, []string{request("", ""), options}},
		"leading zeros":                 {[]string{request("l: 0002\r\n", "hi")}, []string{request("l: 0002\r\n", "hi")}},
		"a status line":                 {[]string{"SIP/2.0 200 OK\r\n\r\n"}, []string{"SIP/2.0 200 OK\r\n\r\n"}},
		"another version passes":        {[]string{"OPTIONS sip:a SIP/7.0\r\n\r\n"}, []string{"OPTIONS sip:a SIP/7.0\r\n\r\n"}},
		"a body may hold anything":      {[]string{request("l: 6\r\n", "\x00\r\r\n\n\n")}, []string{request("l: 6\r\n", "\x00\r\r\n\n\n")}},
		"a name that only ends alike":   {[]string{request("X-Content-Length: 9\r\nxl: 9\r\n", "")}, []string{request("X-Content-Length: 9\r\nxl: 9\r\n", "")}},
		"a length in a folded value":    {[]string{request("Subject: a\r\n Content-Length: 9\r\n", "")}, []string{request("Subject: a\r\n Content-Length: 9\r\n", "")}},
		"a quoted NUL":                  {[]string{request("To: \"\\\x00\"\r\n", "")}, []string{request("To: \"\\\x00\"\r\n", "")}},
		"ping":                          {[]string{"\r\n\r\n"}, []string{"ping"}},
		"pong":                          {[]string{"\r\n"}, []string{"pong"}},
		"a ping in halves":              {[]string{"\r\n", "\r\n"}, []string{"pong", "ping"}},
		"a ping in quarters":            {[]string{"\r", "\n", "\r", "\n"}, []string{"pong", "ping"}},
		"pings around messages":         {[]string{"\r\n\r\n" + options + "\r\n\r\n" + options}, []string{"ping", options, "ping", options}},
		"a CRLF left after a message":   {[]string{options + "\r\n" + options}, []string{options, "pong", options}},
		"half of a ping, then no other": {[]string{"\r\n", options, "\r\n"}, []string{"pong", options, "pong"}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got, err := cut(sipstream.New(sipstream.Limits{}), tc.in...)
			if err != nil || fmt.Sprint(got) != fmt.Sprint(tc.want) {
				t.Errorf("got %q, %v\nwant %q", got, err, tc.want)
			}
		})
	}
}

func TestMessagesAreTheSameHoweverTheStreamIsSplit(t *testing.T) {
	stream := options + request("l: 5\r\n", "he\r\nl") + options
	whole, _ := cut(sipstream.New(sipstream.Limits{}), stream)
	for step := 1; step < len(stream); step++ {
		var pieces []string
		for rest := stream; rest != ""; {
			n := min(step, len(rest))
			pieces, rest = append(pieces, rest[:n]), rest[n:]
		}
		got, err := cut(sipstream.New(sipstream.Limits{}), pieces...)
		if err != nil || fmt.Sprint(got) != fmt.Sprint(whole) {
			t.Fatalf("in pieces of %d: got %q, %v", step, got, err)
		}
	}
}

func TestWhatCannotBeFramedIsAnError(t *testing.T) {
	cases := map[string]struct {
		in   string
		want error
	}{
		"two lengths":              {request("Content-Length: 3\r\nContent-Length: 5\r\n", "abcde"), sipstream.ErrLength},
		"two equal lengths":        {request("Content-Length: 3\r\nl: 3\r\n", "abc"), sipstream.ErrLength},
		"a negative length":        {request("Content-Length: -1\r\n", ""), sipstream.ErrLength},
		"a signed length":          {request("Content-Length: +1\r\n", "a"), sipstream.ErrLength},
		"an empty length":          {request("Content-Length:\r\n", ""), sipstream.ErrLength},
		"a list":                   {request("Content-Length: 1, 1\r\n", "a"), sipstream.ErrLength},
		"a length folded in two":   {request("Content-Length: 1\r\n 1\r\n", "a"), sipstream.ErrLength},
		"hexadecimal":              {request("Content-Length: 0x10\r\n", ""), sipstream.ErrLength},
		"a length beyond integers": {request("Content-Length: 99999999999999999999999999\r\n", ""), sipstream.ErrMessageTooLong},
		"a bare LF":                {"OPTIONS sip:a SIP/2.0\nContent-Length: 0\n\n", sipstream.ErrSyntax},
		"a bare LF in a value":     {request("Subject: a\nRoute: x\r\n", ""), sipstream.ErrSyntax},
		"a bare CR in a value":     {request("Subject: a\rRoute: x\r\n", ""), sipstream.ErrSyntax},
		"NUL in a value":           {request("Subject: a\x00\r\n", ""), sipstream.ErrSyntax},
		"HTTP":                     {"GET / HTTP/1.1\r\nHost: a\r\n\r\n", sipstream.ErrSyntax},
		"XMPP":                     {"<stream:stream", sipstream.ErrSyntax},
		"TLS":                      {"\x16\x03\x01", sipstream.ErrSyntax},
		"a method that is none":    {"OPT@ONS sip:a SIP/2.0\r\n\r\n", sipstream.ErrSyntax},
		"one word":                 {"HELLO\r\n\r\n", sipstream.ErrSyntax},
		"a folded first line":      {"OPTIONS sip:a SIP/2.0\r\n x\r\n\r\n", sipstream.ErrSyntax},
		"CR and then no LF":        {"\rOPTIONS", sipstream.ErrSyntax},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			c := sipstream.New(sipstream.Limits{})
			got, err := cut(c, tc.in)
			if !errors.Is(err, tc.want) {
				t.Fatalf("got %q, %v, want %v", got, err, tc.want)
			}
			if _, again := cut(c, options); !errors.Is(again, tc.want) {
				t.Errorf("the error did not last: %v", again)
			}
		})
	}
}

func TestLimitsHoldToTheByte(t *testing.T) {
	limits := sipstream.Limits{MaxHeader: 100, MaxMessage: 150}
	header := func(n int) string {
		return request("S: "+strings.Repeat("x", n-len(request("S: \r\n", "")))+"\r\n", "")
	}
	body := func(n int) string {
		h := request("l: 999\r\n", "")
		return request(fmt.Sprintf("l: %03d\r\n", n-len(h)), strings.Repeat("b", n-len(h)))
	}
	if got, err := cut(sipstream.New(limits), header(100), body(150)); err != nil || len(got) != 2 {
		t.Errorf("at the limits: %d messages, %v", len(got), err)
	}
	if _, err := cut(sipstream.New(limits), header(101)); !errors.Is(err, sipstream.ErrHeaderTooLong) {
		t.Errorf("a header block of 101: %v", err)
	}
	if _, err := cut(sipstream.New(limits), body(151)); !errors.Is(err, sipstream.ErrMessageTooLong) {
		t.Errorf("a message of 151: %v", err)
	}
	if _, err := cut(sipstream.New(limits), "OPTIONS "+strings.Repeat("x", 93)); !errors.Is(err, sipstream.ErrHeaderTooLong) {
		t.Errorf("a header block without end: %v", err)
	}
}

func TestIdleCutterHoldsNoBuffer(t *testing.T) {
	c := sipstream.New(sipstream.Limits{})
	if _, err := cut(c, options+"\r\n\r\n"+options); err != nil {
		t.Fatal(err)
	}
	if n := sipstream.Held(c); n != 0 {
		t.Errorf("holds %d bytes between messages", n)
	}
}

func TestWholeMessagesAreNotCopied(t *testing.T) {
	c := sipstream.New(sipstream.Limits{})
	in := []byte(options + options)
	if n := testing.AllocsPerRun(100, func() {
		c.Feed(in)
		for {
			msg, kind, err := c.Next()
			if err != nil {
				t.Fatal(err)
			}
			if kind == sipstream.NeedMore {
				return
			}
			if len(msg) != len(options) {
				t.Fatalf("message %q", msg)
			}
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestWhatIsNotWholeOutlivesTheBufferItCameIn(t *testing.T) {
	c := sipstream.New(sipstream.Limits{})
	var out []string
	buf := make([]byte, 7)
	for rest := options + options; rest != ""; {
		n := copy(buf, rest)
		rest = rest[n:]
		c.Feed(buf[:n])
		for {
			msg, kind, err := c.Next()
			if err != nil {
				t.Fatal(err)
			}
			if kind == sipstream.NeedMore {
				break
			}
			out = append(out, string(msg))
		}
		clear(buf)
	}
	if fmt.Sprint(out) != fmt.Sprint([]string{options, options}) {
		t.Errorf("got %q", out)
	}
}

// FuzzCutter: whatever comes, in whatever pieces, the result is the same, the
// bytes add up, and no message exceeds the limits.
func FuzzCutter(f *testing.F) {
	f.Add([]byte(options+"\r\n\r\n"+request("l: 2\r\n", "hi")), uint8(3))
	f.Add([]byte(request("Content-Length: 3\r\nContent-Length: 5\r\n", "abcde")), uint8(1))
	f.Add([]byte("\r\n\r\n\r\n\r"), uint8(2))
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"), uint8(7))
	limits := sipstream.Limits{MaxHeader: 256, MaxMessage: 512}
	f.Fuzz(func(t *testing.T, in []byte, step uint8) {
		whole, werr := cut(sipstream.New(limits), string(in))
		var pieces []string
		for rest := string(in); rest != ""; {
			n := min(int(step)+1, len(rest))
			pieces, rest = append(pieces, rest[:n]), rest[n:]
		}
		split, serr := cut(sipstream.New(limits), pieces...)
		if (werr == nil) != (serr == nil) {
			t.Fatalf("whole: %v, in pieces: %v", werr, serr)
		}
		if a, b := messages(whole), messages(split); a != b {
			t.Fatalf("whole: %q\npieces: %q", a, b)
		}
		for _, m := range whole {
			if len(m) > limits.MaxMessage {
				t.Fatalf("a message of %d bytes", len(m))
			}
		}
	})
}

// messages leaves keep-alives out: how they are told depends on the split.
func messages(out []string) string {
	var b strings.Builder
	for _, m := range out {
		if m != "ping" && m != "pong" {
			b.WriteString(m)
			b.WriteString("|")
		}
	}
	return b.String()
}

func BenchmarkCutter(b *testing.B) {
	msg := []byte(request("Via: SIP/2.0/TLS 192.0.2.1;branch=z9hG4bK1\r\nSubject: "+strings.Repeat("x", 400)+"\r\nl: 100\r\n", strings.Repeat("b", 100)))
	c := sipstream.New(sipstream.Limits{})
	b.SetBytes(int64(len(msg)))
	b.ReportAllocs()
	for b.Loop() {
		c.Feed(msg)
		if _, kind, err := c.Next(); kind != sipstream.Message || err != nil {
			b.Fatal(kind, err)
		}
		c.Next()
	}
}
