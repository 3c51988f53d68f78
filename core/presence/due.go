package presence

import (
	"container/heap"
	"time"
)

// dueHeap orders publications by when they are to be looked at.
type dueHeap []*publication

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].due.Before(h[j].due) }
func (h dueHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

// Push implements heap.Interface.
func (h *dueHeap) Push(x any) {
	p := x.(*publication)
	p.index = len(*h)
	*h = append(*h, p)
}

// Pop implements heap.Interface.
func (h *dueHeap) Pop() any {
	old := *h
	p := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	p.index = -1
	return p
}

// at has a publication looked at at a time. Under b.mu.
func (b *Book) at(p *publication, t time.Time) {
	p.due = t
	if p.index < 0 {
		heap.Push(&b.due, p)
	} else {
		heap.Fix(&b.due, p.index)
	}
	if b.due[0] == p {
		signal(b.changed)
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Due takes the device whose publication is to be looked at first, if its time
// has come; it is looked at once, by [Book.Decide]. Otherwise it returns how long
// that is off, at most an hour.
func (b *Book) Due() (device string, wait time.Duration) {
	now := time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.due) == 0 {
		return "", time.Hour
	}
	if wait = b.due[0].due.Sub(now); wait > 0 {
		return "", min(wait, time.Hour)
	}
	return heap.Pop(&b.due).(*publication).Device, 0
}

// Changed holds a token when Due may have another answer.
func (b *Book) Changed() <-chan struct{} { return b.changed }
