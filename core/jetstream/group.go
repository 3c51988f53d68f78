package jetstream

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Bounds of what goes to the disk together.
const (
	maxTogether      = 256
	maxTogetherBytes = 2 << 20
)

// group writes to one stream what many callers want written, together: while
// one batch is on its way to the disk, the next collects. The server syncs once
// for a batch (atomic batch publishing, NATS 2.12). It has no goroutine of its
// own: one of the callers leads, and hands the lead on.
type group struct {
	// Static.
	stream  string
	wire    wire
	timeout time.Duration
	batches bool // the server knows batches

	mu    sync.Mutex
	queue []*write
	busy  bool // somebody leads
}

// write is what one caller wants written.
type write struct {
	msg  *nats.Msg
	lead chan struct{} // closed: it is the caller's turn to lead
	done chan struct{} // closed: seq and err are set
	seq  uint64
	err  error
}

// publish writes m, and returns its number once it is on disk.
func (g *group) publish(ctx context.Context, m *nats.Msg) (uint64, error) {
	w := &write{msg: m, lead: make(chan struct{}), done: make(chan struct{})}
	g.mu.Lock()
	g.queue = append(g.queue, w)
	if !g.busy {
		g.busy = true
		close(w.lead)
	}
	g.mu.Unlock()
	select {
	case <-w.lead:
		g.write()
	case <-w.done:
	case <-ctx.Done():
		go g.abandoned(w)
		return 0, context.Cause(ctx)
	}
	<-w.done
	return w.seq, w.err
}

// abandoned takes the turn of a caller that gave up.
func (g *group) abandoned(w *write) {
	select {
	case <-w.lead:
		g.write()
	case <-w.done:
	}
}

// write writes what waits, in which the leader's own is first, and hands the
// lead to the next that waits.
func (g *group) write() {
	g.mu.Lock()
	n, size := 0, 0
	for n < len(g.queue) && n < maxTogether {
		if size += len(g.queue[n].msg.Data); n > 0 && size > maxTogetherBytes {
			break
		}
		n++
	}
	batch := g.queue[:n:n]
	g.queue = g.queue[n:]
	g.mu.Unlock()
	if n == 1 || !g.batches || !g.together(batch) {
		g.apart(batch)
	}
	for _, w := range batch {
		close(w.done)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.queue) == 0 {
		g.queue, g.busy = nil, false
		return
	}
	close(g.queue[0].lead)
}

// batchAck is the answer to a batch.
type batchAck struct {
	Stream string              `json:"stream"`
	Seq    uint64              `json:"seq"` // of the last of them
	Count  int                 `json:"count"`
	Error  *jetstream.APIError `json:"error"`
}

// together writes a batch at one go. It reports false when the server refused
// it, so that each has to be tried on its own; an answer that did not come
// leaves open whether it is on disk.
func (g *group) together(batch []*write) bool {
	id := rand.Text()
	ctx, cancel := context.WithTimeout(context.Background(), g.timeout)
	defer cancel()
	var answer *nats.Msg
	for i, w := range batch {
		m := &nats.Msg{Subject: w.msg.Subject, Data: w.msg.Data, Header: nats.Header{
			"Nats-Batch-Id": {id}, "Nats-Batch-Sequence": {strconv.Itoa(i + 1)},
		}}
		for k, v := range w.msg.Header {
			m.Header[k] = v
		}
		var err error
		if i < len(batch)-1 {
			err = g.wire.conn.PublishMsg(m)
		} else {
			m.Header["Nats-Batch-Commit"] = []string{"1"}
			answer, err = g.wire.conn.RequestMsgWithContext(ctx, m)
		}
		if err != nil {
			g.all(batch, fmt.Errorf("store stream %s: not acknowledged: %w", g.stream, err))
			return true
		}
	}
	var ack batchAck
	if err := json.Unmarshal(answer.Data, &ack); err != nil || ack.Error != nil || ack.Count != len(batch) {
		return false
	}
	for i, w := range batch {
		w.seq = ack.Seq - uint64(len(batch)-1-i)
	}
	return true
}

func (g *group) all(batch []*write, err error) {
	for _, w := range batch {
		w.err = err
	}
}

// apart writes each on its own.
func (g *group) apart(batch []*write) {
	acks := make([]jetstream.PubAckFuture, len(batch))
	for i, w := range batch {
		acks[i], w.err = g.wire.js.PublishMsgAsync(w.msg, jetstream.WithStallWait(g.timeout))
	}
	for i, w := range batch {
		if w.err == nil {
			select {
			case a := <-acks[i].Ok():
				w.seq = a.Sequence
				continue
			case w.err = <-acks[i].Err():
			}
		}
		w.err = fmt.Errorf("store stream %s: not acknowledged: %w", g.stream, w.err)
	}
}
