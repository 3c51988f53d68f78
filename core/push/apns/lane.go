package apns

import (
	"sync"
	"time"
)

// lane is a succession of lines to one host for one purpose: at any time one
// line is in use, and what replaced it may still be finishing.
type lane struct {
	// Static after New.
	make func(b bearer) *line

	answered stamp // by APNs, on any line of the lane; has its own lock

	mu       sync.Mutex
	cur      *line     // guarded by mu; nil until a push needs it
	signer   *signer   // guarded by mu
	reminted time.Time // guarded by mu; when Apple last called a token expired
	next     bearer    // guarded by mu; what the next line begins with, if its signer is set
	closed   bool      // guarded by mu
}

// line returns the line in use.
func (l *lane) line() (*line, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, errClosed
	}
	if l.cur != nil && l.cur.stale() {
		l.cur.retire()
		l.cur = nil
	}
	if l.cur == nil {
		b := l.next
		if b.signer == nil {
			b = bearer{signer: l.signer}
		}
		l.next = bearer{}
		l.cur = l.make(b)
	}
	return l.cur, nil
}

// retire gives ln up, if it is still the one in use.
func (l *lane) retire(ln *line) {
	l.mu.Lock()
	if l.cur == ln {
		l.cur = nil
	}
	l.mu.Unlock()
	ln.retire()
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
