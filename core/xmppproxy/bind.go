package xmppproxy

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"sallyport/core/stanza"
	"sallyport/core/xmppproxy/session"
	"sallyport/tunnel"
)

// maxResource is how long a resource may be (RFC 7622 §3.1).
const maxResource = 1023

// retireWithin is how long a login waits until what its device left behind is
// written down.
const retireWithin = 10 * time.Second

// bind relays the binding of a resource (RFC 6120 §7), which begins a session.
func (l *login) bind(raw []byte, e *stanza.Element) (done bool, err error) {
	child := e.Child(nsBind, "bind")
	if child == nil || string(e.Attr("type")) != "set" {
		l.send(iqError(e, "not-allowed"))
		return false, nil
	}
	var before *line
	defer func() { before.release() }()
	if l.user != "" {
		bare := l.user + "@" + l.domain.Name
		if resource := l.resource(e, child); resource != "" {
			before = l.inherit(bare + "/" + resource)
		}
		if before == nil && l.crowded(bare) {
			return false, condition("resource-constraint")
		}
	}
	answer, err := l.ask(raw)
	if err != nil {
		return false, err
	}
	jid, ok := boundJID(answer)
	switch {
	case !ok:
		l.send(answer.AppendPortable(nil))
		return false, nil
	case !strings.EqualFold(bareDomain(jid), l.domain.Name): // it may speak for its own domain alone
		l.c.p.log.Error("a server bound a JID of another domain; the client is refused", "domain", l.domain.Name)
		return false, condition("internal-server-error")
	}
	if before == nil || before.JID() != jid {
		// Either it had no name that could be read, or the server chose another.
		before.release()
		before = l.inherit(jid)
	}
	if before == nil && l.crowded(bareOf(jid)) {
		return false, condition("resource-constraint")
	}
	l.begin(before, jid, answer.AppendPortable(nil))
	return true, nil
}

// inherit finds what an older session of a full JID left behind, and has it
// written down; nil for nothing. Nobody else inherits or resumes it until its
// release.
func (l *login) inherit(jid string) *line {
	ln := l.c.p.lines.withJID(jid)
	if ln == nil || !ln.acquire(l.ctx) {
		return nil
	}
	if ln.JID() != jid || !ln.retire(l.ctx) {
		ln.release()
		return nil
	}
	return ln
}

// acquire waits until nobody else resumes or inherits the line. Its end is
// release.
func (l *line) acquire(ctx context.Context) bool {
	select {
	case l.turn <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

// release ends acquire; of no line it does nothing.
func (l *line) release() {
	if l != nil {
		<-l.turn
	}
}

// crowded reports whether there is no place for one more session of a user. The
// one of theirs that has been away longest makes room, one that holds nothing
// before others: what a session holds that its server was told is safe goes
// with it.
func (l *login) crowded(bare string) bool {
	p := l.c.p
	all, mine := p.lines.count(bare)
	if all < p.cfg.Sessions && mine < p.cfg.PerUser {
		return false
	}
	p.metrics.crowded.Inc()
	var oldest *line
	var since time.Time
	var holds bool
	for _, ln := range p.lines.of(bare) {
		at, held, away := ln.awaySince()
		if !away || oldest != nil && (held && !holds || held == holds && !at.Before(since)) {
			continue
		}
		oldest, since, holds = ln, at, held
	}
	if oldest == nil {
		return true
	}
	oldest.mu.Lock()
	oldest.s.Drop(time.Now())
	oldest.unlock()
	return false
}

// awaySince is since when a line has no client, and whether it holds anything.
func (l *line) awaySince() (at time.Time, holds, away bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch l.s.State() {
	case session.Away, session.Orphan, session.Retired:
		return l.s.Since(), l.s.Held() > 0, true
	default:
		return time.Time{}, false, false
	}
}

// resource is what the client asks for.
func (l *login) resource(e *stanza.Element, bind *stanza.Child) string {
	in, err := e.Inside(bind)
	if err != nil {
		return ""
	}
	if r := in.Child(nsBind, "resource"); r != nil {
		return r.Text(maxResource)
	}
	return ""
}

// boundJID reads the result of a binding.
func boundJID(e *stanza.Element) (jid string, ok bool) {
	child := e.Child(nsBind, "bind")
	if child == nil || string(e.Attr("type")) != "result" {
		return "", false
	}
	in, err := e.Inside(child)
	if err != nil {
		return "", false
	}
	if j := in.Child(nsBind, "jid"); j != nil {
		jid = j.Text(3 * 1024)
	}
	return jid, jid != "" && bareOf(jid) != jid
}

// iqError answers a request.
func iqError(e *stanza.Element, reason string) []byte {
	out := []byte("<iq type='error'")
	if id := e.Attr("id"); id != nil {
		out = append(stanza.AppendEscaped(append(out, " id='"...), stanza.Unescape(id)), '\'')
	}
	return append(out, "><error type='cancel'><"+reason+" xmlns='"+nsErrors+"'/></error></iq>"...)
}

// begin makes a line of the client's flow and the stream: a new one, or that
// which its device left behind.
func (l *login) begin(before *line, jid string, result []byte) {
	p, up, c := l.c.p, l.up, l.c
	l.up = nil // the line's
	cfg := session.Config{ID: newID(), JID: jid, ServerSM: l.counts}
	l.begins(true)
	l.send(result)
	ln := before
	if ln != nil {
		ln.mu.Lock()
		if ln.gone || ln.s.State() != session.Retired { // another login of the device was faster
			ln.mu.Unlock()
			ln = nil
		}
	}
	again := ln != nil
	if again {
		p.metrics.resumed("replay")
	} else {
		ln = newLine(p, newID())
		ln.mu.Lock()
	}
	ln.conn, ln.up, ln.done = c, up, make(chan struct{})
	ln.name.Store(jid)
	p.lines.add(ln, cfg.ID, jid)
	cfg.Pushable = p.notes.Pushable(ln)
	now := time.Now()
	if !again {
		ln.s = session.New(now, cfg, &p.cfg.Policy, ln)
		ln.Changed(session.Active)
	} else {
		ln.s.Relogin(now, cfg)
	}
	ln.unlock()
	if p.life.Err() != nil { // the core left meanwhile, and looks for no more lines
		ln.drop()
	}
	p.agenda.forget(c)
	p.work.Go(func() { ln.serve(up) })
	c.attach(ln)
}

// resume answers <resume/> (XEP-0198 §5).
func (l *login) resume(e *stanza.Element) (done bool, err error) {
	p := l.c.p
	previd := stanza.Unescape(e.Attr("previd"))
	ln := p.lines.withID(previd)
	h, bad := strconv.ParseUint(string(e.Attr("h")), 10, 32)
	if bad != nil {
		return false, condition("bad-format")
	}
	if ln == nil || bareDomain(ln.JID()) != l.domain.Name {
		p.metrics.resumed("unknown")
		l.send(smFailed("item-not-found"))
		return false, nil
	}
	sure := l.user != "" && l.user+"@"+l.domain.Name == bareOf(ln.JID())
	if l.user != "" && !sure {
		p.metrics.resumed("stranger")
		p.log.Warn("a client wanted to resume the session of somebody else", "flow", l.c.flow.ID())
		l.send(smFailed("item-not-found"))
		return false, nil
	}
	if !ln.acquire(l.ctx) {
		return false, l.ctx.Err()
	}
	defer ln.release()
	handled, counted := ln.handled(previd)
	l.begins(true)
	err = session.ErrNeedSwap
	if sure && !p.cfg.Swap {
		err = ln.probe(l.c, previd, uint32(h))
	}
	if errors.Is(err, session.ErrNeedSwap) {
		err = l.swap(ln, previd, uint32(h), sure)
	}
	switch {
	case err == nil:
		if l.up != nil { // the line has a stream already
			l.up.Close(true)
			l.up = nil
		}
		p.agenda.forget(l.c)
		l.c.attach(ln)
		return true, nil
	case errors.Is(err, session.ErrNoResume):
		p.metrics.resumed("failed")
		l.begins(false)
		if sure && counted {
			l.send(notResumed(handled))
		} else {
			l.send(smFailed("item-not-found"))
		}
		return false, nil
	case errors.Is(err, session.ErrNumber):
		return false, errEnd
	default:
		return false, err
	}
}

// notResumed tells a client whose session is over how much of what it sent was
// dealt with, so that it sends the rest again (XEP-0198 §5).
func notResumed(h uint32) []byte {
	return fmt.Appendf(nil, "<failed xmlns='%s' h='%d'><item-not-found xmlns='%s'/></failed>", nsSM, h, nsErrors)
}

// handled is the h of a line's client. A session that cannot be resumed any more
// does not know it.
func (l *line) handled(previd string) (h uint32, known bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.s.Handled(), l.resumable(previd)
}

// bareDomain is the domain of a JID.
func bareDomain(jid string) string {
	bare := bareOf(jid)
	for i := range len(bare) {
		if bare[i] == '@' {
			return bare[i+1:]
		}
	}
	return bare
}

// probe gives a line whose stream is there to the flow of its user.
func (l *line) probe(c *conn, previd string, h uint32) error {
	l.mu.Lock()
	defer l.unlock()
	if !l.resumable(previd) {
		return session.ErrNoResume
	}
	before := l.conn
	l.conn = c
	err := l.s.Resume(time.Now(), h)
	switch {
	case err == nil:
		l.p.metrics.resumed("probe")
	case errors.Is(err, session.ErrNumber): // c has been told
	default:
		l.conn = before
		return err
	}
	replaced(before)
	return err
}

// resumable reports whether previd can be resumed: the line may have begun
// another login since it was looked up. l.mu is held.
func (l *line) resumable(previd string) bool {
	return !l.gone && l.s.ID() == previd && l.s.Resumable()
}

// replaced ends a flow whose client is back on another.
func replaced(c *conn) {
	if c != nil {
		c.leave()
		c.end(streamError("conflict"), tunnel.CloseKicked)
	}
}

// retire has all written down that waits, and ends the stream; another login
// of the same device is at the door. It reports whether the line may go on in
// that login's name.
func (l *line) retire(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, retireWithin)
	defer cancel()
	l.mu.Lock()
	if l.gone {
		l.mu.Unlock()
		return false
	}
	l.s.Retire(time.Now())
	done := l.done
	l.unlock()
	select {
	case <-done:
	case <-ctx.Done():
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.s.State() == session.Retired
}
