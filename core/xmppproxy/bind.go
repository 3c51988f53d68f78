package xmppproxy

import (
	"context"
	"errors"
	"fmt"
	"strconv"
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
	if l.user != "" {
		if resource := l.resource(e, child); resource != "" {
			before = l.c.p.lines.withJID(l.user + "@" + l.domain.Name + "/" + resource)
		}
		if before == nil && l.crowded(l.user+"@"+l.domain.Name) {
			return false, condition("resource-constraint")
		}
	}
	if before != nil && !before.retire(l.ctx) {
		before = nil
	}
	answer, err := l.ask(raw)
	if err != nil {
		return false, err
	}
	jid, ok := boundJID(answer)
	if !ok {
		l.send(answer.AppendPortable(nil))
		return false, nil
	}
	if before == nil || before.JID() != jid {
		// Either it had no name that could be read, or the server chose another.
		if before = l.c.p.lines.withJID(jid); before != nil && !before.retire(l.ctx) {
			before = nil
		}
	}
	if before == nil && l.crowded(bareOf(jid)) {
		return false, condition("resource-constraint")
	}
	l.begin(before, jid, answer.AppendPortable(nil))
	return true, nil
}

// crowded reports whether there is no place for one more session of a user. The
// one of theirs that has been away longest makes room; its server keeps what it
// held, or bounces it.
func (l *login) crowded(bare string) bool {
	p := l.c.p
	all, mine := p.lines.count(bare)
	if all < p.cfg.Sessions && mine < p.cfg.PerUser {
		return false
	}
	p.metrics.crowded.Inc()
	var oldest *line
	var since time.Time
	for _, ln := range p.lines.of(bare) {
		if at, away := ln.awaySince(); away && (oldest == nil || at.Before(since)) {
			oldest, since = ln, at
		}
	}
	if oldest == nil {
		return true
	}
	oldest.mu.Lock()
	oldest.s.Drop(time.Now())
	oldest.unlock()
	return false
}

// awaySince is since when a line has no client.
func (l *line) awaySince() (time.Time, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch l.s.State() {
	case session.Away, session.Orphan, session.Retired:
		return l.s.Since(), true
	default:
		return time.Time{}, false
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
	ln := before
	if ln == nil {
		ln = newLine(p, newID())
	} else {
		p.metrics.resumed("replay")
	}
	cfg := session.Config{ID: newID(), JID: jid, ServerSM: l.counts}
	l.send(result)
	ln.mu.Lock()
	ln.conn, ln.up, ln.done = c, up, make(chan struct{})
	ln.name.Store(jid)
	p.lines.add(ln, cfg.ID, jid)
	cfg.Pushable = p.notes.Pushable(ln)
	now := time.Now()
	if before == nil {
		ln.s = session.New(now, cfg, &p.cfg.Policy, ln)
		ln.Changed(session.Active)
	} else {
		ln.s.Relogin(now, cfg)
	}
	ln.unlock()
	p.agenda.forget(c)
	p.work.Go(func() { ln.serve(up) })
	c.attach(ln)
}

// resume answers <resume/> (XEP-0198 §5).
func (l *login) resume(e *stanza.Element) (done bool, err error) {
	p := l.c.p
	ln := p.lines.withID(stanza.Unescape(e.Attr("previd")))
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
	handled := ln.handled()
	err = session.ErrNeedSwap
	if sure && !p.cfg.Swap {
		err = ln.probe(l.c, uint32(h))
	}
	if errors.Is(err, session.ErrNeedSwap) {
		err = l.swap(ln, uint32(h), sure)
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
		if sure {
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

// handled is the h of a line's client.
func (l *line) handled() uint32 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.s.Handled()
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
func (l *line) probe(c *conn, h uint32) error {
	l.mu.Lock()
	defer l.unlock()
	if !l.s.Resumable() || l.gone {
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
