package flow_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"sallyport/edge/flow"
	"sallyport/edge/transport"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// line is a transport whose client the test plays.
type line struct {
	recv    transport.Receiver
	wrote   chan string   // unbuffered where the client is stuck
	answers chan struct{} // a pong for each ping
	closed  chan struct{}
	once    sync.Once
	reason  transport.Reason
}

func newLine() *line {
	return &line{wrote: make(chan string, 1000), answers: make(chan struct{}, 1000), closed: make(chan struct{})}
}

func (l *line) Start(r transport.Receiver) {
	l.recv = r
	go func() {
		<-l.closed
		r.Ended(errors.New("closed"))
	}()
}

func (l *line) Write(p []byte) error {
	select {
	case l.wrote <- string(p):
		return nil
	case <-l.closed:
		return errors.New("closed")
	}
}

func (l *line) WritePart(p []byte) error { return l.Write(append([]byte("part "), p...)) }

func (l *line) Go(t transport.Task) { go t.Run() }

func (l *line) Pong() error { return l.Write([]byte("pong")) }

func (l *line) Ping(ctx context.Context) error {
	select {
	case <-l.answers:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l *line) Close(r transport.Reason) {
	l.once.Do(func() { l.reason = r; close(l.closed) })
}

// diary notes what an owner hears, and when.
type diary struct {
	start time.Time
	lines chan string
}

func newDiary() *diary { return &diary{time.Now(), make(chan string, 1000)} }

func (d *diary) note(format string, args ...any) {
	d.lines <- fmt.Sprintf("%v ", time.Since(d.start)) + fmt.Sprintf(format, args...)
}
func (d *diary) Message(_ context.Context, p []byte) error { d.note("message %s", p); return nil }
func (d *diary) Silent(s bool)                             { d.note("silent %v", s) }
func (d *diary) Written(n int)                             { d.note("written %d", n) }
func (d *diary) Ended(r transport.Reason, _ string)        { d.note("ended %v", r) }

func (d *diary) expect(t *testing.T, want ...string) {
	t.Helper()
	for _, w := range want {
		select {
		case got := <-d.lines:
			if got != w {
				t.Fatalf("heard %q, want %q", got, w)
			}
		case <-time.After(24 * time.Hour):
			t.Fatalf("heard nothing, want %q", w)
		}
	}
}

func (d *diary) quiet(t *testing.T, during time.Duration) {
	t.Helper()
	select {
	case got := <-d.lines:
		t.Fatalf("heard %q", got)
	case <-time.After(during):
	}
}

func config() flow.Config {
	return flow.Config{WSPing: 25 * time.Second, PongTimeout: 10 * time.Second, FlowTimer: 120 * time.Second, MaxQueue: 1000}
}

// begin starts a flow in a table of its own.
func begin(cfg flow.Config, kind flow.Kind) (*flow.Table, *flow.Flow, *line, *diary) {
	table, l, d := flow.NewTable(cfg), newLine(), newDiary()
	f := table.New(l, kind)
	f.Start(d)
	return table, f, l, d
}

// leave ends all flows and waits.
func leave(table *flow.Table) { table.Goodbye(context.Background(), 0) }

func TestMissedPongIsSilenceAndTheSecondTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table, _, l, d := begin(config(), flow.SIPWSS)
		d.expect(t, "35s silent true", "1m0s ended keepalive-lost")
		leave(table)
		if l.reason != transport.KeepaliveLost {
			t.Errorf("closed as %v", l.reason)
		}
	})
}

func TestSilentClientThatAnswersAgainIsAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table, _, l, d := begin(config(), flow.SIPWSS)
		d.expect(t, "35s silent true")
		time.Sleep(5 * time.Second)
		l.recv.Alive() // a late pong
		d.expect(t, "40s silent false")
		// What was missed before does not count any more.
		d.expect(t, "1m0s silent true", "1m25s ended keepalive-lost")
		leave(table)
	})
}

func TestMessageOfASilentClientComesAfterItsReturn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table, _, l, d := begin(config(), flow.SIPWSS)
		d.expect(t, "35s silent true")
		_ = l.recv.Message([]byte("hi"))
		d.expect(t, "35s silent false", "35s message hi")
		leave(table)
	})
}

func TestAnsweringClientIsLeftInPeace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table, _, l, d := begin(config(), flow.SIPWSS)
		for range 100 {
			l.answers <- struct{}{}
		}
		d.quiet(t, 100*25*time.Second)
		leave(table)
	})
}

func TestOB6_StreamWithKeepAlivesIsSilentAfterFlowTimerAnd30s(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table, _, l, d := begin(config(), flow.SIPTLS)
		l.recv.KeepAlive()
		time.Sleep(100 * time.Second)
		_ = l.recv.Message([]byte("hi"))
		d.expect(t, "1m40s message hi", "4m10s silent true")
		d.quiet(t, 24*time.Hour) // silent is not gone
		l.recv.KeepAlive()
		d.expect(t, "24h4m10s silent false", "24h6m40s silent true")
		leave(table)
	})
}

func TestStreamWithoutKeepAlivesMayBeQuiet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table, _, l, d := begin(config(), flow.SIPTLS)
		_ = l.recv.Message([]byte("hi"))
		d.expect(t, "0s message hi")
		l.recv.Alive()
		d.quiet(t, 24*time.Hour)
		leave(table)
	})
}

func TestOB5_KeepAliveIsAnsweredAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table, _, l, _ := begin(config(), flow.SIPTLS)
		l.recv.KeepAlive()
		if got := <-l.wrote; got != "pong" {
			t.Errorf("wrote %q", got)
		}
		leave(table)
	})
}

func TestFloodOfKeepAlivesQueuesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLine()
		l.wrote = make(chan string) // nobody reads yet
		table := flow.NewTable(config())
		table.New(l, flow.SIPTLS).Start(newDiary())
		for range 1000 {
			l.recv.KeepAlive()
		}
		<-l.wrote
		synctest.Wait()
		answers := 1
		for more := true; more; {
			select {
			case <-l.wrote:
				answers++
				synctest.Wait()
			default:
				more = false
			}
		}
		if answers > 2 {
			t.Errorf("%d answers were queued", answers)
		}
		leave(table)
	})
}

func TestMessagesAreWrittenInOrderAndAccountedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table, f, l, d := begin(config(), flow.SIPTLS)
		for _, m := range []string{"a", "bb", "ccc"} {
			p := []byte(m)
			f.Send(p)
			clear(p) // Send has kept no reference
		}
		d.expect(t, "0s written 1", "0s written 2", "0s written 3")
		if got := <-l.wrote + <-l.wrote + <-l.wrote; got != "abbccc" {
			t.Errorf("wrote %q", got)
		}
		leave(table)
	})
}

func TestQueueIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, d := newLine(), newDiary()
		l.wrote = make(chan string)
		table := flow.NewTable(config())
		f := table.New(l, flow.SIPTLS)
		f.Start(d)
		f.Send([]byte(strings.Repeat("x", 600)))
		synctest.Wait() // it is in the hands of the writer, and counts
		f.Send([]byte(strings.Repeat("x", 400)))
		d.quiet(t, time.Second)
		f.Send([]byte("x"))
		d.expect(t, "1s ended slow-consumer")
		leave(table)
	})
}

func TestFinishWritesWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, d := newLine(), newDiary()
		l.wrote = make(chan string)
		table := flow.NewTable(config())
		f := table.New(l, flow.SIPTLS)
		f.Start(d)
		f.Send([]byte("403"))
		f.Send([]byte("bye"))
		f.Finish(transport.Policy, "")
		f.Send([]byte("too late"))
		time.Sleep(time.Second)
		if got := <-l.wrote + <-l.wrote; got != "403bye" {
			t.Errorf("wrote %q", got)
		}
		d.expect(t, "1s written 3", "1s written 3", "1s ended policy")
		leave(table)
	})
}

func TestEndInterruptsAnOwnerThatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := flow.NewTable(config())
		l, w := newLine(), &waiting{newDiary()}
		f := table.New(l, flow.SIPTLS)
		f.Start(w)
		done := make(chan error)
		go func() { done <- l.recv.Message([]byte("hi")) }()
		synctest.Wait()
		f.End(transport.Kicked, "")
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("message returned %v", err)
		}
		leave(table)
	})
}

type waiting struct{ *diary }

func (*waiting) Message(ctx context.Context, _ []byte) error { <-ctx.Done(); return ctx.Err() }

func TestGoodbyeIsSpreadEvenly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table, d := flow.NewTable(config()), newDiary()
		for range 100 {
			table.New(newLine(), flow.SIPTLS).Start(d)
		}
		go func() {
			time.Sleep(5*time.Second - time.Millisecond)
			if n := table.Len(); n < 49 || n > 51 {
				t.Errorf("%d of 100 flows live half-way", n)
			}
		}()
		start := time.Now()
		table.Goodbye(t.Context(), 10*time.Second)
		if d := time.Since(start); d < 9*time.Second || d > 10*time.Second {
			t.Errorf("took %v", d)
		}
		if n := table.Len(); n != 0 {
			t.Errorf("%d flows live on", n)
		}
	})
}

func TestGoodbyeHurriesWhenToldTo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table, d := flow.NewTable(config()), newDiary()
		for range 100 {
			table.New(newLine(), flow.SIPTLS).Start(d)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		start := time.Now()
		table.Goodbye(ctx, 10*time.Second)
		if d := time.Since(start); d != 3*time.Second {
			t.Errorf("took %v", d)
		}
	})
}

func TestFlowsAndEndsAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := prometheus.NewRegistry()
		cfg := config()
		cfg.Metrics = reg
		table := flow.NewTable(cfg)
		l := newLine()
		f := table.New(l, flow.SIPWSS)
		f.Start(newDiary())
		_ = l.recv.Message([]byte("four"))
		f.Send([]byte("sixsix"))
		synctest.Wait()
		want := `
			# HELP sallyport_edge_flows Live client flows, by service and transport.
			# TYPE sallyport_edge_flows gauge
			sallyport_edge_flows{service="sip",transport="tls"} 0
			sallyport_edge_flows{service="sip",transport="wss"} 1
			sallyport_edge_flows{service="xmpp",transport="tls"} 0
			sallyport_edge_flows{service="xmpp",transport="wss"} 0
			# HELP sallyport_edge_message_bytes_total Bytes of messages carried, up from clients and down to them.
			# TYPE sallyport_edge_message_bytes_total counter
			sallyport_edge_message_bytes_total{direction="down"} 6
			sallyport_edge_message_bytes_total{direction="up"} 4
		`
		if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "sallyport_edge_flows", "sallyport_edge_message_bytes_total"); err != nil {
			t.Error(err)
		}
		f.End(transport.Protocol, "")
		leave(table)
		want = `
			# HELP sallyport_edge_closed_total Client flows that ended, by reason.
			# TYPE sallyport_edge_closed_total counter
			sallyport_edge_closed_total{reason="protocol"} 1
		`
		if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "sallyport_edge_closed_total"); err != nil {
			t.Error(err)
		}
	})
}
