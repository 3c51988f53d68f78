package transport_test

import (
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/edge/transport"
)

// dial returns a client's end of a stream that e listens to.
func dial(cfg transport.Config, e *ear) (net.Conn, transport.Conn) {
	c, s := net.Pipe()
	conn := transport.New(cfg).Stream(s)
	conn.Start(e)
	return c, conn
}

func TestStreamIsCutIntoMessagesAndKeepAlives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEar()
		c, _ := dial(transport.Config{}, e)
		_, _ = io.WriteString(c, options(1)+"\r\n\r\n"+options(2)[:10])
		_, _ = io.WriteString(c, options(2)[10:]+"\r\n")
		e.expect(t, "message "+options(1), "keep-alive", "message "+options(2), "alive")
		_ = c.Close()
		e.expect(t, "ended client-closed")
	})
}

func TestStreamTakesMessagesUpToTheLimitAndNoByteMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEar()
		c, conn := dial(transport.Config{}, e)
		_, _ = io.WriteString(c, sized(64<<10))
		e.expect(t, "message "+sized(64<<10))
		go func() { _, _ = io.WriteString(c, sized(64<<10+1)) }()
		e.expect(t, "ended protocol")
		conn.Close(transport.Protocol)
	})
}

func TestWhatIsNotSIPEndsTheStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, in := range []string{"GET / HTTP/1.1\r\n\r\n", "OPTIONS sip:a SIP/2.0\r\nl: 1\r\nl: 1\r\n\r\n", "<stream>"} {
			e := newEar()
			c, conn := dial(transport.Config{}, e)
			go func() { _, _ = io.WriteString(c, in) }()
			e.expect(t, "ended protocol")
			conn.Close(transport.Protocol)
		}
	})
}

func TestHeaderBlockIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEar()
		c, conn := dial(transport.Config{MaxHeader: 1000}, e)
		go func() {
			_, _ = io.WriteString(c, "OPTIONS sip:a SIP/2.0\r\n")
			for {
				if _, err := io.WriteString(c, "X: y\r\n"); err != nil {
					return
				}
			}
		}()
		e.expect(t, "ended protocol")
		conn.Close(transport.Protocol)
	})
}

func TestClientThatSaysNothingIsEndedInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		e := newEar()
		_, conn := dial(transport.Config{FirstMessage: 10 * time.Second}, e)
		e.expect(t, "ended policy")
		if d := time.Since(start); d != 10*time.Second {
			t.Errorf("ended after %v", d)
		}
		conn.Close(transport.Policy)
	})
}

// trickle writes in a byte each second until it fails.
func trickle(c net.Conn, in string) {
	for i := range len(in) {
		if _, err := io.WriteString(c, in[i:i+1]); err != nil {
			return
		}
		time.Sleep(time.Second)
	}
}

func TestSlowLorisIsEndedInTime(t *testing.T) {
	for name, tc := range map[string]struct {
		before string
		want   time.Duration
	}{
		"in its first message": {"", 10 * time.Second},
		"in a later one":       {options(1), 30 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := newEar()
				c, conn := dial(transport.Config{FirstMessage: 10 * time.Second, WholeMessage: 30 * time.Second}, e)
				if tc.before != "" {
					_, _ = io.WriteString(c, tc.before)
					e.expect(t, "message "+tc.before)
				}
				start := time.Now()
				done := make(chan struct{})
				go func() { trickle(c, options(2)+options(2)); close(done) }()
				e.expect(t, "ended policy")
				if d := time.Since(start); d != tc.want {
					t.Errorf("ended after %v, want %v", d, tc.want)
				}
				conn.Close(transport.Policy)
				<-done
			})
		})
	}
}

func TestIdleClientStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEar()
		c, _ := dial(transport.Config{}, e)
		for range 3 {
			_, _ = io.WriteString(c, options(1))
			e.expect(t, "message "+options(1))
			time.Sleep(24 * time.Hour)
		}
		_ = c.Close()
		e.expect(t, "ended client-closed")
	})
}

func TestTimeInTheReceiverIsNotTheClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEar()
		e.hold = make(chan struct{})
		c, _ := dial(transport.Config{}, e)
		go func() { _, _ = io.WriteString(c, options(1)+options(2)[:20]) }()
		e.expect(t, "message "+options(1))
		time.Sleep(time.Hour) // nothing is read meanwhile
		close(e.hold)
		_, _ = io.WriteString(c, options(2)[20:])
		e.expect(t, "message "+options(2))
		_ = c.Close()
		e.expect(t, "ended client-closed")
	})
}

func TestConnectionCutInAMessageIsAReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEar()
		c, _ := dial(transport.Config{}, e)
		_, _ = io.WriteString(c, options(1)[:20])
		_ = c.Close()
		e.expect(t, "ended client-reset")
	})
}

func TestStuckReaderIsASlowConsumer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := transport.New(transport.Config{WriteTimeout: 30 * time.Second})
		_, server := secure(t, tr)
		e := newEar()
		conn := tr.Stream(server)
		conn.Start(e)
		start := time.Now()
		err := conn.Write([]byte(options(1))) // a pipe has no buffer
		if transport.ReasonOf(err) != transport.SlowConsumer || time.Since(start) != 30*time.Second {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
		conn.Close(transport.SlowConsumer)
		if d := time.Since(start); d != 30*time.Second {
			t.Errorf("the close took until %v", d)
		}
		e.expect(t, "ended policy") // it had said nothing since 10 s
	})
}

func TestSlowReaderThatMakesProgressIsServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := transport.New(transport.Config{WriteTimeout: 30 * time.Second, FirstMessage: time.Hour})
		client, server := secure(t, tr)
		e := newEar()
		conn := tr.Stream(server)
		conn.Start(e)
		read := make(chan int)
		go func() {
			total, buf := 0, make([]byte, 16<<10)
			for total < 64<<10 {
				time.Sleep(20 * time.Second) // for each record
				n, err := client.Read(buf)
				if total += n; err != nil {
					break
				}
			}
			read <- total
		}()
		if err := conn.Write([]byte(sized(64 << 10))); err != nil {
			t.Error(err)
		}
		if n := <-read; n != 64<<10 {
			t.Errorf("%d bytes were read", n)
		}
		go func() { _, _ = io.Copy(io.Discard, client) }() // for the goodbye
		conn.Close(transport.ClientClosed)
		e.expect(t, "ended client-reset")
		_ = client.Close()
	})
}

func TestHandshakeHasATimeLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, s := net.Pipe()
		start := time.Now()
		_, err := transport.New(transport.Config{}).Handshake(t.Context(), s, nil, 10*time.Second)
		var timeout net.Error
		if !errors.As(err, &timeout) || !timeout.Timeout() || time.Since(start) != 10*time.Second {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
	})
}
