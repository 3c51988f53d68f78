package pushtest

import (
	"slices"
	"time"
)

// mailbox holds what a provider stores for a device that is away. Its owner
// guards it.
type mailbox[T any] struct {
	keys  int // how many collapse keys it remembers; 0 any number
	plain int // how many messages without a key it holds; 0 any number
	items []stored[T]
	lost  bool // too many: all were discarded
}

type stored[T any] struct {
	key     string // "" is not collapsible
	expires time.Time
	what    T
}

// put stores a message. One with a key replaces the one stored under it, and
// the oldest key goes where there are too many; one message without a key too
// many discards all.
func (m *mailbox[T]) put(now time.Time, one stored[T]) {
	m.items = slices.DeleteFunc(m.items, func(s stored[T]) bool {
		return !now.Before(s.expires) || one.key != "" && s.key == one.key
	})
	plain, keys := 0, 0
	for _, s := range m.items {
		if s.key == "" {
			plain++
		} else {
			keys++
		}
	}
	switch {
	case one.key == "" && m.plain > 0 && plain >= m.plain:
		m.items, m.lost = nil, true
		return
	case one.key != "" && m.keys > 0 && keys >= m.keys:
		oldest := slices.IndexFunc(m.items, func(s stored[T]) bool { return s.key != "" })
		m.items = slices.Delete(m.items, oldest, oldest+1)
	}
	m.items = append(m.items, one)
}

// take empties the mailbox, and says whether messages were discarded.
func (m *mailbox[T]) take(now time.Time) (out []T, lost bool) {
	for _, s := range m.items {
		if now.Before(s.expires) {
			out = append(out, s.what)
		}
	}
	lost = m.lost
	m.items, m.lost = nil, false
	return out, lost
}
