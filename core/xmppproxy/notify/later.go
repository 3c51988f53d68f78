package notify

import (
	"strings"
	"time"

	"sallyport/core/inorder"
	"sallyport/core/wake"
)

// deferred is word of a conversation that waits for another client of the user
// to fall idle.
type deferred struct {
	s     *state
	note  wake.Note
	due   time.Time
	index int // in the queue
}

// maxLater bounds the conversations of a client that wait; word of more is not
// pushed.
const maxLater = 100

// postpone keeps a note until due, with those of its conversation that wait.
func (n *Notifier) postpone(s *state, note wake.Note, due time.Time) {
	if d := s.later[note.Conversation]; d != nil {
		note.Count += d.note.Count
		note.Urgent = note.Urgent || d.note.Urgent
		d.note = note
		return
	}
	if len(s.later) >= maxLater {
		return
	}
	if s.later == nil {
		s.later = make(map[string]*deferred)
	}
	d := &deferred{s: s, note: note, due: due, index: inorder.Nowhere}
	s.later[note.Conversation] = d
	n.later.Put(d)
	if d.index == 0 {
		n.hurry()
	}
}

// forgetLater drops what waits for a client.
func (n *Notifier) forgetLater(s *state) {
	for _, d := range s.later {
		n.later.Remove(d)
	}
	s.later = nil
}

// idle is how long Run sleeps with nothing to do.
const idle = time.Hour

// sendDue sends what is due, unless another client became active meanwhile, and
// returns the time to the next.
func (n *Notifier) sendDue(now time.Time) time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	for len(n.later) > 0 {
		d := n.later[0]
		if wait := d.due.Sub(now); wait > 0 {
			return min(wait, idle)
		}
		if due := n.due(d.s); due.After(now) {
			d.due = due
			n.later.Put(d)
			continue
		}
		n.later.Take()
		delete(d.s.later, d.note.Conversation)
		n.send(d.s, d.note)
	}
	return idle
}

// Before implements [inorder.Item].
func (d *deferred) Before(o *deferred) bool { return d.due.Before(o.due) }

// Slot implements [inorder.Item].
func (d *deferred) Slot() *int { return &d.index }

// keys remembers what was told of, until the client has it and ten minutes
// more: another server's copy may be late.
type keys struct {
	now, past map[string]struct{}
	since     time.Time // past is of before
}

const (
	keepKeys = 10 * time.Minute
	maxKeys  = 1000
)

// first reports whether key was not told of before.
func (k *keys) first(key string, now time.Time) bool {
	if k.past != nil && now.Sub(k.since) > keepKeys {
		k.past = nil
	}
	if _, ok := k.past[key]; ok {
		return false
	}
	if _, ok := k.now[key]; ok {
		return false
	}
	if k.now == nil {
		k.now = make(map[string]struct{})
	}
	if len(k.now) >= maxKeys {
		k.past, k.since, k.now = k.now, now, make(map[string]struct{})
	}
	k.now[strings.Clone(key)] = struct{}{}
	return true
}

// returned says that the client has what it was told of.
func (k *keys) returned(now time.Time) {
	if len(k.now) > 0 {
		k.past, k.since, k.now = k.now, now, nil
	}
}

// findCall finds a call by its id alone.
func (s *state) findCall(id string) (key string, one *call) {
	for k, c := range s.calls {
		if have, _, _ := strings.Cut(k, "\x00"); have == id {
			return k, c
		}
	}
	return "", nil
}
