package e2e

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"sallyport/edge"
	"sallyport/tunnel/unit"
)

// hurried is a town whose edge waits a second for handshakes and first messages.
func hurried(t *testing.T) *Town {
	t.Helper()
	town, _ := inTown(t, Config{Edge: func(c *edge.Config) {
		unlimited(c)
		second := unit.Duration{Duration: time.Second}
		c.Limits.HandshakeTimeout, c.Limits.FirstMessageTimeout = second, second
	}})
	return town
}

// endsIn waits until the edge closes a connection, and says whether it took as
// long as a deadline does, or was at once.
func endsIn(t *testing.T, c net.Conn, start time.Time, deadline time.Duration) {
	t.Helper()
	_ = c.SetReadDeadline(start.Add(wireLimit))
	_, err := io.Copy(io.Discard, c)
	took := time.Since(start)
	var late net.Error
	switch {
	case errors.As(err, &late) && late.Timeout():
		t.Fatalf("it lives on after %v", took)
	case took < deadline*9/10:
		t.Errorf("it ended after %v already, before its deadline of %v", took, deadline)
	case took > deadline+wireLimit/2:
		t.Errorf("it took %v, want %v", took, deadline)
	}
}

// knock opens a bare TCP connection to a listener of the edge.
func knock(t *testing.T, addr string) net.Conn {
	t.Helper()
	c := must[net.Conn](t)(new(net.Dialer).DialContext(t.Context(), "tcp", addr))
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestTLSGarbageEndsTheConnectionAtOnce(t *testing.T) {
	hello := "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
	noise := make([]byte, 4096)
	for i := range noise {
		noise[i] = byte(rand.Uint32() | 0x80) // begins no record
	}
	cases := map[string]string{
		"random bytes":                  string(noise),
		"HTTP without TLS":              "GET /ws HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"SIP without TLS":               options,
		"SSL 2":                         "\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10" + strings.Repeat("\x01", 40),
		"a record of 65,535 bytes":      "\x16\x03\x01\xff\xff" + strings.Repeat("\x01", 65535),
		"a handshake of 16 MB":          "\x16\x03\x01\x40\x00\x01\xff\xff\xff" + strings.Repeat("\x00", 0x4000-4),
		"a hello that contradicts":      hello + strings.Repeat("\xff", 0x200-6),
		"application data before all":   "\x17\x03\x03\x00\x05hello",
		"an alert":                      "\x15\x03\x01\x00\x02\x02\x28",
		"a heartbeat":                   "\x18\x03\x02\x00\x03\x01\x40\x00",
		"a change of nothing, often":    strings.Repeat("\x14\x03\x03\x00\x01\x01", 100),
		"records of no bytes, for ever": strings.Repeat("\x16\x03\x01\x00\x00", 1000),
	}
	town := hurried(t)
	for name, say := range cases {
		for _, addr := range []string{town.SIPS, town.HTTPS} {
			t.Run(name, func(t *testing.T) {
				c := knock(t, addr)
				start := time.Now()
				_, _ = io.WriteString(c, say)
				endsIn(t, c, start, 0)
				if took := time.Since(start); took > 900*time.Millisecond {
					t.Errorf("it took %v: a deadline, not a verdict", took)
				}
			})
		}
	}
	town.plug(t, overTLS).alive(1)
	town.plug(t, overText).alive(2)
}

// TestSlowLoris: who says less than a whole message in time is ended in time,
// however diligently it says it.
func TestSlowLoris(t *testing.T) {
	hello := "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + strings.Repeat("\x20", 0x200-6)
	town := hurried(t)
	cases := map[string]struct {
		open func(t *testing.T) net.Conn
		say  string
	}{
		"silent before TLS":             {func(t *testing.T) net.Conn { return knock(t, town.SIPS) }, ""},
		"silent before TLS, on https":   {func(t *testing.T) net.Conn { return knock(t, town.HTTPS) }, ""},
		"in the handshake":              {func(t *testing.T) net.Conn { return knock(t, town.SIPS) }, hello},
		"in the handshake, on https":    {func(t *testing.T) net.Conn { return knock(t, town.HTTPS) }, hello},
		"silent after TLS":              {func(t *testing.T) net.Conn { return town.dial(t, overTLS).conn }, ""},
		"silent after TLS, on https":    {func(t *testing.T) net.Conn { return town.dial(t, overText).conn }, ""},
		"silent after the upgrade":      {func(t *testing.T) net.Conn { return town.plug(t, overText).conn }, ""},
		"in the HTTP request":           {func(t *testing.T) net.Conn { return town.dial(t, overText).conn }, upgradeRequest("")},
		"in the first line":             {func(t *testing.T) net.Conn { return town.dial(t, overTLS).conn }, options},
		"in a header":                   {func(t *testing.T) net.Conn { return town.dial(t, overTLS).conn }, "X: " + strings.Repeat("y", 400)},
		"in a body":                     {func(t *testing.T) net.Conn { return town.dial(t, overTLS).conn }, body(1000)},
		"in a frame":                    {func(t *testing.T) net.Conn { return town.plug(t, overText).conn }, frame(frameFin|frameText, options)},
		"with keep-alives that are not": {func(t *testing.T) net.Conn { return town.dial(t, overTLS).conn }, strings.Repeat("\r", 1)},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := tc.open(t)
			start := time.Now()
			say := tc.say
			if strings.HasPrefix(name, "in a body") {
				head := strings.Index(say, "\r\n\r\n") + 4
				_, _ = io.WriteString(c, say[:head])
				say = say[head:]
			}
			done := make(chan struct{})
			defer func() { _ = c.Close(); <-done }()
			go func() { // a byte every 10 ms: 100 by the deadline, of more than that
				defer close(done)
				for i := range len(say) {
					if _, err := io.WriteString(c, say[i:i+1]); err != nil {
						return
					}
					<-time.After(10 * time.Millisecond)
				}
			}()
			endsIn(t, c, start, time.Second)
		})
	}
}

// body is a request with a body of so many bytes.
func body(n int) string {
	return strings.Replace(options, "Content-Length: 0\r\n\r\n", fmt.Sprintf("Content-Length: %d\r\n\r\n", n), 1) + strings.Repeat("b", n)
}

// TestEndlessAndAbsurdMessagesEndTheFlowAtOnce: nothing is kept of what cannot
// be framed.
func TestEndlessAndAbsurdMessagesEndTheFlowAtOnce(t *testing.T) {
	length := func(v string) string {
		return strings.Replace(options, "Content-Length: 0", "Content-Length: "+v, 1) + "body"
	}
	first := options[:strings.Index(options, "\r\n")+2]
	cases := map[string]string{
		"headers without end":              first + strings.Repeat("X-Header: some value\r\n", 4000),
		"a header line without end":        first + "X: " + strings.Repeat("y", 70_000),
		"a folded header without end":      first + "X: y\r\n" + strings.Repeat(" y\r\n", 20_000),
		"a first line without end":         "OPTIONS sip:" + strings.Repeat("x", 70_000),
		"a method without end":             strings.Repeat("X", 70_000),
		"a body without end":               length("1000000"),
		"a length of 4 GiB":                length("4294967296"),
		"a length of 2^31":                 length("2147483648"),
		"a length of 2^63":                 length("9223372036854775808"),
		"a length of a hundred digits":     length(strings.Repeat("9", 100)),
		"a negative length":                length("-1"),
		"a length in hexadecimal":          length("0x4"),
		"a length with a sign":             length("+4"),
		"a length of nothing":              length(""),
		"two lengths":                      length("4\r\nContent-Length: 0"),
		"two lengths, one of them compact": length("4\r\nl: 4"),
		"a bare LF":                        strings.Replace(options, "\r\nMax", "\nMax", 1),
		"a bare CR":                        strings.Replace(options, "\r\nMax", "\rMax", 1),
		"NUL":                              strings.Replace(options, "Max", "X: \x00\r\nMax", 1),
		"another protocol":                 "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"TLS within TLS":                   "\x16\x03\x01\x02\x00",
		"random bytes":                     "\xde\xad\xbe\xef",
	}
	town := hurried(t)
	bob := online(t, t.Context(), town, "bob", Domain, "wss")
	before := inUse()
	for name, say := range cases {
		t.Run(name, func(t *testing.T) {
			w := town.dial(t, overTLS)
			start := time.Now()
			w.write(say)
			endsIn(t, w.conn, start, 0)
			if took := time.Since(start); took > 900*time.Millisecond {
				t.Errorf("it took %v: a deadline, not a verdict", took)
			}
			ok(t, bob.Ping(t.Context()))
		})
	}
	if after := inUse(); after > before+2<<20 {
		t.Errorf("%d KiB stay behind", (after-before)>>10)
	}
	town.plug(t, overTLS).alive(1)
}

// TestHeadersBeyondCountAreRefusedWhereTheMessageHasAnEnd: within a frame the
// flow can go on.
func TestHeadersBeyondCountAreRefusedWhereTheMessageHasAnEnd(t *testing.T) {
	town := hurried(t)
	for _, as := range []carrier{overTLS, overText, overBinary} {
		w := town.plug(t, as)
		w.say(strings.Replace(options, "Max", strings.Repeat("X: y\r\n", 1000)+"Max", 1))
		answer, err := w.hear(wireLimit)
		ok(t, err)
		if status(answer) != "400" {
			t.Errorf("%s: answered with %.40q", as, answer)
		}
		w.alive(1)
	}
}
