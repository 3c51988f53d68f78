package transport_test

import (
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/edge/transport"
)

const header = "<?xml version='1.0'?><stream:stream to='example.com' version='1.0'>"

// gather notes what an ear hears until it has heard all of want, in pieces of
// any size.
func (e *ear) gather(t *testing.T, want string) (pieces []string) {
	t.Helper()
	all := ""
	for len(all) < len(want) {
		got := <-e.heard
		p, ok := strings.CutPrefix(got, "message ")
		if !ok {
			t.Fatalf("heard %.80q after %.80q", got, all)
		}
		pieces, all = append(pieces, p), all+p
	}
	if all != want {
		t.Fatalf("heard %.80q, want %.80q", all, want)
	}
	return pieces
}

// Nothing of a stream is the edge's to read: not where an element ends, and no
// blank between elements, which is a client's sign of life to its server.
func TestXEP0368_XMPPStreamPassesByteForByte(t *testing.T) {
	onStream(t, func(t *testing.T, w way) {
		e := newEar()
		c, _ := w.raw(t, transport.Config{}, e)
		for _, p := range []string{header + "<auth>", " ", "\r\n\r\n", "</auth><mess", "age\xff\x00/>", "\n", "</stream:stream>"} {
			_, _ = io.WriteString(c, p)
			e.expect(t, "message "+p)
		}
		_ = c.Close()
		e.expect(t, "ended client-closed")
	})
}

// An element that never ends is carried on in pieces, none longer than
// limits.max_message, and held by nobody here.
func TestEndlessElementPassesInPieces(t *testing.T) {
	for name, limit := range map[string]int{"pieces of a read buffer": 64 << 10, "pieces of a short limit": 1 << 10} {
		t.Run(name, func(t *testing.T) {
			onStream(t, func(t *testing.T, w way) {
				e := newEar()
				c, _ := w.raw(t, transport.Config{MaxMessage: limit}, e)
				endless := header + "<message><body>" + strings.Repeat("x", 300<<10)
				go func() { _, _ = io.WriteString(c, endless); _ = c.Close() }()
				for _, p := range e.gather(t, endless) {
					if len(p) > min(limit, 8<<10) {
						t.Fatalf("a piece of %d bytes", len(p))
					}
				}
				e.expect(t, "ended client-closed")
			})
		})
	}
}

func TestWhatBeginsNoXMLStreamIsSentAway(t *testing.T) {
	onStream(t, func(t *testing.T, w way) {
		for _, in := range []string{"GET / HTTP/1.1\r\n\r\n", " <stream:stream>", "\xef\xbb\xbf<?xml", "\x00"} {
			e := newEar()
			c, conn := w.raw(t, transport.Config{}, e)
			go func() { _, _ = io.WriteString(c, in) }()
			e.expect(t, "ended protocol")
			conn.Close(transport.Protocol)
		}
	})
}

func TestXMPPClientThatSaysNothingIsEndedInTime(t *testing.T) {
	onStream(t, func(t *testing.T, w way) {
		e := newEar()
		start := time.Now()
		w.raw(t, w.times(), e)
		e.expect(t, "ended policy")
		w.took(t, start, 10)
	})
}

func TestXMPPClientMayStayIdle(t *testing.T) {
	onStream(t, func(t *testing.T, w way) {
		e := newEar()
		c, _ := w.raw(t, w.times(), e)
		for range 3 {
			_, _ = io.WriteString(c, "<r/>")
			e.expect(t, "message <r/>")
			w.hour()
		}
		_ = c.Close()
		e.expect(t, "ended client-closed")
	})
}

func TestRFC7395_FragmentsAreOneMessageAndPingsAreAnswered(t *testing.T) {
	onWebSocket(t, func(t *testing.T, w way) {
		e := newEar()
		b, conn := w.browseFor(t, "xmpp", transport.Config{}, e)
		open := `<open xmlns="urn:ietf:params:xml:ns:xmpp-framing" to="example.com"/>`
		go func() {
			b.send(fin|opText, open)
			b.send(opText, "<message>")
			b.send(fin|opPing, "?")
			b.send(opCont, "ä")
			b.send(fin|opCont, "</message>")
		}()
		b.expect(fin|opPong, "?")
		e.expect(t, "message "+open, "alive", "message <message>ä</message>")
		go func() { _ = conn.Write([]byte("<presence/>")) }()
		b.expect(fin|opText, "<presence/>")
		_ = b.conn.Close()
		e.expect(t, "ended client-reset")
	})
}

// RFC 7395 §3.2: data frames are text.
func TestRFC7395_BinaryMessagesAreRefused(t *testing.T) {
	onWebSocket(t, func(t *testing.T, w way) {
		e := newEar()
		b, conn := w.browseFor(t, "xmpp", transport.Config{}, e)
		go b.send(fin|opBinary, "<presence/>")
		if code := closeCode(b); code != 1003 {
			t.Errorf("closed with %d, want 1003", code)
		}
		go func() { _, _ = io.Copy(io.Discard, b.r) }()
		e.expect(t, "ended protocol")
		conn.Close(transport.Protocol)
	})
}

// A CRLF is a keep-alive in SIP (RFC 5626), where the edge answers it; in XMPP
// it is the core's to judge.
func TestRFC7395_CRLFIsNoKeepAlive(t *testing.T) {
	onWebSocket(t, func(t *testing.T, w way) {
		e := newEar()
		b, _ := w.browseFor(t, "xmpp", transport.Config{}, e)
		b.send(fin|opText, "\r\n\r\n")
		b.send(fin|opText, "")
		e.expect(t, "message \r\n\r\n", "alive")
		_ = b.conn.Close()
		e.expect(t, "ended client-reset")
	})
}

// Rosters and pictures are longer than any SIP message: servers take 256 KiB.
func TestRFC7395_ElementOf256KiBPassesAndNoByteMore(t *testing.T) {
	onWebSocket(t, func(t *testing.T, w way) {
		e := newEar()
		b, conn := w.browseFor(t, "xmpp", transport.Config{}, e)
		long := strings.Repeat("<é/>", 51<<10) + strings.Repeat(" ", 1<<10)
		go b.send(fin|opText, long)
		e.expect(t, "message "+long)
		go func() {
			b.send(opText, long)
			b.send(opCont, "x")
		}()
		if code := closeCode(b); code != 1009 {
			t.Errorf("closed with %d, want 1009", code)
		}
		go func() { _, _ = io.Copy(io.Discard, b.conn) }()
		e.expect(t, "ended protocol")
		conn.Close(transport.Protocol)
		_ = b.conn.Close()
	})
}

func TestEndlessElementInFramesIsEnded(t *testing.T) {
	onWebSocket(t, func(t *testing.T, w way) {
		e := newEar()
		b, conn := w.browseFor(t, "xmpp", transport.Config{}, e)
		go func() {
			b.send(opText, "<message><body>")
			for range 257 {
				b.send(opCont, strings.Repeat("x", 1<<10))
			}
		}()
		go func() { _, _ = io.Copy(io.Discard, b.r) }()
		e.expect(t, "ended protocol")
		conn.Close(transport.Protocol)
		_ = b.conn.Close()
	})
}

func TestSlowLorisInFramesIsEndedInTime(t *testing.T) {
	onWebSocket(t, func(t *testing.T, w way) {
		e := newEar()
		b, conn := w.browseFor(t, "xmpp", w.times(), e)
		b.send(fin|opText, "<open/>")
		e.expect(t, "message <open/>")
		start := time.Now()
		done := make(chan struct{})
		go func() {
			defer close(done)
			b.send(opText, "<message>")
			w.trickle(b.conn, strings.Repeat("\x00\x81\x00\x00\x00\x00x", 20<<10))
		}()
		go func() { _, _ = io.Copy(io.Discard, b.r) }()
		e.expect(t, "ended policy")
		w.took(t, start, 30)
		conn.Close(transport.Policy)
		_ = b.conn.Close()
		<-done
	})
}

// A message that comes from inside in pieces is one of the WebSocket's, with
// control frames between its fragments, and may be cut within a character.
func TestPiecesFromInsideAreFragmentsOfOneMessage(t *testing.T) {
	onWebSocket(t, func(t *testing.T, w way) {
		e := newEar()
		b, conn := w.browseFor(t, "xmpp", transport.Config{}, e)
		sent := make(chan error, 10)
		go func() {
			for _, p := range []string{"<body>\xc3", strings.Repeat("\xa4\xc3", 4<<10)} {
				sent <- conn.WritePart([]byte(p))
			}
			sent <- conn.Write([]byte("\xa4</body>"))
			sent <- conn.Write([]byte("<r/>"))
		}()
		all, first := "", true
		for ended := false; !ended; {
			head, p := b.receive()
			if opcode := head &^ fin; first && opcode != opText || !first && opcode != opCont {
				t.Fatalf("frame 0x%02x", head)
			}
			all, first, ended = all+p, false, head&fin != 0
		}
		if want := "<body>" + strings.Repeat("ä", 4<<10+1) + "</body>"; all != want {
			t.Errorf("received %d bytes, want %d", len(all), len(want))
		}
		b.expect(fin|opText, "<r/>")
		for range 4 {
			if err := <-sent; err != nil {
				t.Error(err)
			}
		}
		_ = b.conn.Close()
		e.expect(t, "ended client-reset")
	})
}

func TestWhatIsNoTextIsNotSentToXMPP(t *testing.T) {
	onWebSocket(t, func(t *testing.T, w way) {
		e := newEar()
		b, conn := w.browseFor(t, "xmpp", transport.Config{}, e)
		if err := conn.Write([]byte("<body>\xff</body>")); transport.ReasonOf(err) != transport.Protocol {
			t.Errorf("error %v", err)
		}
		_ = b.conn.Close()
		e.expect(t, "ended client-reset")
	})
}

// RFC 6455 §4.2.2: of the subprotocols a client offers one is chosen, by its
// order; but one that somebody inside speaks goes before one that nobody does.
func TestSubprotocolIsChosen(t *testing.T) {
	cases := map[string]struct{ offered, ready, want string }{
		"sip":                 {"sip", "sip xmpp", "sip"},
		"xmpp":                {"soap, xmpp", "sip xmpp", "xmpp"},
		"the client's first":  {"xmpp, sip", "sip xmpp", "xmpp"},
		"the one with a core": {"xmpp, sip", "sip", "sip"},
		"none with a core":    {"xmpp, sip", "", ""},
		"xmpp without":        {"xmpp", "sip", ""},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			each(t, []way{byLibrary, plain}, func(t *testing.T, w way) {
				u := upgrade()
				u.Ready = func(p string) bool { return strings.Contains(tc.ready, p) }
				got, no := ask(t, upgradeFor(tc.offered)+"\r\n", u, w.library)
				switch {
				case tc.want == "" && (no == nil || no.Why != transport.DeniedNotReady || !strings.HasPrefix(got, "HTTP/1.1 503 ")):
					t.Errorf("answer %q, refusal %+v", got, no)
				case tc.want != "" && (no != nil || !strings.Contains(got, "Sec-Websocket-Protocol: "+tc.want+"\r\n")):
					t.Errorf("answer %q, refusal %+v", got, no)
				}
			})
		})
	}
}

func TestStuckXMPPReaderIsASlowConsumer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := transport.New(transport.Config{WriteTimeout: 30 * time.Second, FirstMessage: time.Hour})
		_, server := secure(t, tr)
		e := newEar()
		conn := tr.Raw(server)
		conn.Start(e)
		start := time.Now()
		err := conn.Write([]byte("<presence/>")) // a pipe has no buffer
		if transport.ReasonOf(err) != transport.SlowConsumer || time.Since(start) != 30*time.Second {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
		conn.Close(transport.SlowConsumer)
		e.expect(t, "ended client-reset")
	})
}
