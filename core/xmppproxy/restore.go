package xmppproxy

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"sallyport/core/xmppproxy/session"
)

const (
	// reloginAfter is how long after a restart clients are given to come back by
	// themselves.
	reloginAfter = 30 * time.Second
	// relogin is the pause between two clients that are asked to log in anew.
	relogin = 50 * time.Millisecond
	// leaveWithin is how long a core that leaves waits for its store.
	leaveWithin = 5 * time.Second
)

// load reads what an earlier life of the core left behind.
func (p *Proxy) load(ctx context.Context) error {
	type stored struct {
		key    string
		record []byte
	}
	var all []stored
	err := p.journal.store.Load(ctx, func(key string, record []byte) bool {
		all = append(all, stored{key, append([]byte(nil), record...)})
		return true
	})
	if err != nil {
		return fmt.Errorf("sessions: %w", err)
	}
	for _, s := range all {
		switch err := p.restore(ctx, s.key, s.record); {
		case err == nil:
		case ctx.Err() != nil:
			return fmt.Errorf("sessions: %w", context.Cause(ctx))
		case errors.Is(err, errUnread):
			p.log.Error("what waits in a session cannot be read now; it is kept for the next start", "err", err)
		default:
			p.log.Error("a session that was stored cannot be read, and is dropped", "err", err)
			if err := p.journal.store.Remove(ctx, s.key); err != nil {
				return fmt.Errorf("sessions: %w", err)
			}
		}
	}
	if len(all) > 0 {
		p.log.Info("sessions restored", "count", len(all))
	}
	return nil
}

// errUnread: the store did not give what it has.
var errUnread = errors.New("journal not read")

// restore makes a line of what was stored of it.
func (p *Proxy) restore(ctx context.Context, key string, record []byte) (err error) {
	l := newLine(p, key)
	l.mu.Lock()
	read := func(each func(pos uint64, entry []byte) bool) error {
		if err := p.journal.store.Read(ctx, key, 1, each); err != nil {
			return fmt.Errorf("%w: %w", errUnread, err)
		}
		return nil
	}
	l.s, err = session.Restore(time.Now(), &p.cfg.Policy, l, record, read)
	if err != nil {
		l.mu.Unlock()
		return err
	}
	st := l.s.State()
	l.name.Store(l.s.JID())
	if st != session.Ended {
		p.lines.add(l, l.s.ID(), l.JID())
		l.Changed(st)
		l.s.Registered(time.Now(), p.notes.Pushable(l))
		p.agenda.at(relogins{l}, time.Now().Add(reloginAfter))
	}
	l.unlock()
	return nil
}

// relogins asks the client of a line that was restored to log in anew, unless it
// did.
type relogins struct{ *line }

func (r relogins) tick(time.Time) time.Time {
	r.p.alerts.add(r.line)
	return time.Time{}
}

// leave writes down all sessions as if their clients' flows had been lost. Their
// streams end with the sockets, so that the servers keep them.
func (p *Proxy) leave() {
	p.lines.each(func(l *line) { l.suspend() })
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(leaveWithin); !p.saved() && time.Now().Before(end); {
		<-tick.C
	}
}

// saved reports whether all that waits is on disk.
func (p *Proxy) saved() bool {
	if !p.journal.idle() {
		return false
	}
	all := true
	p.lines.each(func(l *line) {
		l.mu.Lock()
		defer l.mu.Unlock()
		all = all && l.s.Saved()
	})
	return all
}

// alerts tells clients to log in anew, one after the other: when a server comes
// back it should not meet all of them at once.
type alerts struct {
	p     *Proxy
	every time.Duration

	mu    sync.Mutex
	queue []*line // guarded by mu
	busy  bool    // guarded by mu: a goroutine works on it
}

func (a *alerts) add(l *line) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.queue = append(a.queue, l)
	if !a.busy {
		a.busy = true
		a.p.work.Go(a.run)
	}
}

func (a *alerts) run() {
	tick := time.NewTicker(a.every)
	defer tick.Stop()
	for {
		a.mu.Lock()
		if len(a.queue) == 0 {
			a.busy, a.queue = false, nil
			a.mu.Unlock()
			return
		}
		l := a.queue[0]
		a.queue = a.queue[1:]
		a.mu.Unlock()
		l.mu.Lock()
		if st := l.s.State(); !l.gone && (st == session.Orphan || st == session.Retired) {
			a.p.notes.Alert(l, session.Relogin)
		}
		l.mu.Unlock()
		select {
		case <-tick.C:
		case <-a.p.life.Done():
			return
		}
	}
}
