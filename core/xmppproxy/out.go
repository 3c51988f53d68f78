package xmppproxy

import (
	"time"

	"sallyport/core/stanza"
	"sallyport/core/xmppproxy/session"
	"sallyport/tunnel"
)

// A line is its session's session.Out. All these are called with l.mu held.
var _ session.Out = (*line)(nil)

// ToClient implements session.Out.
func (l *line) ToClient(p []byte) {
	if l.conn != nil {
		l.conn.out.send(p)
	}
}

// ToServer implements session.Out. A stream that cannot be written to ends,
// and is then heard to.
func (l *line) ToServer(p []byte) {
	if l.up != nil {
		_ = l.up.Write(p)
	}
}

// Put implements session.Out. The record is the session's until it is stored.
func (l *line) Put(record []byte) {
	l.p.journal.add(l, job{kind: jobPut, data: record})
}

// Append implements session.Out.
func (l *line) Append(entry []byte) {
	l.p.journal.add(l, job{kind: jobAppend, data: entry})
}

// Trim implements session.Out.
func (l *line) Trim(upTo uint64) { l.p.journal.add(l, job{kind: jobTrim, pos: upTo}) }

// Remove implements session.Out.
func (l *line) Remove() { l.p.journal.add(l, job{kind: jobRemove}) }

// Fetch implements session.Out. A client that does not keep up is waited for.
func (l *line) Fetch(from uint64) {
	read := job{kind: jobFetch, pos: from}
	var behind <-chan struct{}
	if l.conn != nil {
		behind = l.conn.out.behind(lowWater)
	}
	if behind == nil {
		l.p.journal.add(l, read)
		return
	}
	l.p.work.Go(func() {
		select {
		case <-behind:
		case <-l.p.life.Done():
		}
		l.p.journal.add(l, read)
	})
}

// Push implements session.Out.
func (l *line) Push(e *stanza.Element, id uint64) { l.p.notes.Push(l, e, id) }

// Alert implements session.Out. After a server's failure there may be
// thousands at once.
func (l *line) Alert(a session.Alert) {
	if a == session.Relogin {
		l.p.alerts.add(l)
		return
	}
	l.p.metrics.full.Inc()
	l.p.notes.Alert(l, a)
}

// Changed implements session.Out.
func (l *line) Changed(st session.State) {
	before := session.State(l.state.Swap(uint32(st)))
	switch {
	case st == session.Active:
		l.active.Store(time.Now().UnixNano())
		l.p.notes.Active(l)
	case st == session.Ended:
		l.p.lines.forget(l)
		l.p.agenda.forget(l)
		l.p.notes.Ended(l)
	case !before.Suspended():
		l.p.notes.Away(l)
	}
	if st.Suspended() && l.conn != nil {
		l.conn.out.letGo()
	}
	if st == session.Retired || st == session.Ended {
		select {
		case <-l.done:
		default:
			close(l.done)
		}
	}
}

// SwapReady implements session.Out.
func (l *line) SwapReady(previd string, h uint32) {
	if l.swap != nil {
		l.swap <- swapFrom{previd: previd, h: h}
		l.swap = nil
	}
}

// CloseServer implements session.Out.
func (l *line) CloseServer(clean bool) {
	if l.up != nil {
		l.up.Close(clean)
		l.up = nil
	}
}

// CloseClient implements session.Out.
func (l *line) CloseClient(streamErr []byte) {
	c := l.conn
	if c == nil {
		return
	}
	l.conn = nil
	c.leave()
	if streamErr != nil {
		c.end(streamErr, tunnel.CloseProtocol)
	} else {
		c.out.flush()
		c.drop(tunnel.CloseReconnect)
	}
}

// The rest is a line as a Client, for the Notifier.

// JID implements Client.
func (l *line) JID() string { jid, _ := l.name.Load().(string); return jid }

// Bare implements Client.
func (l *line) Bare() string { return bareOf(l.JID()) }

// Others implements Client.
func (l *line) Others() time.Time {
	var last int64
	for _, o := range l.p.lines.of(l.Bare()) {
		if o != l {
			last = max(last, o.active.Load())
		}
	}
	if last == 0 {
		return time.Time{}
	}
	return time.Unix(0, last)
}

// Answer implements Client.
func (l *line) Answer(p []byte) {
	l.mu.Lock()
	if !l.gone {
		l.s.Answer(time.Now(), p)
	}
	l.unlock()
}

// Recheck implements Client.
func (l *line) Recheck() { l.p.agenda.at(recheck{l}, time.Now()) }

// recheck asks anew whether a push can reach a line's client.
type recheck struct{ *line }

func (r recheck) tick(now time.Time) time.Time {
	r.mu.Lock()
	if !r.gone {
		r.s.Registered(now, r.p.notes.Pushable(r.line))
	}
	r.unlock()
	return time.Time{}
}

// Recheck is told that pushes to the client of a full JID may not arrive any
// more, as when its token died. It does not wait.
func (p *Proxy) Recheck(jid string) {
	if l := p.lines.withJID(jid); l != nil {
		l.Recheck()
	}
}
