package tunnel

import (
	"bufio"
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"sallyport/tunnel/frame"
)

// A session is one link between an edge and a core, from HELLO to its end. An
// ended session of an edge keeps the flows it carried until another takes
// them, or until they are given up.
type session struct {
	// Static after newSession.
	tunables
	conn     net.Conn
	peer     Peer
	hello    frame.Hello // the peer's
	outlived bool        // flows live longer than this session (edge)
	accept   func(*Flow) Handler
	metrics  *metrics
	start    time.Time
	maxSend  int           // longest message the peer takes
	giveAt   int           // bytes owed that are worth a CREDIT
	done     chan struct{} // closed by fail: this session carries nothing any more
	buried   chan struct{} // closed by its owner: its reader has stopped
	moved    chan struct{} // closed when the flows it left were taken (edge)

	heard atomic.Int64 // when bytes last came, since start
	rtt   atomic.Int64
	// opened is the highest flow id given by this end. It grows under mu.
	opened atomic.Uint32

	// calls is held while handlers are called, so that their calls are in
	// order whoever makes them. It is taken before mu.
	calls sync.Mutex

	// Owned by read.
	in     *bufio.Reader
	lastID uint32 // highest flow opened by the peer
	rate   bucket
	names  names

	// index guards flows alone, so that the reader finds a flow without
	// queueing up behind those who send. It is taken after mu.
	index sync.Mutex
	flows map[uint32]*Flow // changed with mu and index held

	mu sync.Mutex
	// Guarded by mu.
	work     sync.Cond       // there is something to write
	control  []byte          // frames that go before data
	data     []byte          // frames in the order in which they were sent
	pong     []byte          // answer to the newest PING, empty when none is due
	batch    uint32          // number of the batch that data will be
	written  uint32          // number of the last batch written whole
	room     []chan struct{} // who waits for room in data, longest first
	blocked  map[*Flow]*block
	draining bool
	notices  []string // the peer's newest
	leaving  bool
	lostAt   time.Time   // when it ended; guarded by Acceptor.mu
	overdue  *time.Timer // ends a leaving session whose peer does not read
	err      error
	bye      []byte
}

// A block is a flow that cannot be sent to.
type block struct {
	since time.Time
	wait  chan struct{} // closed when things may have changed; nil if nobody waits
}

func newSession(t tunables, l link, m *metrics) *session {
	s := &session{
		tunables: t, metrics: m, start: time.Now(),
		conn: l.conn, in: l.in, hello: l.hello,
		peer:    Peer{Name: l.hello.Node, Boot: l.hello.Boot},
		maxSend: int(min(l.hello.Window, l.hello.MaxFrame, frame.MaxPayload)),
		giveAt:  t.window / 4,
		done:    make(chan struct{}), buried: make(chan struct{}), moved: make(chan struct{}),
		rate:  newBucket(t.openRate, t.maxFlows),
		names: make(names), flows: make(map[uint32]*Flow), blocked: make(map[*Flow]*block),
		batch: 1, draining: l.hello.Draining,
	}
	s.work.L = &s.mu
	l.ear.s = s
	return s
}

// run serves the link until it breaks or ctx ends, and returns why it ended.
// When it returns, no handler is called any more and conn is closed.
func (s *session) run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, s.leave)
	defer stop()
	var rest sync.WaitGroup
	rest.Go(s.write)
	rest.Go(s.beat)
	s.fail(s.read(), 0)
	rest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.overdue != nil {
		s.overdue.Stop()
	}
	s.control, s.data, s.in = nil, nil, nil
	return s.err
}

// fail ends the session because of err. A code other than 0 is told to the
// peer, if that takes no time to speak of.
func (s *session) fail(err error, code frame.GoAwayCode) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return
	}
	if s.leaving {
		err, code = errLeft, 0
	}
	s.err = err
	deadline := time.Now()
	if code != 0 {
		s.bye = frame.AppendGoAway(nil, code, err.Error())
		deadline = deadline.Add(byeWithin)
	}
	// The writer closes the connection; this makes it stop writing.
	_ = s.conn.SetWriteDeadline(deadline)
	s.wakeAll()
	close(s.done)
	s.work.Signal()
}

// byeWithin bounds how long an ending session may still write.
const byeWithin = time.Second

// leave ends the session in order: what is queued is written, then GOAWAY.
func (s *session) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended() {
		return
	}
	s.leaving = true
	s.data = frame.AppendGoAway(s.data, frame.GoAwayLeaving, "")
	s.work.Signal()
	s.overdue = time.AfterFunc(byeWithin, func() { s.fail(errLeft, 0) })
}

// ended tells whether the session carries nothing any more. s.mu is held.
func (s *session) ended() bool { return s.err != nil || s.leaving }

// drain tells the peer that this end takes no new flows, and when it leaves.
func (s *session) drain(in time.Duration) {
	ms := uint32(min(max(in.Milliseconds(), 0), 1<<31))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.control = frame.AppendUint32(s.control, frame.TypeDrain, 0, ms)
	s.work.Signal()
}

// notify tells the peer's operator what to know of this end.
func (s *session) notify(notes []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.control = frame.AppendNotice(s.control, notes)
	s.work.Signal()
}

// send queues p for f. s.mu is held.
func (s *session) send(f *Flow, p []byte) error {
	n := len(p)
	switch {
	case f.state&flowClosed != 0, s.ended() && !s.outlived:
		return ErrClosed
	case n > s.maxSend:
		return ErrTooBig
	case s.ended():
		return ErrNoCredit
	case n == 0:
		return nil
	case len(s.data) >= s.queue:
		return ErrQueueFull
	case !affords(int(f.credit), int(s.hello.Window), n):
		s.block(f)
		return ErrNoCredit
	}
	f.credit -= int32(n)
	if f.credit <= 0 {
		s.block(f)
	}
	f.batch = s.batch
	s.data = frame.Append(s.data, frame.TypeData, f.id, p)
	s.work.Signal()
	return nil
}

// affords tells whether a message of n bytes may be sent. With less than a
// quarter of the window outstanding, which is what a peer may owe that has
// consumed everything, the longest message passes. Without that rule, 16 KiB
// not worth a CREDIT would keep back a message of 64 KiB for ever.
func affords(credit, window, n int) bool {
	return n <= credit || window-credit < window/4
}

// block notes that f cannot be sent to. s.mu is held.
func (s *session) block(f *Flow) *block {
	b := s.blocked[f]
	if b == nil {
		b = &block{since: time.Now()}
		s.blocked[f] = b
		f.state |= flowBlocked
	}
	return b
}

func (s *session) unblock(f *Flow) {
	if f.state&flowBlocked == 0 {
		return
	}
	f.state &^= flowBlocked
	if b := s.blocked[f]; b != nil && b.wait != nil {
		close(b.wait)
	}
	delete(s.blocked, f)
}

// waitFor returns a channel that closes when a send that failed with err is
// worth another try. s.mu is held.
func (s *session) waitFor(f *Flow, err error) chan struct{} {
	if errors.Is(err, ErrQueueFull) {
		wait := make(chan struct{})
		s.room = append(s.room, wait)
		return wait
	}
	b := s.block(f)
	if b.wait == nil {
		b.wait = make(chan struct{})
	}
	return b.wait
}

// wakeAll makes everyone who waits look again. s.mu is held.
func (s *session) wakeAll() {
	for f := range s.blocked {
		s.unblock(f)
	}
	s.wakeRoom(len(s.room))
}

// roomAtOnce is how many of those who wait for room are woken when there is
// some. Each that has looked wakes another, so none is forgotten, and the
// reader and the writer do not meet them all at the lock.
const roomAtOnce = 8

// wakeRoom wakes the n who have waited for room longest. s.mu is held.
func (s *session) wakeRoom(n int) {
	n = min(n, len(s.room))
	for _, wait := range s.room[:n] {
		close(wait)
	}
	s.room = slices.Delete(s.room, 0, n)
}

// forget is told that whoever waited for wait does so no more. If it had been
// woken for room, another is.
func (s *session) forget(wait chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(s.room, wait); i >= 0 {
		s.room = slices.Delete(s.room, i, i+1)
	} else if len(s.data) < s.queue {
		s.wakeRoom(1)
	}
}

// giveBack returns what f owes as credit. s.mu is held.
func (s *session) giveBack(f *Flow) {
	n := min(f.owed.Swap(0), f.used.Load())
	if n <= 0 || f.state&flowClosed != 0 || s.ended() {
		return
	}
	f.used.Add(-n)
	s.control = frame.AppendUint32(s.control, frame.TypeCredit, f.id, uint32(n))
	s.work.Signal()
}

// append queues a frame of f: before all data if none of its own is still to
// be written, else behind it. s.mu is held.
func (s *session) append(f *Flow, put func([]byte) []byte) {
	if int32(f.batch-s.written) <= 0 {
		s.control = put(s.control)
	} else {
		f.batch = s.batch
		s.data = put(s.data)
	}
	s.work.Signal()
}

// close ends f and tells the peer. It returns false if f had ended before.
// s.mu is held.
func (s *session) close(f *Flow, code CloseCode, text string) bool {
	if !s.remove(f, code) {
		return false
	}
	if !s.ended() {
		s.append(f, func(b []byte) []byte { return frame.AppendClose(b, f.id, code, text) })
	}
	return true
}

// remove forgets f. s.mu is held.
func (s *session) remove(f *Flow, code CloseCode) bool {
	if f.state&flowClosed != 0 {
		return false
	}
	f.state |= flowClosed
	s.unblock(f)
	s.index.Lock()
	delete(s.flows, f.id)
	s.index.Unlock()
	s.metrics.flowEnded(code)
	return true
}

// giveUp ends every flow that is left, without a word to the peer.
func (s *session) giveUp(code CloseCode, text string) {
	s.calls.Lock()
	defer s.calls.Unlock()
	s.mu.Lock()
	flows := make([]*Flow, 0, len(s.flows))
	for _, f := range s.flows {
		if s.remove(f, code) {
			flows = append(flows, f)
		}
	}
	s.mu.Unlock()
	for _, f := range flows {
		f.h.Closed(f, code, text)
	}
}
