package transport_test

import (
	"io"
	"strings"
	"testing"
	"time"

	"sallyport/edge/transport"
)

// A client that has to wait until it may send more is parked meanwhile: nobody
// waits for it.
func TestThrottledFlowsAreParked(t *testing.T) {
	const rate, n = 256 << 10, 5 * 256 << 10 // a second beyond the burst
	cfg := transport.Config{Rate: rate, FirstMessage: time.Hour}
	for name, enter := range map[string]func(t *testing.T, e *ear) (transport.Conn, func()){
		"stream": func(t *testing.T, e *ear) (transport.Conn, func()) {
			c, conn := sockets.raw(t, cfg, e)
			return conn, func() { _, _ = io.WriteString(c, strings.Repeat("<", n)) }
		},
		"websocket": func(t *testing.T, e *ear) (transport.Conn, func()) {
			b, conn := sockets.browseFor(t, "xmpp", cfg, e)
			return conn, func() {
				for range n / (16 << 10) {
					b.send(fin|opText, strings.Repeat("<", 16<<10))
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEar()
			conn, send := enter(t, e)
			start := time.Now()
			left := n
			hear := func() { left -= len(strings.TrimPrefix(<-e.heard, "message ")) }
			go send()
			for left > n/10 { // half of what is beyond the burst
				hear()
			}
			settle(conn)
			for len(e.heard) > 0 {
				hear()
			}
			if left <= 0 {
				t.Error("it was read to its end before it was parked")
			}
			for left > 0 {
				hear()
			}
			if took := time.Since(start); took < 900*time.Millisecond {
				t.Errorf("5 seconds' worth took %v", took)
			}
		})
	}
}
