package transport_test

import (
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/edge/transport"
)

// flood has a client send, and returns when the ear has heard n bytes and how
// long that took.
func flood(t *testing.T, e *ear, n int, send func()) time.Duration {
	t.Helper()
	start := time.Now()
	go send()
	for n > 0 {
		p, ok := strings.CutPrefix(<-e.heard, "message ")
		if !ok {
			t.Fatalf("heard %.80q", p)
		}
		n -= len(p)
	}
	return time.Since(start)
}

// A client that floods is read at limits.xmpp_rate after a burst of four
// seconds of it.
func TestXMPPFloodIsReadAtItsRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := transport.New(transport.Config{Rate: 16 << 10})
		client, server := secure(t, tr)
		e := newEar()
		conn := tr.Raw(server)
		conn.Start(e)
		took := flood(t, e, 14*16<<10, func() { _, _ = io.WriteString(client, strings.Repeat("<", 14*16<<10)) })
		if took < 9*time.Second || took > 12*time.Second {
			t.Errorf("14 seconds' worth took %v", took)
		}
		time.Sleep(time.Hour) // and has its burst again
		took = flood(t, e, 3*16<<10, func() { _, _ = io.WriteString(client, strings.Repeat("<", 3*16<<10)) })
		if took != 0 {
			t.Errorf("three seconds' worth took %v after an hour", took)
		}
		go func() { _, _ = io.Copy(io.Discard, client) }()
		conn.Close(transport.Kicked)
		e.expect(t, "ended client-reset")
	})
}

// What SIP says is not counted.
func TestSIPIsNotThrottled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := transport.New(transport.Config{Rate: 16 << 10})
		client, server := secure(t, tr)
		e := newEar()
		conn := tr.Stream(server)
		conn.Start(e)
		took := flood(t, e, 10*60_000, func() {
			for range 10 {
				_, _ = io.WriteString(client, sized(60_000))
			}
		})
		if took != 0 {
			t.Errorf("took %v", took)
		}
		go func() { _, _ = io.Copy(io.Discard, client) }()
		conn.Close(transport.Kicked)
		e.expect(t, "ended client-reset")
	})
}
