package tunnel

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"sallyport/tunnel/frame"
)

// A link is one of the ordered ways of a session. A flow stays on its link;
// the connections that carry a link come and go.
type link struct {
	// Static after newLink.
	s      *session
	number uint32

	// calls is held while handlers are called, so that their calls are in
	// order whoever makes them. It is taken before mu.
	calls sync.Mutex

	// Owned by read.
	lastID uint32 // highest flow opened by the peer
	asked  uint64 // rx when an ACK was last asked for
	names  names

	toldNarrow bool // NARROW was said once; owned by beat

	// rx is how many sequenced bytes of the peer were handled. It grows on the
	// reader.
	rx atomic.Uint64
	// opened is the highest flow id given by this end. It grows under mu.
	opened atomic.Uint32

	// joining is held from the look at rx and ring for a HELLO until the
	// carrier it was said on is attached, or is not.
	joining sync.Mutex

	// index guards flows alone, so that the reader finds a flow without
	// queueing up behind those who send. It is taken after mu.
	index sync.Mutex
	flows map[uint32]*Flow // changed with mu and index held

	mu sync.Mutex
	// Guarded by mu.
	work    sync.Cond // there is something to write
	carrier *carrier  // nil in a gap
	born    bool      // it had a carrier
	gap     *time.Timer
	over    bool // the session has ended
	leaving bool // this end leaves it

	urgent  []byte // frames of this carrier alone; they go first
	pong    []byte // answer to the newest PING, empty when none is due
	control []byte // sequenced frames that go before data
	data    []byte // frames in the order in which they were sent
	taken   []byte // the batch of data that is on its way into the ring…
	into    int    // …and how much of it is there
	ring    ring
	looked  uint64    // the ring's end when beat last looked
	moving  time.Time // when the peer last acknowledged something it had not, or had nothing to
	acked   uint64    // rx as last told
	ackNow  bool
	batch   uint32          // number of the batch that data will be
	written uint32          // number of the last batch that is in the ring whole
	room    []chan struct{} // who waits for room in data, longest first
	blocked map[*Flow]*block
}

// A block is a flow that cannot be sent to.
type block struct {
	since time.Time
	wait  chan struct{} // closed when things may have changed; nil if nobody waits
}

// newborn is how long a link may wait for its first carrier and get flows
// nevertheless: a core dials its links one after another.
const newborn = 2 * time.Second

func newLink(s *session, number uint32) *link {
	l := &link{
		s: s, number: number, names: make(names), flows: make(map[uint32]*Flow), blocked: make(map[*Flow]*block),
		batch: 1,
	}
	l.work.L = &l.mu
	return l
}

// ended tells whether the link carries nothing any more. l.mu is held.
func (l *link) ended() bool { return l.over || l.leaving }

// send queues p for f, as DATA or PART. l.mu is held.
func (l *link) send(f *Flow, t frame.Type, p []byte) error {
	n := len(p)
	switch {
	case f.state&flowClosed != 0, l.ended() && !l.s.outlived:
		return ErrClosed
	case t == frame.TypePart && !l.s.parts():
		return ErrNoParts
	case n > l.s.maxSend:
		return ErrTooBig
	case l.ended():
		return ErrNoCredit
	case n == 0:
		return nil
	case len(l.data) >= l.s.queue:
		return ErrQueueFull
	case !affords(int(f.credit), l.windowOf(f), n):
		l.block(f)
		return ErrNoCredit
	}
	f.credit -= int32(n)
	if f.credit <= 0 {
		l.block(f)
	}
	f.batch = l.batch
	l.data = frame.Append(l.data, t, f.id, p)
	l.work.Signal()
	return nil
}

// windowOf is how much f may be sent before credit comes back. l.mu is held.
func (l *link) windowOf(f *Flow) int {
	if f.state&flowNarrow != 0 {
		return int(l.s.hello.Window / share)
	}
	return int(l.s.hello.Window)
}

// affords tells whether a message of n bytes may be sent. With less than a
// quarter of the window outstanding, which is what a peer may owe that has
// consumed everything, the longest message passes. Without that rule, 16 KiB
// not worth a CREDIT would keep back a message of 64 KiB for ever.
func affords(credit, window, n int) bool {
	return n <= credit || window-credit < window/share
}

// block notes that f cannot be sent to. l.mu is held.
func (l *link) block(f *Flow) *block {
	b := l.blocked[f]
	if b == nil {
		b = &block{since: time.Now()}
		l.blocked[f] = b
		f.state |= flowBlocked
	}
	return b
}

func (l *link) unblock(f *Flow) {
	if f.state&flowBlocked == 0 {
		return
	}
	f.state &^= flowBlocked
	if b := l.blocked[f]; b != nil && b.wait != nil {
		close(b.wait)
	}
	delete(l.blocked, f)
}

// waitFor returns a channel that closes when a send that failed with err is
// worth another try. l.mu is held.
func (l *link) waitFor(f *Flow, err error) chan struct{} {
	if errors.Is(err, ErrQueueFull) {
		wait := make(chan struct{})
		l.room = append(l.room, wait)
		return wait
	}
	b := l.block(f)
	if b.wait == nil {
		b.wait = make(chan struct{})
	}
	return b.wait
}

// wakeAll makes everyone who waits look again. l.mu is held.
func (l *link) wakeAll() {
	for f := range l.blocked {
		l.unblock(f)
	}
	l.wakeRoom(len(l.room))
}

// roomAtOnce is how many of those who wait for room are woken when there is
// some. Each that has looked wakes another, so none is forgotten, and the
// reader and the writer do not meet them all at the lock.
const roomAtOnce = 8

// wakeRoom wakes the n who have waited for room longest. l.mu is held.
func (l *link) wakeRoom(n int) {
	n = min(n, len(l.room))
	for _, wait := range l.room[:n] {
		close(wait)
	}
	l.room = slices.Delete(l.room, 0, n)
}

// forget is told that whoever waited for wait does so no more. If it had been
// woken for room, another is.
func (l *link) forget(wait chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := slices.Index(l.room, wait); i >= 0 {
		l.room = slices.Delete(l.room, i, i+1)
	} else if len(l.data) < l.s.queue {
		l.wakeRoom(1)
	}
}

// giveBack returns what f owes as credit. l.mu is held.
func (l *link) giveBack(f *Flow) {
	used := f.used.Load()
	n := used - f.held.Load()
	if n <= 0 || f.state&flowClosed != 0 || l.ended() {
		return
	}
	f.used.Add(-n)
	l.control = frame.AppendUint32(l.control, frame.TypeCredit, f.id, uint32(n))
	l.work.Signal()
}

// append queues a frame of f: before all data if none of its own is still to
// be written, else behind it. l.mu is held.
func (l *link) append(f *Flow, put func([]byte) []byte) {
	if int32(f.batch-l.written) <= 0 {
		l.control = put(l.control)
	} else {
		f.batch = l.batch
		l.data = put(l.data)
	}
	l.work.Signal()
}

// urge queues a frame of the present carrier, if there is one, before all
// others.
func (l *link) urge(put func([]byte) []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.carrier != nil && !l.ended() {
		l.urgent = put(l.urgent)
		l.work.Signal()
	}
}

// close ends f and tells the peer. It returns false if f had ended before.
// l.mu is held.
func (l *link) close(f *Flow, code CloseCode, text string) bool {
	if !l.remove(f, code) {
		return false
	}
	if !l.ended() {
		l.append(f, func(b []byte) []byte { return frame.AppendClose(b, f.id, code, text) })
	}
	return true
}

// remove forgets f, which ends. l.mu is held.
func (l *link) remove(f *Flow, code CloseCode) bool {
	if f.state&flowClosed != 0 {
		return false
	}
	f.state |= flowClosed
	l.takeOut(f)
	l.s.metrics.flowEnded(code)
	return true
}

// takeOut makes f one of no link. l.mu is held.
func (l *link) takeOut(f *Flow) {
	l.unblock(f)
	l.index.Lock()
	defer l.index.Unlock()
	delete(l.flows, f.id)
	l.s.budget.release(f)
	l.s.count.Add(-1)
}

// putIn makes f one of this link. l.mu is held.
func (l *link) putIn(f *Flow) {
	f.credit = int32(l.windowOf(f))
	give := int32(l.s.window / share)
	if f.state&flowNarrow != 0 {
		give /= share
	}
	f.give.Store(give)
	l.index.Lock()
	defer l.index.Unlock()
	l.flows[f.id] = f
	f.link.Store(l)
	l.s.count.Add(1)
}

// vacancy returns how many flows the link has, and whether it can take one
// more now.
func (l *link) vacancy() (int, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	carried := l.carrier != nil || !l.born && time.Since(l.s.start) < newborn
	return len(l.flows), !l.ended() && carried && len(l.data) < openQueue*l.s.queue
}

// giveUp ends every flow that is left, without a word to the peer.
func (l *link) giveUp(code CloseCode, text string) {
	l.calls.Lock()
	defer l.calls.Unlock()
	l.mu.Lock()
	flows := make([]*Flow, 0, len(l.flows))
	for _, f := range l.flows {
		if l.remove(f, code) {
			flows = append(flows, f)
		}
	}
	l.mu.Unlock()
	for _, f := range flows {
		f.h.Closed(f, code, text)
	}
}

// never is the error for a flow that never was, nil for one that has ended:
// frames may still be under way to it. Only the reader may ask.
func (l *link) never(id uint32) error {
	if id > l.lastID && id > l.opened.Load() || id%uint32(len(l.s.links)) != l.number {
		return fmt.Errorf("%w: flow %d was never opened", errProtocol, id)
	}
	return nil
}
