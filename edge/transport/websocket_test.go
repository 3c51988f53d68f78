package transport_test

import (
	"context"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/edge/transport"
)

func TestWS1_TextBinaryAndFragmentsAreMessages(t *testing.T) {
	onWebSocket(t, func(t *testing.T, w way) {
		e := newEar()
		b, _ := w.browse(t, transport.Config{}, e)
		b.send(fin|opText, options(1))
		b.send(fin|opBinary, options(2))
		b.send(opText, options(3)[:5])
		b.send(opCont, "")
		b.send(fin|opCont, options(3)[5:])
		b.send(fin|opBinary, "\xff\xfe no utf-8")
		e.expect(t, "message "+options(1), "message "+options(2), "message "+options(3), "message \xff\xfe no utf-8")
		b.send(fin|opClose, "\x03\xe8")
		if code := closeCode(b); code != 1000 {
			t.Errorf("close was answered with %d", code)
		}
		e.expect(t, "ended client-closed")
	})
}

func closeCode(b *browser) int {
	_, p := b.receive()
	return int(p[0])<<8 | int(p[1])
}

func TestPingWithPayloadIsAnsweredBetweenFragments(t *testing.T) {
	onWebSocket(t, func(t *testing.T, w way) {
		e := newEar()
		b, _ := w.browse(t, transport.Config{}, e)
		go func() {
			b.send(opText, options(1)[:5])
			b.send(fin|opPing, "are you there")
			b.send(fin|opCont, options(1)[5:])
			b.send(fin|opPing, "")
		}()
		b.expect(fin|opPong, "are you there")
		b.expect(fin|opPong, "")
		e.expect(t, "alive", "message "+options(1), "alive")
		_ = b.conn.Close()
		e.expect(t, "ended client-reset")
	})
}

func TestWebSocketMessageOf64KiBPassesAndNoByteMore(t *testing.T) {
	onWebSocket(t, func(t *testing.T, w way) {
		e := newEar()
		b, conn := w.browse(t, transport.Config{}, e)
		half := sized(64 << 10)[:32<<10]
		b.send(opText, half)
		b.send(fin|opCont, sized(64 << 10)[32<<10:])
		e.expect(t, "message "+sized(64<<10))
		go b.send(fin|opText, sized(64<<10+1))
		if code := closeCode(b); code != 1009 {
			t.Errorf("closed with %d, want 1009", code)
		}
		go func() { _, _ = io.Copy(io.Discard, b.conn) }()
		e.expect(t, "ended protocol")
		conn.Close(transport.Protocol)
		_ = b.conn.Close()
	})
}

func TestTextThatIsNotUTF8EndsWith1007(t *testing.T) {
	onWebSocket(t, func(t *testing.T, w way) {
		e := newEar()
		b, conn := w.browse(t, transport.Config{}, e)
		b.send(fin|opText, options(1)+"\xc3")
		if code := closeCode(b); code != 1007 {
			t.Errorf("closed with %d, want 1007", code)
		}
		go func() { _, _ = io.Copy(io.Discard, b.r) }()
		e.expect(t, "ended protocol")
		conn.Close(transport.Protocol)
	})
}

func TestMessageCutOffByTheEndIsNone(t *testing.T) {
	onWebSocket(t, func(t *testing.T, w way) {
		for _, head := range []byte{opText, fin | opText} {
			e := newEar()
			b, _ := w.browse(t, transport.Config{}, e)
			_, _ = b.conn.Write([]byte{head, 0x80 | 20, 0, 0, 0, 0})
			_ = b.conn.Close()
			e.expect(t, "ended client-reset")
		}
	})
}

func TestOB5_CRLFMessagesAreKeepAlives(t *testing.T) {
	onWebSocket(t, func(t *testing.T, w way) {
		e := newEar()
		b, conn := w.browse(t, transport.Config{}, e)
		b.send(fin|opText, "\r\n\r\n")
		b.send(fin|opText, "\r\n")
		e.expect(t, "keep-alive", "keep-alive")
		go func() { _ = conn.Pong() }()
		b.expect(fin|opText, "\r\n")
		_ = b.conn.Close()
		e.expect(t, "ended client-reset")
	})
}

func TestFramesThatMustNotBeAreProtocolErrors(t *testing.T) {
	frames := map[string]func(b *browser){
		"a continuation of nothing":  func(b *browser) { b.send(fin|opCont, "x") },
		"a message within a message": func(b *browser) { b.send(opText, "x"); b.send(fin|opText, "y") },
		"an unmasked frame":          func(b *browser) { _, _ = io.WriteString(b.conn, "\x81\x01x") },
		"a fragmented ping":          func(b *browser) { b.send(opPing, "x") },
		"an unknown opcode":          func(b *browser) { b.send(fin|3, "x") },
		"a reserved bit":             func(b *browser) { b.send(fin|0x40|opText, "x") },
	}
	for name, send := range frames {
		t.Run(name, func(t *testing.T) {
			onWebSocket(t, func(t *testing.T, w way) {
				e := newEar()
				b, conn := w.browse(t, transport.Config{}, e)
				go send(b)
				go func() { _, _ = io.Copy(io.Discard, b.r) }()
				e.expect(t, "ended protocol")
				conn.Close(transport.Protocol)
				_ = b.conn.Close()
			})
		})
	}
}

func TestWebSocketWritesTextAndBinary(t *testing.T) {
	onWebSocket(t, func(t *testing.T, w way) {
		e := newEar()
		b, conn := w.browse(t, transport.Config{}, e)
		long := sized(5000)
		go func() {
			_ = conn.Write([]byte(options(1)))
			_ = conn.Write([]byte("SIP/2.0 200 \xff\r\n\r\n"))
			_ = conn.Write([]byte(long))
		}()
		b.expect(fin|opText, options(1))
		b.expect(fin|opBinary, "SIP/2.0 200 \xff\r\n\r\n")
		b.expect(fin|opText, long)
		_ = b.conn.Close()
		e.expect(t, "ended client-reset")
	})
}

func TestWebSocketPingWaitsForItsPong(t *testing.T) {
	onWebSocket(t, func(t *testing.T, w way) {
		e := newEar()
		b, conn := w.browse(t, transport.Config{FirstMessage: time.Hour}, e)
		ponged := make(chan error)
		go func() { ponged <- conn.Ping(t.Context()) }()
		first, p := b.receive()
		if first != fin|opPing {
			t.Fatalf("frame 0x%02x", first)
		}
		b.send(fin|opPong, p)
		if err := <-ponged; err != nil {
			t.Error(err)
		}
		e.expect(t, "alive")

		ctx, cancel := context.WithTimeout(t.Context(), 10*w.second)
		defer cancel()
		go func() { ponged <- conn.Ping(ctx) }()
		b.receive()
		if err := <-ponged; err == nil {
			t.Error("a ping without pong succeeded")
		}
		b.send(fin|opText, options(1)) // and the connection lives on
		e.expect(t, "message "+options(1))
		_ = b.conn.Close()
		e.expect(t, "ended client-reset")
	})
}

func TestWebSocketTimeLimits(t *testing.T) {
	cases := map[string]struct {
		do   func(b *browser, e *ear)
		want int
	}{
		"nothing said":        {func(*browser, *ear) {}, 10},
		"nothing but a frame": {func(b *browser, _ *ear) { b.send(opText, "OPT") }, 10},
		"a message that does not end": {func(b *browser, e *ear) {
			b.send(fin|opText, options(1))
			<-e.heard
			b.send(opText, "OPT")
		}, 30},
		"a frame that does not end": {func(b *browser, e *ear) {
			b.send(fin|opText, options(1))
			<-e.heard
			_, _ = io.WriteString(b.conn, "\x81\xfe\x00")
		}, 30},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			onWebSocket(t, func(t *testing.T, w way) {
				if w.library && name == "a frame that does not end" {
					t.Skip("the library's clock begins with a whole head")
				}
				e := newEar()
				start := time.Now()
				b, conn := w.browse(t, w.times(), e)
				tc.do(b, e)
				e.expect(t, "ended policy")
				w.took(t, start, tc.want)
				_ = b.conn.Close()
				conn.Close(transport.Policy)
			})
		})
	}
}

func TestGoodbyeSaysWhy(t *testing.T) {
	codes := map[transport.Reason]int{
		transport.Leaving: 1012, transport.Kicked: 1012, transport.Policy: 1008,
		transport.Protocol: 1002, transport.TryLater: 1013,
	}
	for reason, want := range codes {
		t.Run(reason.String(), func(t *testing.T) {
			onWebSocket(t, func(t *testing.T, w way) {
				e := newEar()
				b, conn := w.browse(t, transport.Config{}, e)
				go conn.Close(reason)
				if got := b.closed(); got != want {
					t.Errorf("closed with %d, want %d", got, want)
				}
				if got := <-e.heard; !strings.HasPrefix(got, "ended ") {
					t.Errorf("heard %q", got)
				}
				_ = b.conn.Close()
			})
		})
	}
}

func TestStuckWebSocketIsClosedAtOnce(t *testing.T) {
	each(t, []way{byLibrary, plain}, func(t *testing.T, w way) {
		e := newEar()
		b, conn := w.browse(t, transport.Config{}, e)
		go func() { _ = conn.Write([]byte(sized(5000))) }() // never read
		synctest.Wait()
		start := time.Now()
		conn.Close(transport.SlowConsumer)
		if d := time.Since(start); d != 0 {
			t.Errorf("the close took %v", d)
		}
		e.expect(t, "ended client-reset")
		_ = b.conn.Close()
	})
}
