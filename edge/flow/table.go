// Package flow owns the live client connections of an edge: their identity,
// their signs of life and what waits to be sent to them. It does not know the
// tunnel, what messages say or whose they are.
package flow

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sallyport/edge/alarm"
	"sallyport/edge/transport"
)

// Owner hears of one flow. Message is called by one goroutine at a time and in
// order; the other calls may come beside it.
type Owner interface {
	// Message takes one whole message, valid until it returns. It may block
	// until ctx ends, which it does with the flow. An error ends the flow.
	Message(ctx context.Context, p []byte) error
	// Silent tells that signs of life have stopped, or are heard again.
	Silent(silent bool)
	// Written tells that n bytes given to Send have left for the socket.
	Written(n int)
	// Ended tells why the flow ended. It is called exactly once.
	Ended(r transport.Reason, text string)
}

// Config holds the times and bounds of every flow. Zero means the default,
// except for WSPing, where it means that no ping is sent.
type Config struct {
	// WSPing is the time between two WebSocket pings.
	WSPing time.Duration
	// PongTimeout is how long a pong may take. Default 10 s.
	PongTimeout time.Duration
	// FlowTimer is what clients that send CRLF keep-alives were granted
	// (RFC 5626 §4.4.1). Default 120 s.
	FlowTimer time.Duration
	// MaxQueue is how many bytes may wait to be sent to one client, beyond
	// which it is a slow consumer. It should be above the tunnel's window, so
	// that only a broken core gets there. Default 256 KiB.
	MaxQueue int
	// Log may be nil.
	Log *slog.Logger
	// Metrics may be nil.
	Metrics prometheus.Registerer
}

// flowTimerSlack is what a server waits beyond the Flow-Timer (RFC 5626
// §4.4.1 asks for it; the amount is ours).
const flowTimerSlack = 30 * time.Second

// maxMissed is how many pongs in a row may be missed before the flow ends.
const maxMissed = 2

// Table is the set of live flows.
type Table struct {
	// Static after NewTable.
	cfg     Config
	metrics *metrics
	clock   *alarm.Clock // of watches

	// running counts goroutines of flows.
	running sync.WaitGroup

	// Guarded by mu.
	mu    sync.Mutex
	flows map[*Flow]struct{}
}

// NewTable returns an empty table. It starts nothing.
func NewTable(cfg Config) *Table {
	if cfg.PongTimeout <= 0 {
		cfg.PongTimeout = 10 * time.Second
	}
	if cfg.FlowTimer <= 0 {
		cfg.FlowTimer = 120 * time.Second
	}
	if cfg.MaxQueue <= 0 {
		cfg.MaxQueue = 256 << 10
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Table{cfg: cfg, metrics: newMetrics(cfg.Metrics), clock: alarm.New(), flows: make(map[*Flow]struct{})}
}

// Kind is what a client speaks and how it is connected.
type Kind uint8

// The kinds.
const (
	SIPTLS  Kind = iota // CRLF keep-alives, if any, come from the client
	SIPWSS              // pings are sent by the edge
	XMPPTLS             // keep-alives are the core's business: the edge does not see them
	XMPPWSS             // as SIPWSS
)

// kinds are the labels of metrics, and what a kind is asked.
var kinds = [...]struct {
	service, transport string
	pinged             bool // the transport has a question for a sign of life
	crlf               bool // clients may send CRLF keep-alives, and then have to go on
}{
	SIPTLS:  {"sip", "tls", false, true},
	SIPWSS:  {"sip", "wss", true, false},
	XMPPTLS: {"xmpp", "tls", false, false},
	XMPPWSS: {"xmpp", "wss", true, false},
}

// Service is what the client speaks, as the tunnel names it: sip or xmpp.
func (k Kind) Service() string { return kinds[k].service }

// Transport is how it is connected, as the tunnel names it: tls or wss.
func (k Kind) Transport() string { return kinds[k].transport }

// New makes a flow of conn. It begins with [Flow.Start], and ends when the
// client, its owner or the table ends it.
func (t *Table) New(conn transport.Conn, kind Kind) *Flow {
	f := &Flow{table: t, conn: conn, kind: kind}
	f.ctx, f.cancel = context.WithCancel(context.Background())
	return f
}

// Len is the number of live flows.
func (t *Table) Len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.flows)
}

func (t *Table) add(f *Flow) {
	t.mu.Lock()
	t.flows[f] = struct{}{}
	t.mu.Unlock()
	t.metrics.flows[f.kind].Inc()
}

func (t *Table) remove(f *Flow, r transport.Reason) {
	t.mu.Lock()
	delete(t.flows, f)
	t.mu.Unlock()
	t.metrics.flows[f.kind].Dec()
	t.metrics.closed.WithLabelValues(r.String()).Inc()
}

// Goodbye ends every flow, as Leaving, evenly spread over the time given, so
// that the clients do not come back all at once; when ctx ends, the rest at
// once. It returns when all are over.
func (t *Table) Goodbye(ctx context.Context, spread time.Duration) {
	for {
		t.mu.Lock()
		all := make([]*Flow, 0, len(t.flows))
		for f := range t.flows {
			all = append(all, f)
		}
		t.mu.Unlock()
		if len(all) == 0 {
			break
		}
		rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		t.leave(ctx, all, spread)
		spread = 0
	}
	t.running.Wait()
}

// leave ends the flows in batches, one each tick.
func (t *Table) leave(ctx context.Context, all []*Flow, spread time.Duration) {
	const tick = 100 * time.Millisecond
	batch := len(all)
	if ticks := int(spread / tick); ticks > 0 {
		batch = max(1, (len(all)+ticks-1)/ticks)
	}
	for i, f := range all {
		if i > 0 && i%batch == 0 {
			select {
			case <-time.After(tick):
			case <-ctx.Done():
			}
		}
		f.End(transport.Leaving, "the edge is going away")
	}
}
