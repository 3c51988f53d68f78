package push

import (
	"time"
)

// The window within which notes of one chat are merged: the first goes at once,
// what follows within firstWindow goes together, and the window doubles while
// each of them finds something to send.
const (
	firstWindow = 2 * time.Second
	lastWindow  = 30 * time.Second
)

// chat is what is merged into one push: the messages of one conversation on one
// device, or a single note of another kind. Owned by the schedule.
//
//	         add             pop, start            accepted
//	(none) ──────▶ waiting ─────────────▶ busy ──────────────▶ idle ──▶ (none)
//	                 ▲ ▲   pop, no slot ▶ parked                 │ add
//	                 │ └──────────────────┘ refused for now      │
//	                 └───────────────────────────────────────────┘
type chat struct {
	name   string
	dev    *device // nil for a device that is not known
	single bool    // merged with nothing, and gone when its row is

	rows   []*row // the oldest first; while busy also those under way
	count  int    // messages since the device was last back, sent ones included
	busy   bool   // a push is under way
	parked bool   // waits for a slot of its app

	window time.Duration
	next   time.Time // end of the window
	pardon bool      // an urgent note has passed this window
	forget time.Time // when an idle chat is forgotten, and its count with it

	tries  int       // failed attempts in a row
	failed time.Time // when the provider first refused it for now
	wait   time.Time // not to be sent before
	held   bool      // …because of quiet hours

	due   time.Time // valid in the heap
	index int       // in the heap; -1 outside
}

// urgent says whether one of the waiting rows is.
func (c *chat) urgent() bool {
	for _, r := range c.rows {
		if r.note.Urgent {
			return true
		}
	}
	return false
}

// expires is when the first of the rows ends.
func (c *chat) expires() (first time.Time) {
	for _, r := range c.rows {
		if first.IsZero() || r.expires.Before(first) {
			first = r.expires
		}
	}
	return first
}

// ready is when the chat may be sent, as far as it is known at now.
func (c *chat) ready(now time.Time, perMinute int) time.Time {
	var at time.Time
	urgent := c.urgent()
	if !c.single && (!urgent || c.pardon) {
		at = c.next
	}
	if c.dev != nil && (!urgent || now.Sub(c.dev.pardon) < time.Minute) {
		at = later(at, c.dev.free(perMinute))
	}
	return later(at, c.wait)
}

// settle takes rows that ended out of the chat.
func (c *chat) settle() {
	kept := c.rows[:0]
	for _, r := range c.rows {
		if !r.ended {
			kept = append(kept, r)
		}
	}
	clear(c.rows[len(kept):])
	c.rows = kept
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// device is one device for which rows wait, or waited a while ago. Owned by
// the schedule.
type device struct {
	name   string
	chats  map[string]*chat
	sent   []time.Time // the pushes of the last minute, the oldest first
	pardon time.Time   // when an urgent note last passed the cap
}

// free is when the device may get one push more: the zero time is now.
func (d *device) free(perMinute int) time.Time {
	if len(d.sent) < perMinute {
		return time.Time{}
	}
	return d.sent[len(d.sent)-perMinute].Add(time.Minute)
}

// charge enters a push at now.
func (d *device) charge(now time.Time, perMinute int) {
	if d.free(perMinute).After(now) {
		d.pardon = now
	}
	for len(d.sent) > 0 && (len(d.sent) > perMinute || now.Sub(d.sent[0]) >= time.Minute) {
		d.sent = d.sent[1:]
	}
	d.sent = append(d.sent, now)
}

// Before implements inorder.Item: chats are in the order in which something of
// them is due.
func (c *chat) Before(o *chat) bool { return c.due.Before(o.due) }

// Slot implements inorder.Item.
func (c *chat) Slot() *int { return &c.index }
