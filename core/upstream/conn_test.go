package upstream

import (
	"errors"
	"io"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

var (
	pbxOnly       = map[string][]string{"example.com": {"sip:pbx.example.com:5060;transport=tcp"}}
	pbxOnlyConfig = Config{Upstreams: pbxOnly}
	listening     = Config{Listen: []string{"tcp:10.0.0.5:5060"}, Upstreams: pbxOnly}
)

func TestMessagesOfAConnectionComeInOrderHoweverTheyAreCut(t *testing.T) {
	inWorld(t, listening, func(t *testing.T, w *world) {
		p := w.call("10.0.0.9:40000")
		var want []string
		var all strings.Builder
		for i := range 50 {
			want = append(want, message(i, strings.Repeat("x", i)))
			all.WriteString(want[i])
		}
		for s := all.String(); s != ""; {
			n := min(37, len(s))
			p.send(s[:n])
			s = s[n:]
		}
		synctest.Wait()
		if got := w.seen.messages(); !slices.Equal(got, want) {
			t.Errorf("got %d messages: %q", len(got), got)
		}
		c := w.seen.conns[0]
		if !c.Trusted() || c.Dialled() || c.Transport() != "TCP" || c.Remote() != netip.MustParseAddrPort("10.0.0.9:40000") || c.ID() == "" {
			t.Errorf("%+v", c)
		}
		p.Close()
		<-c.Done()
		synctest.Wait() // Closed is called after Done is closed
		if err := c.Send([]byte("x")); !errors.Is(err, ErrClosed) {
			t.Errorf("Send after the end: %v", err)
		}
		if w.seen.ended() != 1 {
			t.Errorf("Closed was called %d times", w.seen.ended())
		}
	})
}

func TestOB5_KeepAlivesAreAnswered(t *testing.T) {
	inWorld(t, listening, func(t *testing.T, w *world) {
		p := w.call("10.0.0.9:40000")
		defer p.Close()
		p.send("\r\n\r\n")
		p.want("\r\n")
		p.send(message(1, "") + "\r\n\r\n")
		p.want("\r\n")
		if len(w.seen.messages()) != 1 {
			t.Errorf("%q", w.seen.messages())
		}
	})
}

func TestAStrangerIsAnswered403AndNothingElse(t *testing.T) {
	inWorld(t, listening, func(t *testing.T, w *world) {
		w.seen.answer = func(c *Conn, _ []byte) {
			if c.Trusted() {
				t.Error("a stranger is trusted")
			}
			go func() { // a handler that takes its time
				time.Sleep(300 * time.Millisecond)
				_ = c.Send([]byte("SIP/2.0 403 Forbidden\r\n\r\n"))
			}()
		}
		p := w.call("192.0.2.66:1")
		go p.send(message(1, ""))
		p.want("SIP/2.0 403 Forbidden\r\n\r\n")
		p.wantEnd()
		synctest.Wait()
		if got := len(w.seen.messages()); got != 1 {
			t.Errorf("%d messages handed over", got)
		}
	})
}

func TestASilentStrangerIsClosedAfter5Seconds(t *testing.T) {
	inWorld(t, Config{Listen: listening.Listen, Trusted: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}, func(t *testing.T, w *world) {
		p := w.call("192.0.2.66:1")
		start := time.Now()
		p.wantEnd()
		if got := time.Since(start); got != 5*time.Second {
			t.Errorf("after %v", got)
		}
		friend := w.call("10.0.0.9:40000")
		time.Sleep(24 * time.Hour)
		friend.send(message(1, ""))
		synctest.Wait()
		if len(w.seen.messages()) != 1 {
			t.Error("an idle friend was closed")
		}
		friend.Close()
	})
}

func TestAMessageThatStopsHalfwayEndsItsConnection(t *testing.T) {
	inWorld(t, listening, func(t *testing.T, w *world) {
		p := w.call("10.0.0.9:40000")
		p.send("MESSAGE sip:a@h SIP/2.0\r\nCSeq")
		start := time.Now()
		p.wantEnd()
		if got := time.Since(start); got != partialTime {
			t.Errorf("after %v", got)
		}
	})
}

func TestWhatCannotBeFramedEndsItsConnectionAlone(t *testing.T) {
	inWorld(t, Config{Listen: listening.Listen, Upstreams: pbxOnly, MaxMessage: 4096}, func(t *testing.T, w *world) {
		for name, bytes := range map[string]string{
			"junk":        "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
			"two lengths": "MESSAGE sip:a@h SIP/2.0\r\nContent-Length: 1\r\nl: 2\r\n\r\n",
			"too long":    "MESSAGE sip:a@h SIP/2.0\r\nContent-Length: 5000\r\n\r\n",
		} {
			good, bad := w.call("10.0.0.9:40000"), w.call("10.0.0.9:40001")
			before := len(w.seen.messages())
			go bad.send(bytes)
			bad.wantEnd()
			good.send(message(1, ""))
			synctest.Wait()
			if got := len(w.seen.messages()) - before; got != 1 {
				t.Errorf("%s: %d messages", name, got)
			}
			good.Close()
		}
	})
}

func TestAPeerThatDoesNotReadIsGivenUp(t *testing.T) {
	cfg := listening
	cfg.QueueBytes = 1000
	inWorld(t, cfg, func(t *testing.T, w *world) {
		p := w.call("10.0.0.9:40000")
		defer p.Close()
		p.send(message(1, ""))
		synctest.Wait()
		c := w.seen.conns[0]
		var err error
		sent := 0
		for ; err == nil && sent < 100; sent++ {
			err = c.Send(make([]byte, 100))
			synctest.Wait()
		}
		if !errors.Is(err, ErrSlow) || sent < 10 || sent > 12 {
			t.Errorf("%v after %d messages of 100 bytes", err, sent)
		}
		start := time.Now()
		<-c.Done()
		if got := time.Since(start); got != 10*time.Second {
			t.Errorf("given up after %v", got)
		}
	})
}

func TestCloseWritesWhatIsQueued(t *testing.T) {
	inWorld(t, listening, func(t *testing.T, w *world) {
		p := w.call("10.0.0.9:40000")
		p.send(message(1, ""))
		synctest.Wait()
		c := w.seen.conns[0]
		for range 3 {
			if err := c.Send([]byte("0123456789")); err != nil {
				t.Fatal(err)
			}
		}
		c.Close()
		c.Close()
		all, _ := io.ReadAll(p)
		if string(all) != strings.Repeat("0123456789", 3) {
			t.Errorf("got %q", all)
		}
		<-c.Done()
	})
}

func TestConnectionsAreBoundedAndStrangersLeaveRoom(t *testing.T) {
	cfg := listening
	cfg.MaxConns = 8
	inWorld(t, cfg, func(t *testing.T, w *world) {
		for range 2 {
			w.call("192.0.2.66:1")
		}
		synctest.Wait()
		w.call("192.0.2.66:1").wantEnd()
		var friends []*peer
		for range 6 {
			friends = append(friends, w.call("10.0.0.9:40000"))
		}
		synctest.Wait()
		w.call("10.0.0.9:40000").wantEnd()
		for _, f := range friends {
			f.send(message(1, ""))
		}
		synctest.Wait()
		if got := len(w.seen.messages()); got != 6 {
			t.Errorf("%d friends were heard", got)
		}
	})
}

func TestTheEndOfRunEndsEverything(t *testing.T) {
	inWorld(t, listening, func(t *testing.T, w *world) {
		dialled, accepted := w.far(), w.call("10.0.0.9:40000")
		synctest.Wait()
		w.stop()
		dialled.wantEnd()
		accepted.wantEnd()
		if w.seen.ended() != 2 {
			t.Errorf("Closed was called %d times", w.seen.ended())
		}
		if _, err := w.up.Conn(t.Context(), "example.com", ""); !errors.Is(err, ErrUnreachable) {
			t.Errorf("Conn after Run: %v", err)
		}
	})
}

func TestAMessageThatTricklesInIsBoundedFromItsFirstByte(t *testing.T) {
	for from, bound := range map[string]time.Duration{"10.0.0.9:40000": partialTime, "192.0.2.1:40000": strangerTime} {
		inWorld(t, listening, func(t *testing.T, w *world) {
			p := w.call(from)
			start := time.Now()
			for time.Since(start) < bound+10*time.Second {
				if _, err := io.WriteString(p.Conn, "x"); err != nil {
					break
				}
				time.Sleep(time.Second)
			}
			if took := time.Since(start); took < bound || took > bound+2*time.Second {
				t.Errorf("%s: ended after %v, want %v", from, took, bound)
			}
			p.Close()
		})
	}
}
