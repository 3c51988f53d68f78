package push

import (
	"slices"
	"time"

	"sallyport/core/inorder"
)

// maxIdle bounds the chats that are kept for their count alone; beyond it some
// are forgotten, and their count begins anew.
const maxIdle = 50_000

// schedule decides which notes go together, and when. It is pure: it knows
// neither store nor provider, nor what time it is, and starts nothing. Not safe
// for concurrent use; the lane's goroutine owns it.
type schedule struct {
	perMinute int
	keep      time.Duration // how long the count of a chat is kept after its last push

	devices map[string]*device
	rows    map[string]*row // that wait, by key, but for devices that are not known
	order   []*row          // as they came, with some that ended: for the age
	due     inorder.Heap[*chat]
	waiting int // rows
	idle    int // chats without rows
	sweep   time.Time
}

func newSchedule(perMinute int, keep time.Duration) *schedule {
	return &schedule{
		perMinute: perMinute, keep: keep,
		devices: make(map[string]*device), rows: make(map[string]*row),
	}
}

// batch is what one push stands for.
type batch struct {
	chat *chat
	rows []*row
	note Note // of the last row, with the count of all
	key  string
	last *row
}

// add enters a row. One that waits already is not entered again: then the
// newer of both stays. It reports whether the row is new.
func (s *schedule) add(r *row, now time.Time) bool {
	if old := s.rows[r.key]; old != nil && r.device != "" {
		if r.remove != nil {
			if old.remove != nil && r.tries < old.tries {
				r.remove()
			} else {
				old.tries = max(old.tries, r.tries)
				old.replace(r.remove)
			}
		}
		return false
	}
	c := s.chat(r)
	if c.dev != nil {
		s.rows[r.key] = r
	}
	s.waiting++
	s.line(r)
	if len(c.rows) == 0 {
		if c.index >= 0 {
			s.idle-- // it was kept for its count
		}
		if !now.Before(c.next) {
			c.window = 0 // it was silent for a whole window
		}
	}
	if c.held { // it may be of somebody who comes through
		c.wait, c.held = time.Time{}, false
	}
	c.rows = append(c.rows, r)
	c.tries, c.wait = max(c.tries, r.tries), later(c.wait, r.wait)
	if c.failed.IsZero() || !r.failed.IsZero() && r.failed.Before(c.failed) {
		c.failed = r.failed
	}
	s.plan(c, now)
	return true
}

// line enters r among those of which the oldest is asked for. Rows that ended
// behind one that waits long are taken out now and then.
func (s *schedule) line(r *row) {
	if len(s.order) > 2*s.waiting+64 {
		s.order = slices.DeleteFunc(s.order, func(r *row) bool { return r.ended })
	}
	s.order = append(s.order, r)
}

// replace makes the row the one that remove takes out, and takes out the former.
func (r *row) replace(remove func()) {
	if r.remove != nil {
		r.remove()
	}
	r.remove = remove
}

// chat returns the chat that r belongs to.
func (s *schedule) chat(r *row) *chat {
	name, single := r.chatName()
	if r.device == "" {
		return &chat{name: name, single: single, index: -1}
	}
	d := s.devices[r.device]
	if d == nil {
		d = &device{name: r.device, chats: make(map[string]*chat)}
		s.devices[r.device] = d
	}
	c := d.chats[name]
	if c == nil {
		c = &chat{name: name, dev: d, single: single, index: -1}
		d.chats[name] = c
	}
	return c
}

// plan puts c where it belongs in the heap.
func (s *schedule) plan(c *chat, now time.Time) {
	switch {
	case c.busy || c.parked:
		s.unplan(c)
		return
	case len(c.rows) == 0:
		c.due = c.forget
	default:
		c.due = c.ready(now, s.perMinute)
		if last := c.expires(); last.Before(c.due) {
			c.due = last
		}
	}
	s.due.Put(c)
}

func (s *schedule) unplan(c *chat) { s.due.Remove(c) }

// next is when pop has something to do, the zero time for never.
func (s *schedule) next() time.Time {
	if len(s.due) == 0 {
		return time.Time{}
	}
	return s.due[0].due
}

// pop returns a chat that may be sent now, and ends the rows that came too
// late. The chat is out of the heap until start, park or plan. nil: none is due.
func (s *schedule) pop(now time.Time, expired func(*row)) *chat {
	for len(s.due) > 0 && !s.due[0].due.After(now) {
		c := s.due.Take()
		if len(c.rows) == 0 {
			s.idle--
			s.remove(c)
			continue
		}
		for _, r := range c.rows {
			if !r.expires.After(now) {
				s.end(r)
				expired(r)
			}
		}
		c.settle()
		switch {
		case len(c.rows) == 0:
			s.rest(c, now)
		case c.ready(now, s.perMinute).After(now):
			s.plan(c, now)
		default:
			return c
		}
	}
	return nil
}

// start makes one push of all that waits in c.
func (s *schedule) start(c *chat, now time.Time) batch {
	c.busy, c.parked, c.held = true, false, false
	if c.dev != nil {
		c.dev.charge(now, s.perMinute)
	}
	switch {
	case c.single:
	case now.Before(c.next):
		c.pardon = true
	default:
		c.window = min(max(2*c.window, firstWindow), lastWindow)
		c.next, c.pardon = now.Add(c.window), false
	}
	b := batch{chat: c, rows: append([]*row(nil), c.rows...), last: c.rows[len(c.rows)-1]}
	for _, r := range b.rows {
		if !r.counted {
			r.counted = true
			c.count += r.messages()
		}
	}
	b.note, b.key = b.last.note, b.last.key
	b.note.Count = c.count
	b.note.Urgent = c.urgent()
	return b
}

// finish ends the rows of b.
func (s *schedule) finish(b batch, now time.Time) {
	c := b.chat
	c.busy, c.tries, c.wait, c.failed = false, 0, time.Time{}, time.Time{}
	for _, r := range b.rows {
		s.end(r)
	}
	c.settle()
	s.resume(c, now)
}

// retry keeps the rows of b for another attempt, not before wait.
func (s *schedule) retry(b batch, wait, now time.Time) {
	c := b.chat
	c.busy, c.wait = false, wait
	c.settle() // some may have been dropped meanwhile
	s.resume(c, now)
}

func (s *schedule) resume(c *chat, now time.Time) {
	if len(c.rows) == 0 {
		s.rest(c, now)
		return
	}
	s.plan(c, now)
}

// rest keeps a chat without rows for its count, or not at all.
func (s *schedule) rest(c *chat, now time.Time) {
	if c.busy || c.parked {
		return
	}
	if c.single || c.count == 0 && !c.next.After(now) {
		s.remove(c)
		return
	}
	c.tries, c.wait, c.failed = 0, time.Time{}, time.Time{}
	c.forget = now.Add(s.keep)
	s.idle++
	s.plan(c, now)
	if s.idle > maxIdle {
		s.forgetOne(c)
	}
}

// forgetOne forgets an idle chat other than c: one of those due last, where
// the idle ones are.
func (s *schedule) forgetOne(c *chat) {
	for i := len(s.due) - 1; i >= 0; i-- {
		if o := s.due[i]; o != c && len(o.rows) == 0 {
			s.idle--
			s.remove(o)
			return
		}
	}
}

func (s *schedule) remove(c *chat) {
	s.unplan(c)
	if c.dev != nil {
		delete(c.dev.chats, c.name)
	}
}

// end takes r out of the count of what waits. Its chat is settled by the caller.
func (s *schedule) end(r *row) {
	if r.ended {
		return
	}
	r.ended = true
	s.waiting--
	if r.device != "" {
		delete(s.rows, r.key)
	}
}

// oldest is when the row was queued that waits longest; zero when none waits.
func (s *schedule) oldest() time.Time {
	n := 0
	for n < len(s.order) && s.order[n].ended {
		s.order[n] = nil
		n++
	}
	s.order = s.order[n:]
	if len(s.order) == 0 {
		s.order = nil
		return time.Time{}
	}
	return s.order[0].added
}

// drop ends the rows of a device that which names, and gives each to dropped.
// A push that is under way with them is not stopped. reset says whether the
// chat's count begins anew.
func (s *schedule) drop(device string, which func(*row) bool, reset func(chat string) bool, now time.Time, dropped func(*row)) {
	d := s.devices[device]
	if d == nil {
		return
	}
	for _, c := range d.chats {
		before := len(c.rows)
		for _, r := range c.rows {
			if which(r) {
				s.end(r)
				dropped(r)
			}
		}
		c.settle()
		if reset(c.name) {
			c.count = 0
		}
		switch {
		case c.busy || c.parked:
		case len(c.rows) > 0:
			s.plan(c, now)
		case before > 0:
			s.unplan(c)
			s.rest(c, now)
		case c.count == 0 && !c.next.After(now): // idle, and nothing to keep
			s.idle--
			s.remove(c)
		}
	}
}

// each calls f with every chat in which rows wait for their time.
func (s *schedule) each(f func(*chat)) {
	for _, c := range append([]*chat(nil), s.due...) {
		if len(c.rows) > 0 {
			f(c)
		}
	}
}

// tidy forgets devices with which nothing goes on, once a minute. It reports
// whether the minute was over.
func (s *schedule) tidy(now time.Time) bool {
	if now.Before(s.sweep) {
		return false
	}
	s.sweep = now.Add(time.Minute)
	for name, d := range s.devices {
		if len(d.chats) == 0 && (len(d.sent) == 0 || now.Sub(d.sent[len(d.sent)-1]) >= time.Minute) {
			delete(s.devices, name)
		}
	}
	return true
}
