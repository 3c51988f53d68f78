package e2e

import (
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/edge"
	"sallyport/tunnel/unit"
)

// options is a request that any carrier may bring, as frames are cut from it.
var options = healthy("WSS", 7)

// TestRFC6455_FramesThatMustNotBeEndTheFlowAndNoOther: each is said on a flow
// of its own, which ends with one of the close codes named.
func TestRFC6455_FramesThatMustNotBeEndTheFlowAndNoOther(t *testing.T) {
	const text, binary = frameFin | frameText, frameFin | frameBinary
	long := strings.Repeat("x", 126)
	cases := []struct {
		name, say string
		codes     []int
	}{
		{"§5.1 an unmasked frame", "\x81\x01x", []int{1002}},
		{"§5.1 an unmasked frame of no bytes", "\x81\x00", []int{1002}},
		{"§5.2 reserved bit 1", frame(text|0x40, "x"), []int{1002}},
		{"§5.2 reserved bit 2", frame(text|0x20, "x"), []int{1002}},
		{"§5.2 reserved bit 3", frame(text|0x10, "x"), []int{1002}},
		{"§5.2 a reserved bit on a ping", frame(frameFin|0x40|framePing, "x"), []int{1002}},
		{"§5.2 an unknown opcode", frame(frameFin|3, "x"), []int{1002}},
		{"§5.2 an unknown control opcode", frame(frameFin|0x0b, "x"), []int{1002}},
		{"§5.2 a length with its top bit set", "\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x02\x03\x04", []int{1002, 1009}},
		{"§5.2 a length of an exabyte", "\x82\xff\x10\x00\x00\x00\x00\x00\x00\x00\x01\x02\x03\x04", []int{1002, 1008, 1009}},
		{"§5.4 a continuation of nothing", frame(frameFin|frameCont, "x"), []int{1002}},
		{"§5.4 a continuation after the end", frame(text, options) + frame(frameFin|frameCont, "x"), []int{1002}},
		{"§5.4 a message within a message", frame(frameText, "x") + frame(text, "y"), []int{1002}},
		{"§5.5 a fragmented ping", frame(framePing, "x"), []int{1002}},
		{"§5.5 a ping of 126 bytes", frame(frameFin|framePing, long), []int{1002}},
		{"§5.5.1 a close frame of one byte", frame(frameFin|frameClose, "x"), []int{1002}},
		{"§7.4.2 a close code below 1000", frame(frameFin|frameClose, "\x03\xe7"), []int{1002}},
		{"§7.4.1 close code 1005 on the wire", frame(frameFin|frameClose, "\x03\xed"), []int{1002}},
		{"§7.4.1 close code 1006 on the wire", frame(frameFin|frameClose, "\x03\xee"), []int{1002}},
		{"§8.1 text that is no UTF-8", frame(text, strings.Replace(options, "Max", "X: \xff\xfe\r\nMax", 1)), []int{1007}},
		{"§8.1 text that ends within a character", frame(text, options+"\xe2\x82"), []int{1007}},
		{"§8.1 a surrogate in text", frame(text, options+"\xed\xa0\x80"), []int{1007}},
		{"§8.1 an overlong encoding in text", frame(text, options+"\xc0\xaf"), []int{1007}},
		{"§8.1 a close reason that is no UTF-8", frame(frameFin|frameClose, "\x03\xe8\xff"), []int{1007}},
		{"§10.4 a message of 64 KiB and a byte", frame(binary, options+strings.Repeat("x", 64<<10+1-len(options))), []int{1009}},
		{"§10.4 fragments of more than 64 KiB", frame(frameBinary, "") + strings.Repeat(frame(frameCont, strings.Repeat("x", 1000)), 66), []int{1009}},
		{"no SIP: the web", frame(text, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"), []int{1002}},
		{"no SIP: random bytes", frame(binary, "\x00\x01\xfe\xff"+strings.Repeat("\x80\x7f", 500)), []int{1002}},
		{"no SIP: a JSON text", frame(text, `{"jsonrpc":"2.0"}`), []int{1002}},
	}
	town := tortured(t)
	bob := online(t, t.Context(), town, "user", Domain, "wss")
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			w := town.plug(t, overText)
			w.write(tc.say)
			w.ended(wireLimit)
			if !slices.Contains(tc.codes, w.code) {
				t.Errorf("closed with %d, want %v", w.code, tc.codes)
			}
			ok(t, bob.Ping(t.Context()))
		})
	}
	for _, c := range bob.Complaints() {
		t.Error(c)
	}
}

// TestRFC6455_FramesThatMayBeAreServed: unusual, and no offence.
func TestRFC6455_FramesThatMayBeAreServed(t *testing.T) {
	const text = frameFin | frameText
	var bytewise strings.Builder
	for i := range len(options) {
		bytewise.WriteString(frame(map[bool]byte{true: frameText, false: frameCont}[i == 0], options[i:i+1]))
	}
	euro := strings.Replace(options, "Max", "Subject: €\r\nMax", 1)
	at := strings.Index(euro, "€") + 1
	big := strings.Replace(options, "Content-Length: 0\r\n\r\n", "Content-Length: 65000\r\n\r\n"+strings.Repeat("x", 65000), 1)
	cases := map[string]string{
		"§5.4 one-byte fragments":                     bytewise.String() + frame(frameFin|frameCont, ""),
		"§5.4 empty fragments":                        frame(frameText, "") + strings.Repeat(frame(frameCont, ""), 5000) + frame(frameFin|frameCont, options),
		"§5.4 pings between fragments":                frame(frameText, options[:9]) + strings.Repeat(frame(frameFin|framePing, "p"), 100) + frame(frameFin|frameCont, options[9:]),
		"§5.5.3 a pong that nobody asked for":         frame(frameFin|framePong, "x") + frame(text, options),
		"§8.1 a character split between two frames":   frame(frameText, euro[:at]) + frame(frameFin|frameCont, euro[at:]),
		"§5.6 binary that is no UTF-8":                frame(frameFin|frameBinary, strings.Replace(options, "Max", "X: \xff\xfe\r\nMax", 1)),
		"empty messages":                              strings.Repeat(frame(text, ""), 500) + frame(text, options),
		"RFC 7118 §6 keep-alives as messages":         strings.Repeat(frame(text, "\r\n\r\n"), 500) + frame(text, options),
		"a message of 65 kB in a frame":               frame(text, big),
		"RFC 7118 §5 what follows a message is noise": frame(text, options+"INVITE sip:x SIP/2.0\r\n\r\n"),
	}
	town := tortured(t)
	for name, say := range cases {
		t.Run(name, func(t *testing.T) {
			w := town.plug(t, overText)
			w.write(say)
			for {
				answer, err := w.hear(wireLimit)
				if err != nil {
					t.Fatalf("not served: %v, code %d", err, w.code)
				}
				if isHealthy(answer, 7) {
					break
				}
			}
			w.alive(8)
		})
	}
}

// TestRFC6455_APingFloodIsAnsweredToWhoReadsAndEndsWhoDoesNot: pongs are owed,
// but they do not pile up.
func TestRFC6455_APingFloodIsAnsweredToWhoReadsAndEndsWhoDoesNot(t *testing.T) {
	town, _ := inTown(t, Config{Edge: func(c *edge.Config) {
		unlimited(c)
		c.Public.TCPUserTimeout = unit.Duration{Duration: 2 * time.Second} // as long as a full socket is forgiven
	}})
	reader, mute := town.plug(t, overText), town.plug(t, overText)
	reader.alive(1)
	mute.alive(1)
	const pings = 2000
	go reader.write(strings.Repeat(frame(frameFin|framePing, "01234567"), pings))
	for n := 0; n < pings; {
		first, p, err := reader.frame()
		ok(t, err)
		if first == frameFin|framePong && p == "01234567" {
			n++
		}
	}
	reader.alive(2)

	before, start := inUse(), time.Now()
	flood := strings.Repeat(frame(frameFin|framePing, strings.Repeat("p", 125)), 1000)
	var err error
	for err == nil {
		_ = mute.conn.SetWriteDeadline(start.Add(2 * wireLimit))
		_, err = io.WriteString(mute.conn, flood)
	}
	var late net.Error
	if errors.As(err, &late) && late.Timeout() {
		t.Errorf("the flood was still there after %v", time.Since(start))
	}
	if after := inUse(); after > before+8<<20 {
		t.Errorf("the heap grew by %d KiB", (after-before)>>10)
	}
	reader.alive(3)
}

func TestEndlessWebSocketMessagesEndInTime(t *testing.T) {
	cases := map[string]struct{ first, again string }{
		"fragments without end":                  {frame(frameText, "OPTIONS sip:x"), frame(frameCont, "x")},
		"empty fragments without end":            {frame(frameText, ""), frame(frameCont, "")},
		"a frame that stays away":                {frame(frameFin|frameText, options)[:20], ""},
		"pings in a message that does not go on": {frame(frameText, "OPTIONS sip:x"), frame(frameFin|framePing, "x")},
	}
	town := tortured(t) // where a first message has a second
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			w := town.plug(t, overText)
			w.write(tc.first)
			start := time.Now()
			var err error
			for !errors.Is(err, errEnded) && time.Since(start) < wireLimit {
				w.write(tc.again)
				_, err = w.hear(20 * time.Millisecond)
			}
			if took := time.Since(start); took > wireLimit/2 || w.code != 1008 {
				t.Errorf("it took %v, and ended with %d", took, w.code)
			}
		})
	}
	town.plug(t, overText).alive(1)
}
