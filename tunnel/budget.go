package tunnel

import (
	"cmp"
	"slices"
	"sync/atomic"
	"time"

	"sallyport/tunnel/frame"
)

// A budget bounds what all flows of a node together may have received and not
// consumed. Half of it used up, new flows get a quarter of the window; from
// four fifths on, flows whose window is full and that consume nothing are
// ended. A single flow is bounded by its window anyway.
type budget struct {
	limit int64 // bytes; static
	held  atomic.Int64
	// tight is set while used is beyond four fifths, as of the last look:
	// flows note their progress only then.
	tight atomic.Bool
}

const (
	// defaultBudget is 4096 full windows: more clients than that do not all
	// stop reading at once, unless somebody means it.
	defaultBudget = 256 << 20
	// noProgress is how long a flow may be full and consume nothing on a node
	// whose budget is tight.
	noProgress = 10 * time.Second
)

func newBudget(limit int) *budget { return &budget{limit: int64(limit)} }

// half tells whether new flows should be narrow.
func (b *budget) half() bool { return b.held.Load() >= b.limit/2 }

// over tells how many bytes are held beyond four fifths.
func (b *budget) over() int64 { return b.held.Load() - b.limit/5*4 }

// share is the part of a flow's window that makes a narrow flow, that is worth
// a CREDIT, and within which an idle flow may be overdrawn.
const share = 4

// A watch finds the flows of one link that are full and stand still. It is
// owned by the link's beat.
type watch struct {
	since map[*Flow]time.Time
}

// look notes which flows stand still, and ends those that have for too long,
// the longest first, while the budget is tight.
func (w *watch) look(l *link, now time.Time) {
	b := l.s.budget
	if over := b.over() > 0; !over {
		b.tight.Store(false)
		w.since = nil
		return
	}
	b.tight.Store(true)
	full := l.full()
	still := make(map[*Flow]time.Time)
	for _, f := range full {
		if f.moved.Swap(0) == 0 {
			still[f] = cmp.Or(w.since[f], now)
		}
	}
	w.since = still
	var late []*Flow
	for f, since := range still {
		if now.Sub(since) >= noProgress {
			late = append(late, f)
		}
	}
	slices.SortFunc(late, func(x, y *Flow) int { return still[x].Compare(still[y]) })
	l.endFlows(late, CloseSlowConsumer, slowConsumer, func() bool { return b.over() > 0 })
}

// full returns the flows whose peer can send no more before some is consumed.
func (l *link) full() (full []*Flow) {
	l.index.Lock()
	defer l.index.Unlock()
	for _, f := range l.flows {
		if give := f.give.Load(); f.held.Load() > (share-1)*give {
			full = append(full, f)
		}
	}
	return full
}

const slowConsumer = "took nothing for too long"

// endFlows closes flows of this link, while it is worth it, and tells both
// ends.
func (l *link) endFlows(flows []*Flow, code CloseCode, why string, worth func() bool) {
	if len(flows) == 0 {
		return
	}
	l.calls.Lock()
	defer l.calls.Unlock()
	for _, f := range flows {
		if !worth() {
			return
		}
		l.mu.Lock()
		closed := l.close(f, code, why)
		l.mu.Unlock()
		if closed {
			f.h.Closed(f, code, why)
		}
	}
}

// receive books n bytes that came for a flow. It returns nil for one that has
// ended, and fails when the peer had no credit for them.
func (l *link) receive(id uint32, n int) (*Flow, error) {
	l.index.Lock()
	defer l.index.Unlock()
	f := l.flows[id]
	if f == nil {
		return nil, l.never(id)
	}
	used, w := int(f.used.Load()), share*int(f.give.Load())
	if n > l.s.window || !affords(w-used, w, n) {
		return nil, overdrawn(id, n, used, w)
	}
	f.used.Add(int32(n))
	f.held.Add(int32(n))
	l.s.budget.held.Add(int64(n))
	return f, nil
}

// consumed books that n bytes of f need no memory any more, and tells whether
// a CREDIT is due.
func (b *budget) consumed(f *Flow, n int32) bool {
	for {
		held := f.held.Load()
		n = min(n, held)
		if n <= 0 {
			return false
		}
		if f.held.CompareAndSwap(held, held-n) {
			break
		}
	}
	b.held.Add(-int64(n))
	if b.tight.Load() {
		f.moved.Store(1)
	}
	return f.used.Load()-f.held.Load() >= f.give.Load()
}

// release books that f holds nothing any more. The index of its link is held.
func (b *budget) release(f *Flow) {
	b.held.Add(-int64(f.held.Swap(0)))
	f.used.Store(0)
}

// onNarrow is told how wide the peer wants new flows.
func (l *link) onNarrow(_ *carrier, _ uint32, p []byte) error {
	if l.s.features&frame.FeatureNarrow != 0 {
		l.s.wantsNarrow.Store(p[0] != 0)
	}
	return nil
}
