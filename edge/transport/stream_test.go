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

func TestStreamIsCutIntoMessagesAndKeepAlives(t *testing.T) {
	onStream(t, func(t *testing.T, w way) {
		e := newEar()
		c, _ := w.stream(t, transport.Config{}, e)
		_, _ = io.WriteString(c, options(1)+"\r\n\r\n"+options(2)[:10])
		_, _ = io.WriteString(c, options(2)[10:]+"\r\n")
		e.expect(t, "message "+options(1), "keep-alive", "message "+options(2), "alive")
		_ = c.Close()
		e.expect(t, "ended client-closed")
	})
}

func TestStreamTakesMessagesUpToTheLimitAndNoByteMore(t *testing.T) {
	onStream(t, func(t *testing.T, w way) {
		e := newEar()
		c, conn := w.stream(t, transport.Config{}, e)
		_, _ = io.WriteString(c, sized(64<<10))
		e.expect(t, "message "+sized(64<<10))
		go func() { _, _ = io.WriteString(c, sized(64<<10+1)) }()
		e.expect(t, "ended protocol")
		conn.Close(transport.Protocol)
	})
}

func TestWhatIsNotSIPEndsTheStream(t *testing.T) {
	onStream(t, func(t *testing.T, w way) {
		for _, in := range []string{"GET / HTTP/1.1\r\n\r\n", "OPTIONS sip:a SIP/2.0\r\nl: 1\r\nl: 1\r\n\r\n", "<stream>"} {
			e := newEar()
			c, conn := w.stream(t, transport.Config{}, e)
			go func() { _, _ = io.WriteString(c, in) }()
			e.expect(t, "ended protocol")
			conn.Close(transport.Protocol)
		}
	})
}

func TestHeaderBlockIsBounded(t *testing.T) {
	onStream(t, func(t *testing.T, w way) {
		e := newEar()
		c, conn := w.stream(t, transport.Config{MaxHeader: 1000}, e)
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
	onStream(t, func(t *testing.T, w way) {
		e := newEar()
		start := time.Now()
		w.stream(t, w.times(), e)
		e.expect(t, "ended policy")
		w.took(t, start, 10)
	})
}

// slow is a message that takes longer than any limit in each of the ways.
var slow = sized(64 << 10)

func TestSlowLorisIsEndedInTime(t *testing.T) {
	for name, tc := range map[string]struct {
		before string
		want   int
	}{
		"in its first message": {"", 10},
		"in a later one":       {options(1), 30},
	} {
		t.Run(name, func(t *testing.T) {
			onStream(t, func(t *testing.T, w way) {
				e := newEar()
				start := time.Now()
				c, conn := w.stream(t, w.times(), e)
				if tc.before != "" {
					_, _ = io.WriteString(c, tc.before)
					e.expect(t, "message "+tc.before)
				}
				if !w.sockets {
					start = time.Now()
				}
				done := make(chan struct{})
				go func() { w.trickle(c, slow); close(done) }()
				e.expect(t, "ended policy")
				w.took(t, start, tc.want)
				conn.Close(transport.Policy)
				<-done
			})
		})
	}
}

func TestIdleClientStays(t *testing.T) {
	onStream(t, func(t *testing.T, w way) {
		e := newEar()
		c, _ := w.stream(t, transport.Config{}, e)
		for range 3 {
			_, _ = io.WriteString(c, options(1))
			e.expect(t, "message "+options(1))
			w.hour()
		}
		_ = c.Close()
		e.expect(t, "ended client-closed")
	})
}

func TestTimeInTheReceiverIsNotTheClients(t *testing.T) {
	onStream(t, func(t *testing.T, w way) {
		e := newEar()
		e.hold = make(chan struct{})
		c, _ := w.stream(t, transport.Config{}, e)
		go func() { _, _ = io.WriteString(c, options(1)+options(2)[:20]) }()
		e.expect(t, "message "+options(1))
		w.hour() // nothing is read meanwhile
		close(e.hold)
		_, _ = io.WriteString(c, options(2)[20:])
		e.expect(t, "message "+options(2))
		_ = c.Close()
		e.expect(t, "ended client-closed")
	})
}

func TestConnectionCutInAMessageIsAReset(t *testing.T) {
	onStream(t, func(t *testing.T, w way) {
		e := newEar()
		c, _ := w.stream(t, transport.Config{}, e)
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
