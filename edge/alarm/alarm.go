// Package alarm lets very many wait for their times with one timer between
// them: a flow that waits costs two words and a place in a heap. It does not
// know who waits or what for.
package alarm

import (
	"container/heap"
	"sync"
	"time"
)

// Sleeper is one who waits.
type Sleeper interface {
	// Alarm is the sleeper's own, always the same.
	Alarm() *Alarm
	// Ring is called when its time has come. It must not block: others wait.
	// It may set alarms.
	Ring()
}

// Alarm is when its sleeper is to be rung. It is part of the sleeper; the zero
// value is not set. Only its Clock looks inside.
type Alarm struct {
	at    int64 // nanoseconds on the clock
	place int32 // in the heap, counted from 1; 0 when not set
}

// Clock rings sleepers. All methods may be called from any goroutine. A clock
// with no alarm set holds nothing and runs nothing.
type Clock struct {
	// Static after New.
	zero time.Time

	// Guarded by mu.
	mu    sync.Mutex
	queue queue
	timer *time.Timer
	timed int64 // when timer goes off; 0 when it does not
}

// New returns a clock. It starts nothing.
func New() *Clock { return &Clock{zero: time.Now()} }

// Set has s rung at the time given, and not at that set before. A time that is
// past rings at once, behind the back of the caller.
func (c *Clock) Set(s Sleeper, at time.Time) {
	a := s.Alarm()
	c.mu.Lock()
	defer c.mu.Unlock()
	a.at = max(at.Sub(c.zero).Nanoseconds(), 1)
	if a.place > 0 {
		heap.Fix(&c.queue, int(a.place-1))
	} else {
		heap.Push(&c.queue, s)
	}
	c.wind()
}

// Stop has s not rung, unless its Ring is being called already.
func (c *Clock) Stop(s Sleeper) {
	a := s.Alarm()
	c.mu.Lock()
	defer c.mu.Unlock()
	if a.place > 0 {
		heap.Remove(&c.queue, int(a.place-1))
	}
	if len(c.queue) == 0 {
		c.wind()
	}
}

// wind sees to it that the timer goes off at the first alarm, or a little
// before: alarms are put off more often than not, and a timer that goes off in
// vain costs less than to move it each time. c.mu is held.
func (c *Clock) wind() {
	if len(c.queue) == 0 {
		if c.timed != 0 {
			c.timer.Stop()
			c.timed = 0
		}
		return
	}
	first := c.queue[0].Alarm().at
	if c.timed != 0 && c.timed <= first {
		return
	}
	c.timed = first
	left := time.Until(c.zero.Add(time.Duration(first)))
	if c.timer == nil {
		c.timer = time.AfterFunc(left, c.strike)
		return
	}
	c.timer.Reset(left)
}

// strike rings who is due. It is called by the timer; should a timer that was
// moved go off twice, one of the two finds nobody.
func (c *Clock) strike() {
	c.mu.Lock()
	now := time.Since(c.zero).Nanoseconds()
	var due []Sleeper
	for len(c.queue) > 0 && c.queue[0].Alarm().at <= now {
		due = append(due, heap.Pop(&c.queue).(Sleeper))
	}
	c.timed = 0
	c.wind()
	c.mu.Unlock()
	for _, s := range due {
		s.Ring()
	}
}

// queue is a heap by time whose entries know their places.
type queue []Sleeper

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].Alarm().at < q[j].Alarm().at }
func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].Alarm().place, q[j].Alarm().place = int32(i+1), int32(j+1)
}

func (q *queue) Push(x any) {
	s := x.(Sleeper)
	*q = append(*q, s)
	s.Alarm().place = int32(len(*q))
}

func (q *queue) Pop() any {
	old := *q
	n := len(old) - 1
	s := old[n]
	old[n] = nil
	*q = old[:n]
	s.Alarm().place = 0
	return s
}
