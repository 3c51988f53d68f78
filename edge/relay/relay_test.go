package relay_test

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/edge/flow"
	"sallyport/tunnel"
)

func TestMessagesPassBothWaysInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := found(t, false)
		c := w.client(t)
		say(t, c, options(1)+options(2)+options(3))
		w.office.expect(t, options(1), options(2), options(3))
		f := <-w.office.flows
		if i := f.Info(); i.Transport != "tls" || i.Remote.String() != "192.0.2.7:4711" || i.Public != "edge.example.com:5061" {
			t.Errorf("the core was told %+v", i)
		}
		_ = f.Send([]byte("SIP/2.0 200 A\r\n\r\n"))
		_ = f.Send([]byte("SIP/2.0 200 B\r\n\r\n"))
		hear(t, c, "SIP/2.0 200 A\r\n\r\nSIP/2.0 200 B\r\n\r\n")
	})
}

func TestCoreHearsOfAClientWithItsFirstMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := found(t, false)
		c := w.client(t)
		say(t, c, "\r\n\r\n")
		hear(t, c, "\r\n") // answered at the edge
		synctest.Wait()
		if len(w.office.flows) != 0 {
			t.Error("a keep-alive opened a flow")
		}
		say(t, c, options(1))
		w.office.expect(t, options(1))
	})
}

func TestWhyAClientEndedIsToldInside(t *testing.T) {
	cases := map[string]struct {
		do   func(c io.ReadWriteCloser)
		want string
	}{
		"it closed":              {func(c io.ReadWriteCloser) { _ = c.Close() }, "closed client-closed"},
		"it broke off":           {func(c io.ReadWriteCloser) { _, _ = io.WriteString(c, "OPT"); _ = c.Close() }, "closed client-reset"},
		"it is no SIP":           {func(c io.ReadWriteCloser) { _, _ = io.WriteString(c, "GET / HTTP/1.1\r\n") }, "closed protocol"},
		"its message never ends": {func(c io.ReadWriteCloser) { _, _ = io.WriteString(c, "OPTIONS") }, "closed policy"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := found(t, false)
				c := w.client(t)
				say(t, c, options(1))
				w.office.expect(t, options(1))
				go tc.do(c)
				w.office.expect(t, tc.want)
			})
		})
	}
}

func TestSilenceIsToldInside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := found(t, false)
		c := w.client(t)
		say(t, c, options(1)+"\r\n\r\n")
		hear(t, c, "\r\n")
		w.office.expect(t, options(1))
		start := time.Now()
		w.office.expect(t, "silent")
		if d := time.Since(start); d != 150*time.Second {
			t.Errorf("silent after %v", d)
		}
		say(t, c, options(2))
		w.office.expect(t, "alive", options(2))
	})
}

func TestCoreEndsAClientAfterWhatItSaidLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := found(t, false)
		c := w.client(t)
		say(t, c, options(1))
		f := <-w.office.flows
		_ = f.Send([]byte("SIP/2.0 403 Forbidden\r\n\r\n"))
		f.Close(tunnel.ClosePolicy, "")
		time.Sleep(5 * time.Second)
		hear(t, c, "SIP/2.0 403 Forbidden\r\n\r\n")
		if d := over(t, c); d != 0 {
			t.Errorf("the end came %v later", d)
		}
	})
}

func TestTU29_FloodingClientIsNotRead(t *testing.T) {
	t.Run("sip", func(t *testing.T) { testFlood(t, (*town).client, "") })
	t.Run("xmpp", func(t *testing.T) { testFlood(t, (*town).xmpp, "<body>") })
}

func testFlood(t *testing.T, enter func(*town, *testing.T) net.Conn, before string) {
	synctest.Test(t, func(t *testing.T) {
		w := found(t, false)
		w.office.mu.Lock()
		w.office.consume = false // a core that has no room
		w.office.mu.Unlock()
		c, other := enter(w, t), w.client(t)
		taken := make(chan int, 1)
		go func() {
			n := 0
			for {
				m, err := io.WriteString(c, before+options(n))
				if n += m; err != nil {
					taken <- n
					return
				}
			}
		}()
		synctest.Wait()
		say(t, other, options(7)) // the others are served
		time.Sleep(time.Second)
		_ = c.Close()
		if n := <-taken; n > 64<<10+8<<10 { // the window and a read buffer
			t.Errorf("%d bytes were read of it", n)
		}
	})
}

func TestStuckClientUsesUpItsOwnCreditOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := found(t, false)
		stuck, other := w.client(t), w.client(t)
		say(t, stuck, options(1))
		f := <-w.office.flows
		say(t, other, options(2))
		g := <-w.office.flows
		sent := 0
		for {
			err := f.Send([]byte(strings.Repeat("x", 1000)))
			if errors.Is(err, tunnel.ErrNoCredit) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			sent += 1000
			synctest.Wait()
		}
		if sent > 64<<10+16<<10 {
			t.Errorf("%d bytes were sent to a client that takes none", sent)
		}
		for range 1000 {
			if err := g.Send([]byte(options(3))); err != nil {
				t.Fatal(err)
			}
			hear(t, other, options(3))
			synctest.Wait()
		}
		// What the client takes after all comes back as credit.
		if _, err := io.CopyN(io.Discard, stuck, int64(sent)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if err := f.Send([]byte(strings.Repeat("x", 60_000))); err != nil {
			t.Errorf("after the client caught up: %v", err)
		}
		hear(t, stuck, strings.Repeat("x", 60_000))
	})
}

func TestWithoutACoreTheFirstMessageEndsTheClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := found(t, true)
		if w.relay.Ready(flow.SIPTLS) {
			t.Error("ready without a core")
		}
		c := w.client(t)
		say(t, c, options(1))
		if d := over(t, c); d != 0 {
			t.Errorf("the end came %v later", d)
		}
	})
}

func TestTunnelThatComesBackLosesNoClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := found(t, false)
		c := w.client(t)
		say(t, c, options(1))
		w.office.expect(t, options(1))
		f := <-w.office.flows
		w.street.cut(false)
		go func() { _, _ = io.WriteString(c, options(2)) }() // waits for the way back
		w.office.expect(t, options(2))                       // of the same flow, which was never closed
		_ = f.Send([]byte("SIP/2.0 200 OK\r\n\r\n"))
		hear(t, c, "SIP/2.0 200 OK\r\n\r\n")
	})
}

func TestTunnelLostForGoodSendsClientsAwaySpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := found(t, false)
		ends := make(chan time.Duration, 100)
		for n := range 100 {
			c := w.client(t)
			say(t, c, options(n))
			<-w.office.heard
			go func() { ends <- over(t, c) }()
		}
		w.street.cut(true)
		early := 0
		for range 100 {
			d := <-ends
			if d < 15*time.Second || d > 45*time.Second {
				t.Errorf("a client was sent away after %v", d)
			}
			if d < 30*time.Second {
				early++
			}
		}
		if early < 25 || early > 75 {
			t.Errorf("%d of 100 left in the first half", early)
		}
	})
}

func TestClientThatSpeaksIntoALostTunnelIsSentAwayAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := found(t, false)
		c := w.client(t)
		say(t, c, options(1))
		w.office.expect(t, options(1))
		w.street.cut(true)
		time.Sleep(15*time.Second + time.Millisecond)
		synctest.Wait()
		if w.table.Len() == 0 {
			t.Skip("its turn came first")
		}
		say(t, c, options(2))
		if d := over(t, c); d != 0 {
			t.Errorf("the end came %v later", d)
		}
	})
}
