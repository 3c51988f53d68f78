package flow

import (
	"bytes"
	"context"
	"sync"
	"time"

	"sallyport/edge/alarm"
	"sallyport/edge/transport"
)

// Flow is one client connection (RFC 5626 §2.1).
//
//	            signs of life stop             and are heard again
//	live ──────────────────────────▶ silent ───────────────────────▶ live
//	  └──────────── End, once ──────────┴──▶ ended
//
// A goroutine reads (or whatever the transport does instead), and one writes
// while there is something to write; a flow at rest has no writer.
type Flow struct {
	// Static after New; owner is set by Start.
	table  *Table
	conn   transport.Conn
	kind   Kind
	owner  Owner
	ctx    context.Context
	cancel context.CancelFunc

	// Guarded by mu.
	mu       sync.Mutex
	queue    []piece
	queued   int // bytes in queue and in the hands of the writer
	writing  bool
	begun    bool // of a message, not all is written: no answer may stand within it
	pong     bool // an answer to a keep-alive is due
	ended    bool
	last     *ending // end with this once the queue is empty
	silent   bool
	missed   int       // pongs in a row
	heard    time.Time // the last sign of life
	watching bool      // the watch is due to look again
	ruled    bool      // signs of life are expected
	alarm    alarm.Alarm

	// tell lets one goroutine at a time call owner.Silent, with what is true
	// then: two changes in quick succession are not told in the wrong order.
	tell sync.Mutex
	told bool
}

// piece is what waits to be sent: a message, or a part of one.
type piece struct {
	p    []byte
	more bool // the message goes on
}

// ending is why a flow ends.
type ending struct {
	reason transport.Reason
	text   string
}

// Start begins to read, and to ask for signs of life where the transport can.
// No other method may be called before.
func (f *Flow) Start(owner Owner) {
	t := f.table
	f.mu.Lock()
	f.owner = owner
	f.heard = time.Now()
	t.running.Add(1) // until Ended
	t.add(f)
	if kinds[f.kind].pinged && t.cfg.WSPing > 0 {
		f.watchIn(t.cfg.WSPing)
	}
	f.mu.Unlock()
	f.conn.Start((*receiver)(f))
}

// Kind is how the client is connected.
func (f *Flow) Kind() Kind { return f.kind }

// Send queues one message for the client and never blocks. It keeps no
// reference to p. More than Config.MaxQueue ends the flow as a slow consumer.
func (f *Flow) Send(p []byte) { f.send(p, false) }

// SendPart is Send for a piece of a message that goes on, to be ended by Send.
func (f *Flow) SendPart(p []byte) { f.send(p, true) }

func (f *Flow) send(p []byte, more bool) {
	f.mu.Lock()
	if f.ended || f.last != nil {
		f.mu.Unlock()
		return
	}
	if f.queued+len(p) > f.table.cfg.MaxQueue {
		f.mu.Unlock()
		f.End(transport.SlowConsumer, "too much waits to be sent")
		return
	}
	f.queue = append(f.queue, piece{bytes.Clone(p), more})
	f.queued += len(p)
	f.wakeWriter()
	f.mu.Unlock()
}

// Finish ends the flow once what was given to Send before is written.
func (f *Flow) Finish(r transport.Reason, text string) {
	f.mu.Lock()
	if f.writing && !f.ended {
		if f.last == nil {
			f.last = &ending{r, text}
		}
		f.mu.Unlock()
		return
	}
	f.mu.Unlock()
	f.End(r, text)
}

// End ends the flow now: its owner is told, and the client, behind the back of
// the caller. Only the first call counts.
func (f *Flow) End(r transport.Reason, text string) {
	f.mu.Lock()
	if f.ended {
		f.mu.Unlock()
		return
	}
	f.ended = true
	f.queue = nil
	f.table.clock.Stop((*watch)(f))
	f.table.running.Add(1) // under mu, while the reader's count is still held
	f.mu.Unlock()
	f.cancel()
	f.owner.Ended(r, text)
	f.table.remove(f, r)
	go func() {
		defer f.table.running.Done()
		f.conn.Close(r)
	}()
}

// wakeWriter sees to it that somebody writes. f.mu is held.
func (f *Flow) wakeWriter() {
	if f.writing || f.ended {
		return
	}
	f.writing = true
	f.table.running.Add(1)
	f.conn.Go((*writer)(f))
}

// writer is the side of a flow that writes to its client.
type writer Flow

// Run sends what waits and ends when nothing does.
func (w *writer) Run() {
	f := (*Flow)(w)
	defer f.table.running.Done()
	for {
		p, pong, more := f.next()
		if !more {
			return
		}
		var err error
		switch {
		case pong:
			err = f.conn.Pong()
		case p.more:
			err = f.conn.WritePart(p.p)
		default:
			err = f.conn.Write(p.p)
		}
		if err != nil {
			f.End(transport.ReasonOf(err), err.Error())
			continue // to see that it ended
		}
		if !pong {
			f.written(p)
		}
	}
}

// next takes what is to be written next, or says that nothing is.
func (f *Flow) next() (p piece, pong, more bool) {
	f.mu.Lock()
	var last *ending
	defer func() {
		f.mu.Unlock()
		if last != nil {
			f.End(last.reason, last.text)
		}
	}()
	switch {
	case f.ended:
		f.writing = false
		return piece{}, false, false
	case f.pong && !f.begun:
		f.pong = false
		return piece{}, true, true
	case len(f.queue) > 0:
		p = f.queue[0]
		if f.queue = f.queue[1:]; len(f.queue) == 0 {
			f.queue = nil
		}
		f.begun = p.more
		return p, false, true
	default:
		f.writing, last = false, f.last
		return piece{}, false, false
	}
}

func (f *Flow) written(p piece) {
	n := len(p.p)
	f.mu.Lock()
	f.queued -= n
	over := f.ended
	f.mu.Unlock()
	f.table.metrics.moved(down, n, !p.more)
	if !over {
		f.owner.Written(n)
	}
}

// receiver is the side of a flow that its transport sees.
type receiver Flow

// Message counts as a sign of life and goes to the owner.
func (r *receiver) Message(p []byte) error {
	f := (*Flow)(r)
	f.hear(false)
	if f.ctx.Err() != nil {
		return f.ctx.Err()
	}
	f.table.metrics.moved(up, len(p), true)
	return f.owner.Message(f.ctx, p)
}

// KeepAlive is answered behind what waits already; answers that are due at the
// same time are one, so that a flood of questions queues nothing.
func (r *receiver) KeepAlive() {
	f := (*Flow)(r)
	f.hear(true)
	f.mu.Lock()
	f.pong = true
	f.wakeWriter()
	f.mu.Unlock()
}

// Alive is a sign of life and nothing else.
func (r *receiver) Alive() { (*Flow)(r).hear(false) }

// Ended is the end of reading, whoever caused it.
func (r *receiver) Ended(err error) {
	f := (*Flow)(r)
	reason := transport.ReasonOf(err)
	text := ""
	if err != nil {
		text = err.Error()
	}
	f.End(reason, text)
	f.table.running.Done()
}
