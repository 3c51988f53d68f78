package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/edge"
	"sallyport/test/phone"
	"sallyport/tunnel/unit"
)

// deaf is a socket whose owner stops reading when told, as a phone does that
// the system has frozen with its connection open.
type deaf struct {
	net.Conn
	is   atomic.Bool
	wake chan struct{}
}

func (d *deaf) Read(p []byte) (int, error) {
	if d.is.Load() {
		<-d.wake
	}
	return d.Conn.Read(p)
}

// freezable makes a phone's connection deaf on demand.
func freezable(d *deaf) func(*phone.Config) {
	return func(c *phone.Config) {
		c.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			socket, err := new(net.Dialer).DialContext(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			_ = socket.(*net.TCPConn).SetReadBuffer(16 << 10)
			d.Conn = socket
			return d, nil
		}
	}
}

// flood sends INFOs of a kilobyte to user, as a PBX may (a MESSAGE would wait for
// the answer to the one before), and takes what is
// answered.
func (t *Town) flood(tb testing.TB, user string, messages int) {
	tb.Helper()
	w := t.fromPBX(tb)
	go func() { _, _ = io.Copy(io.Discard, w.r) }()
	for i := range messages {
		ok := w.try(fmt.Sprintf("INFO sip:%s@%s SIP/2.0\r\nVia: SIP/2.0/TCP pbx.invalid;branch=z9hG4bKflood%d\r\nFrom: <sip:x@%[2]s>;tag=%[3]d\r\n"+
			"To: <sip:%[1]s@%[2]s>\r\nCall-ID: flood-%[3]d\r\nCSeq: 1 INFO\r\nMax-Forwards: 70\r\nContent-Type: text/plain\r\nContent-Length: 1024\r\n\r\n%s",
			user, PBXDomain, i, strings.Repeat("m", 1024)))
		if ok != nil {
			tb.Fatal(ok)
		}
	}
}

// TestAStuckReaderIsClosedAndHoldsNobodyUp: TU-1 and TU-2 from end to end. One
// client is flooded and reads nothing. The others are served as before, what is
// held for it is bounded, and it is closed when the socket's patience is over.
func TestAStuckReaderIsClosedAndHoldsNobodyUp(t *testing.T) {
	const patience = 3 * time.Second
	at(t, PBXDomain, Config{Edge: func(c *edge.Config) {
		c.Public.TCPUserTimeout = unit.Duration{Duration: patience}
	}}, func(s *scene) {
		s.stuck(patience, patience+2*atOnce)
	})
}

// TestLong_AStuckReaderIsASlowConsumer: where the kernel is more patient than
// we are, after 30 s without a byte of progress.
func TestLong_AStuckReaderIsASlowConsumer(t *testing.T) {
	takesLong(t)
	t.Parallel()
	at(t, PBXDomain, Config{Edge: func(c *edge.Config) {
		c.Public.TCPUserTimeout = unit.Duration{Duration: 5 * time.Minute}
		c.Public.WSPing = unit.Duration{Duration: 5 * time.Minute}
	}}, func(s *scene) {
		s.ctx = s.t.Context()
		s.stuck(30*time.Second, 50*time.Second)
		if n := s.edgeMetric(s.t, "sallyport_edge_closed_total", "slow-consumer"); n != 1 {
			s.t.Errorf("%v flows ended as slow consumers, want 1", n)
		}
	})
}

// stuck floods one client that does not read, and looks at another meanwhile.
// What is held are requests under way in the core, 10 KiB each for as long as
// the PBX waits for an answer: two scenes share the heap.
func (s *scene) stuck(least, most time.Duration) {
	s.t.Helper()
	const messages, bound = 3000, 2 * 3000 * 16 << 10
	alice := s.caller("alice")
	line := &deaf{wake: make(chan struct{})}
	s.online("bob", freezable(line))
	defer close(line.wake)
	before, start := inUse(), time.Now()
	line.is.Store(true)
	s.flood(s.t, "bob", messages)
	held := 0
	var waits []time.Duration
	s.until("the stuck reader is closed", func() bool {
		waits = append(waits, toCore(s.t, alice))
		if len(waits)%100 == 1 {
			held = max(held, inUse()-before)
		}
		return s.edgeMetric(s.t, "sallyport_edge_flows", "") == 1
	})
	took := time.Since(start)
	slices.Sort(waits)
	s.t.Logf("closed after %v; at most %d KiB held for it; the other waited %v (p50), %v (p99)", took, held>>10, waits[len(waits)/2], waits[len(waits)*99/100])
	if took < least*9/10 || took > most {
		s.t.Errorf("closed after %v, want %v to %v", took, least, most)
	}
	if p99 := waits[len(waits)*99/100]; p99 > time.Second {
		s.t.Errorf("the others waited %v", p99)
	}
	if held > bound {
		s.t.Errorf("%d KiB were held for one client", held>>10)
	}
}
