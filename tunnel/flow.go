package tunnel

import (
	"context"
	"errors"
	"sync/atomic"

	"sallyport/tunnel/frame"
)

// A Flow is one client connection as the tunnel sees it. It is kept small: an
// edge or core has as many as there are phones. All methods may be called from
// any goroutine.
type Flow struct {
	// Static after creation; the core sets h before the first call of it.
	info *Info
	h    Handler

	// link is the one that carries the flow, or that of an ended session
	// where it waits for the next. It changes only while both are locked.
	link atomic.Pointer[link]
	// used is received and not given back as credit, held the part of it that
	// was not consumed. They grow, and are reset, under the link's index.
	used, held atomic.Int32
	// give is how much to give back is worth a CREDIT: a quarter of what the
	// peer may send before it gets any.
	give atomic.Int32
	// moved is set when something is consumed while the budget is tight.
	moved atomic.Uint32

	// Guarded by link.mu.
	id     uint32 // in this session
	credit int32  // bytes the peer will take; negative down to a quarter window
	batch  uint32 // number of the batch its last queued frame is in
	state  flowState
}

// flowState is a set of facts about a flow.
type flowState uint8

const (
	flowClosed  flowState = 1 << iota
	flowSilent            // the last EVENT sent said so; a re-OPEN repeats it
	flowBlocked           // it stands in link.blocked
	flowNarrow            // it has a quarter of the windows
)

// Info returns what OPEN said of the client.
func (f *Flow) Info() *Info { return f.info }

// Peer returns the node at the other end: of the session that carries the
// flow, or did last.
func (f *Flow) Peer() Peer { return f.link.Load().s.peer }

// lock locks the link that carries f and returns it.
func (f *Flow) lock() *link {
	for {
		l := f.link.Load()
		l.mu.Lock()
		if f.link.Load() == l {
			return l
		}
		l.mu.Unlock()
	}
}

// Send queues one message whole and never blocks. It fails with ErrNoCredit,
// ErrClosed or ErrTooBig, and has then sent nothing. A message as long as the
// window is taken when the flow is idle. A message that was taken arrives,
// unless the session is lost first. Send keeps no reference to p.
func (f *Flow) Send(p []byte) error {
	l := f.lock()
	defer l.mu.Unlock()
	return l.send(f, frame.TypeData, p)
}

// SendWait is Send, except that it waits for credit, for room in the link's
// queue and, on an edge, through a gap between sessions, until ctx ends.
func (f *Flow) SendWait(ctx context.Context, p []byte) error {
	return f.sendWait(ctx, frame.TypeData, p)
}

func (f *Flow) sendWait(ctx context.Context, t frame.Type, p []byte) error {
	var waited bool // for room, so that it is for us to wake the next
	for {
		l := f.lock()
		err := l.send(f, t, p)
		if waited && len(l.data) < l.s.queue {
			l.wakeRoom(1)
		}
		if err == nil || !errors.Is(err, ErrNoCredit) {
			l.mu.Unlock()
			return err
		}
		wait := l.waitFor(f, err)
		l.mu.Unlock()
		waited = errors.Is(err, ErrQueueFull)
		select {
		case <-wait:
		case <-ctx.Done():
			l.forget(wait)
			return context.Cause(ctx)
		}
	}
}

// Consumed gives n received bytes of credit back: they have left for the
// client's socket, or were handled.
func (f *Flow) Consumed(n int) {
	if !f.link.Load().s.budget.consumed(f, int32(min(n, frame.MaxWindow))) {
		return
	}
	l := f.lock()
	l.giveBack(f)
	l.mu.Unlock()
}

// Event tells the peer of e. In a gap between sessions it is kept, and told
// when the flow is opened again. It fails with ErrClosed only.
func (f *Flow) Event(e Event) error {
	l := f.lock()
	defer l.mu.Unlock()
	if f.state&flowClosed != 0 || l.ended() && !l.s.outlived {
		return ErrClosed
	}
	switch e {
	case EventSilent:
		f.state |= flowSilent
	case EventAlive:
		f.state &^= flowSilent
	}
	if !l.ended() {
		l.append(f, func(b []byte) []byte {
			return append(frame.AppendHeader(b, frame.TypeEvent, f.id, 1), byte(e))
		})
	}
	return nil
}

// Close ends the flow; what was sent before arrives before. Its handler is not
// called any more, except for a call that is under way.
func (f *Flow) Close(code CloseCode, text string) {
	l := f.lock()
	defer l.mu.Unlock()
	l.close(f, code, text)
}
