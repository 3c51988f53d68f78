package apns

import (
	"context"
	"sync"
	"time"

	"sallyport/core/push"
)

// lane is a succession of lines to one host for one purpose: at any time one
// line is in use, and what replaced it may still be finishing.
type lane struct {
	// Static after New.
	make  func(b bearer) *line
	apart time.Duration // for which a line counts

	answered push.Stamp // by APNs, on any line of the lane; has its own lock

	mu       sync.Mutex
	cur      *line     // guarded by mu; nil until a push needs it
	signer   *signer   // guarded by mu
	reminted time.Time // guarded by mu; when Apple last called a token expired
	next     bearer    // guarded by mu; what the next line begins with, if its signer is set
	spent    time.Time // guarded by mu; until when the lines made so far count
	why      answer    // guarded by mu; what the last line was given up for
	closed   bool      // guarded by mu
}

// Apple takes connections that come and go quickly for an attack. A lane may
// open a few at once, since a path may die and Apple may restart, and then one
// in a while, whatever ends them: some 50 a minute with both lanes under load.
const (
	linesAtOnce = 5
	callsApart  = 2 * time.Second // leaves a call the time for one attempt
	notesApart  = 4 * time.Second
)

// wait is how long it is until another line may be made. Guarded by mu.
func (l *lane) wait(now time.Time) time.Duration {
	return l.spent.Add(-(linesAtOnce - 1) * l.apart).Sub(now)
}

// line returns the line in use, or how long it is until there may be another.
func (l *lane) line() (*line, time.Duration, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, 0, errClosed
	}
	if l.cur != nil && l.cur.stale() {
		l.cur.retire()
		l.cur = nil
	}
	if l.cur == nil {
		now := time.Now()
		if left := l.wait(now); left > 0 {
			return nil, left, nil
		}
		if l.spent.Before(now) {
			l.spent = now
		}
		l.spent = l.spent.Add(l.apart)
		b := l.next
		if b.signer == nil {
			b = bearer{signer: l.signer}
		}
		l.next = bearer{}
		l.cur = l.make(b)
	}
	return l.cur, 0, nil
}

// retire gives ln up for the answer that came on it, if it is still the one in
// use.
func (l *lane) retire(ln *line, why answer) {
	l.mu.Lock()
	if l.cur == ln {
		l.cur, l.why = nil, why
	}
	l.mu.Unlock()
	ln.retire()
}

// rest waits until another line may be made, and otherwise returns what became
// of the last one.
func (l *lane) rest(ctx context.Context, d time.Duration) (answer, bool) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return answer{}, true
	case <-ctx.Done():
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.why.err == nil && l.why.status == 0 {
			return answer{err: context.Cause(ctx)}, false
		}
		return l.why, false
	}
}

// remint lets the next line sign a token of this very minute, since Apple's
// clock is ahead of the grid's token. It does so once in 20 minutes: where our
// clock is wrong no token helps, and each try costs a connection.
func (l *lane) remint(ln *line) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if l.cur != ln {
		return true // another push did it meanwhile
	}
	if !l.reminted.IsZero() && now.Sub(l.reminted) < keepToken {
		return false
	}
	l.reminted = now
	l.next = bearer{signer: l.signer, exact: true}
	return true
}

// hold makes the next line go on with the token of ln.
func (l *lane) hold(ln *line) {
	ln.hold()
	ln.mu.Lock()
	b := ln.bearer
	ln.mu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	if b.signer == l.signer {
		l.next = b
	}
}

// superseded reports that the lane has another key than ln.
func (l *lane) superseded(ln *line) bool {
	ln.mu.Lock()
	was := ln.bearer.signer
	ln.mu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	return was != l.signer
}

// issued is the time of the provider token in use, zero if there is none.
func (l *lane) issued() time.Time {
	l.mu.Lock()
	ln := l.cur
	l.mu.Unlock()
	if ln == nil {
		return time.Time{}
	}
	ln.mu.Lock()
	defer ln.mu.Unlock()
	return ln.bearer.iat
}

// rekey makes the next push open a line with another key.
func (l *lane) rekey(s *signer) {
	l.mu.Lock()
	old := l.cur
	l.cur, l.signer, l.next, l.reminted = nil, s, bearer{}, time.Time{}
	l.mu.Unlock()
	if old != nil {
		old.retire()
	}
}

// close ends the lane for good.
func (l *lane) close() {
	l.mu.Lock()
	l.closed = true
	old := l.cur
	l.cur = nil
	l.mu.Unlock()
	if old != nil {
		old.retire()
	}
}
