package xmppproxy

import (
	"sync"
	"sync/atomic"
	"time"

	"sallyport/core/location"
	"sallyport/core/stanza"
	"sallyport/core/xmppproxy/session"
	"sallyport/tunnel"
)

// line joins a session to its client's flow and its server's stream, both of
// which may be missing. It is the session's way out.
type line struct {
	// Static after newLine.
	p    *Proxy
	key  string        // in the store
	turn chan struct{} // whoever resumes the session, or inherits it, has it

	id, jid string // guarded by registry.mu

	name   atomic.Value  // string, the full JID
	state  atomic.Uint32 // session.State
	active atomic.Int64  // when the user last did something, Unix ns

	// jobs are for the store; both are guarded by journal.mu.
	jobs   []job
	queued bool

	mu    sync.Mutex
	s     *session.Session // guarded by mu
	conn  *conn            // guarded by mu
	up    Stream           // guarded by mu
	pause chan struct{}    // guarded by mu: while not nil, nothing of up is taken
	swap  chan swapFrom    // guarded by mu: gets what the session wants to swap from
	done  chan struct{}    // guarded by mu: closed when the session is retired or ended
	due   time.Time        // guarded by mu: when the agenda calls at the latest
	gone  bool             // guarded by mu: the core leaves

	undercounts bool // guarded by mu: said in the log
}

// swapFrom is what a fresh stream resumes.
type swapFrom struct {
	previd string
	h      uint32
	orphan bool // there was no stream any more
}

func newLine(p *Proxy, key string) *line {
	return &line{p: p, key: key, turn: make(chan struct{}, 1), done: make(chan struct{})}
}

// unlock ends what was begun by l.mu.Lock, and sends what it led to.
func (l *line) unlock() {
	c := l.conn
	next := l.s.Next()
	if next.IsZero() || !l.due.IsZero() && !next.Before(l.due) {
		next = time.Time{}
	} else {
		l.due = next
	}
	l.mu.Unlock()
	if c != nil {
		c.out.flush()
	}
	l.p.agenda.at(l, next)
}

// tick implements due.
func (l *line) tick(now time.Time) time.Time {
	l.mu.Lock()
	l.due = time.Time{}
	if !l.gone {
		l.s.Tick(now)
	}
	l.unlock()
	return time.Time{}
}

// noteUndercount says once of a session that its client does not count the
// answers to its own requests. mu is held.
func (l *line) noteUndercount() {
	if l.undercounts || !l.s.Undercounts() {
		return
	}
	l.undercounts = true
	l.p.log.Warn("the client does not count answers to its requests (XEP-0198 §4), and gets stanzas twice unless im.correct_undercount is set",
		"client", location.AOR("xmpp:"+l.Bare()), "corrected", l.p.cfg.Policy.Undercount)
}

// fromClient takes an element that came on c.
func (l *line) fromClient(c *conn, kind stanza.Kind, e *stanza.Element) {
	l.mu.Lock()
	if l.conn != c || l.gone {
		l.mu.Unlock()
		return
	}
	now := time.Now()
	switch kind {
	case stanza.Whole:
		l.noteActive(now, e)
		if answer, consumed := l.p.notes.FromClient(l, e); consumed {
			l.s.Registered(now, l.p.notes.Pushable(l))
			l.s.Consume(now, answer)
		} else {
			l.s.FromClient(now, e)
		}
		l.noteUndercount()
	case stanza.End:
		l.conn = nil
		l.s.ClientClosed(now)
		c.leave()
		c.end(nil, tunnel.CloseClient)
	default: // a header in the middle of a stream
		l.CloseClient(streamError("policy-violation"))
		l.s.ClientLost(now)
	}
	up := l.up
	l.unlock()
	if up != nil && up.Queued() > highWater {
		c.holdUp(up)
	}
}

// noteActive notes that there is somebody: pings and queries are what programs
// do by themselves.
func (l *line) noteActive(now time.Time, e *stanza.Element) {
	if e.Is(stanza.NSClient, "message") || e.Is(stanza.NSClient, "presence") || e.Is(nsCSI, "active") {
		l.active.Store(now.UnixNano())
	}
}

// heard takes any other sign of life on c.
func (l *line) heard(c *conn) {
	l.mu.Lock()
	if l.conn == c {
		l.s.Heard(time.Now())
	}
	l.unlock()
}

// attention takes what the edge says of the client's keep-alives.
func (l *line) attention(c *conn, silent bool) {
	l.mu.Lock()
	switch {
	case l.conn != c:
	case silent:
		l.s.Silent(time.Now())
	default:
		l.s.Heard(time.Now())
	}
	l.unlock()
}

// clientLost is told that the flow of c is over.
func (l *line) clientLost(c *conn) {
	l.mu.Lock()
	if l.conn == c {
		l.conn = nil
		if !l.gone {
			l.s.ClientLost(time.Now())
		}
	}
	l.unlock()
}

// serve reads the stream of the server until it is over.
func (l *line) serve(up Stream) {
	err := up.Run(func(e *stanza.Element) { l.fromServer(up, e) })
	up.Close(false)
	l.lockFor(up)
	if l.up == up {
		l.up = nil
		if !l.gone {
			if err != nil {
				l.p.log.Info("the server's stream is lost", "client", location.AOR("xmpp:"+l.Bare()), "err", err)
			}
			l.s.ServerLost(time.Now())
		}
	}
	l.unlock()
}

// lockFor locks l for what comes on up. While it is not decided which stream is
// the session's, it waits.
func (l *line) lockFor(up Stream) {
	l.mu.Lock()
	for l.up == up && l.pause != nil {
		pause := l.pause
		l.mu.Unlock()
		<-pause
		l.mu.Lock()
	}
}

var raws = sync.Pool{New: func() any { return new([]byte) }}

// fromServer takes an element that came on up. It returns once the client
// keeps up, and so holds up a server that is faster. For a client that does not
// listen all is written down, and nobody waits.
func (l *line) fromServer(up Stream, e *stanza.Element) {
	raw := raws.Get().(*[]byte)
	*raw = e.AppendPortable((*raw)[:0])
	e.Raw = *raw
	l.lockFor(up)
	if l.up != up || l.gone {
		l.mu.Unlock()
		return
	}
	if other := l.p.notes.FromServer(l, e); other != nil {
		e = other
	}
	l.s.FromServer(time.Now(), e)
	c := l.conn
	if l.s.State() != session.Active {
		c = nil
	}
	l.unlock()
	if cap(*raw) <= 16<<10 {
		raws.Put(raw)
	}
	if c == nil {
		return
	}
	if behind := c.out.behind(highWater); behind != nil {
		select {
		case <-behind:
		case <-l.p.life.Done():
		}
	}
}

// stored tells the session what became of a Put or an Append.
func (l *line) stored(pos uint64, err error) {
	l.mu.Lock()
	l.s.Stored(time.Now(), pos, err)
	l.unlock()
}

// gotEntries tells the session what was read.
func (l *line) gotEntries(entries []session.Entry, err error) {
	l.mu.Lock()
	l.s.Fetched(time.Now(), entries, err)
	l.unlock()
}

// suspend writes down what is not on disk yet, before the core leaves.
func (l *line) suspend() {
	l.mu.Lock()
	if l.conn != nil {
		l.conn.leave()
		l.conn = nil
		l.s.ClientLost(time.Now())
	}
	l.unlock()
}

// drop lets the streams go as if the power had failed.
func (l *line) drop() {
	l.mu.Lock()
	up, c := l.up, l.conn
	l.gone, l.up, l.conn = true, nil, nil
	if l.pause != nil {
		close(l.pause)
		l.pause = nil
	}
	l.mu.Unlock()
	if up != nil {
		up.Close(false)
	}
	if c != nil {
		c.drop(tunnel.CloseReconnect)
	}
}
