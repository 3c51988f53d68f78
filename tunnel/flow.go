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

	// session is the one that carries the flow, or the ended one where it
	// waits for the next. It changes only while both are locked.
	session atomic.Pointer[session]
	// used is received and not given back as credit: the reader adds, and
	// whoever gives back takes off. owed is the part that was consumed.
	used, owed atomic.Int32

	// Guarded by session.mu.
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
	flowBlocked           // it stands in session.blocked
)

// Info returns what OPEN said of the client.
func (f *Flow) Info() *Info { return f.info }

// Peer returns the node at the other end: of the session that carries the
// flow, or did last.
func (f *Flow) Peer() Peer { return f.session.Load().peer }

// lock locks the session that carries f and returns it.
func (f *Flow) lock() *session {
	for {
		s := f.session.Load()
		s.mu.Lock()
		if f.session.Load() == s {
			return s
		}
		s.mu.Unlock()
	}
}

// Send queues one message whole and never blocks. It fails with ErrNoCredit,
// ErrClosed or ErrTooBig, and has then sent nothing. A message as long as the
// window is taken when the flow is idle. Send keeps no reference to p.
func (f *Flow) Send(p []byte) error {
	s := f.lock()
	defer s.mu.Unlock()
	return s.send(f, p)
}

// SendWait is Send, except that it waits for credit, for room in the link's
// queue and, on an edge, through a gap between sessions, until ctx ends.
func (f *Flow) SendWait(ctx context.Context, p []byte) error {
	var waited bool // for room, so that it is for us to wake the next
	for {
		s := f.lock()
		err := s.send(f, p)
		if waited && len(s.data) < s.queue {
			s.wakeRoom(1)
		}
		if err == nil || !errors.Is(err, ErrNoCredit) {
			s.mu.Unlock()
			return err
		}
		wait := s.waitFor(f, err)
		s.mu.Unlock()
		waited = errors.Is(err, ErrQueueFull)
		select {
		case <-wait:
		case <-ctx.Done():
			s.forget(wait)
			return context.Cause(ctx)
		}
	}
}

// Consumed gives n received bytes of credit back: they have left for the
// client's socket, or were handled.
func (f *Flow) Consumed(n int) {
	if n <= 0 {
		return
	}
	owed := f.owed.Add(int32(min(n, frame.MaxWindow)))
	if int(owed) < f.session.Load().giveAt {
		return
	}
	s := f.lock()
	s.giveBack(f)
	s.mu.Unlock()
}

// Event tells the peer of e. In a gap between sessions it is kept, and told
// when the flow is opened again. It fails with ErrClosed only.
func (f *Flow) Event(e Event) error {
	s := f.lock()
	defer s.mu.Unlock()
	if f.state&flowClosed != 0 || s.ended() && !s.outlived {
		return ErrClosed
	}
	switch e {
	case EventSilent:
		f.state |= flowSilent
	case EventAlive:
		f.state &^= flowSilent
	}
	if !s.ended() {
		s.append(f, func(b []byte) []byte {
			return append(frame.AppendHeader(b, frame.TypeEvent, f.id, 1), byte(e))
		})
	}
	return nil
}

// Close ends the flow; what was sent before arrives before. Its handler is not
// called any more, except for a call that is under way.
func (f *Flow) Close(code CloseCode, text string) {
	s := f.lock()
	defer s.mu.Unlock()
	s.close(f, code, text)
}
