package presence

import (
	"time"
)

// Before and Slot order publications by when they are to be looked at.
func (p *publication) Before(o *publication) bool { return p.due.Before(o.due) }

// Slot implements inorder.Item.
func (p *publication) Slot() *int { return &p.index }

// at has a publication looked at at a time. Under b.mu.
func (b *Book) at(p *publication, t time.Time) {
	p.due = t
	b.due.Put(p)
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
	return b.due.Take().Device, 0
}

// Changed holds a token when Due may have another answer.
func (b *Book) Changed() <-chan struct{} { return b.changed }
