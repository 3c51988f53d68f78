package tunnel

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"sallyport/tunnel/frame"
)

// A flow of an edge lives longer than the session that carries it. When the
// session ends it waits there. The core that had it, once back, gets it first;
// after a third of Grace any core does; after Grace the flow ends.

// othersAfter is the part of Grace after which another core gets the flows.
const othersAfter = 3

// admit makes s the session of its core. The one before, if there is one, ends
// first: no flow is ever in two.
func (a *Acceptor) admit(s *session) {
	a.mu.Lock()
	before := a.live[s.peer.Name]
	a.live[s.peer.Name] = s
	delete(a.coming, s.id)
	if a.draining {
		s.drain(0)
	}
	if len(a.notices) > 0 {
		s.notify(a.notices)
	}
	a.mu.Unlock()
	if before != nil {
		before.fail(errReplaced, frame.GoAwayReplaced)
		<-before.buried
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, from := range slices.Clone(a.lost) {
		if from.peer.Name == s.peer.Name {
			a.transfer(from, func(*Flow) *session { return s })
		} else if a.othersMay(from) {
			a.transfer(from, a.choose)
		}
	}
}

// rejoin gives the link that c asks for a new carrier.
func (a *Acceptor) rejoin(ctx context.Context, c *carrier) (*link, error) {
	h := c.hello
	a.mu.Lock()
	s := a.live[h.Node]
	if other := a.coming[h.Session]; other != nil && other.peer.Name == h.Node {
		s = other
	}
	a.mu.Unlock()
	if s != nil && s.id != h.Session && s.peer.Boot != h.Boot {
		// Its GOAWAY may have been lost with the connection.
		return nil, &refusal{frame.GoAwayReplaced, "replaced", errReplaced.Error()}
	}
	if s == nil || s.id != h.Session || s.peer.Boot != h.Boot || int(h.Links) != len(s.links) {
		return nil, fmt.Errorf("%w: it is not here", errReset)
	}
	l := s.links[h.Link]
	l.joining.Lock()
	defer l.joining.Unlock()
	err := l.vacate()
	if err == nil {
		own := a.introduce()
		own.Session, own.Resume, own.RxOffset = s.id, true, l.rx.Load()
		own.Link, own.Links = h.Link, h.Links
		err = within(ctx, c.conn, a.t.helloWithin, func() error { return c.say(own) })
	}
	if err == nil {
		err = l.attach(c)
	}
	if errors.Is(err, errReset) {
		s.fail(err, frame.GoAwayReset)
	}
	return l, err
}

// repeat says on a new carrier what may have been lost with the one before.
func (a *Acceptor) repeat(s *session, l *link) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.draining {
		s.drain(0)
	}
	if l.number == 0 && a.noticed {
		s.notify(a.notices)
	}
}

// await returns when s has ended: at once when its flows are better off with
// another core, since this one is away for long.
func (a *Acceptor) await(s *session) {
	look := time.NewTimer(0)
	defer look.Stop()
	look.Stop()
	for {
		select {
		case <-s.done:
			return
		case <-s.alone:
			look.Reset(a.cfg.Grace / othersAfter)
		case <-look.C:
			up, since := s.carried()
			switch {
			case up:
			case time.Since(since) >= a.cfg.Grace/othersAfter && a.othersTake(s):
				s.fail(fmt.Errorf("%w: other cores take its flows", errLost), 0)
			default:
				look.Reset(min(time.Second, a.cfg.Grace/othersAfter))
			}
		}
	}
}

// othersTake tells whether there is a core that takes flows, beside that of s.
func (a *Acceptor) othersTake(s *session) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.another(s)
}

// another is othersTake while a.mu is held.
func (a *Acceptor) another(s *session) bool {
	for _, other := range a.live {
		if other != s && other.takes() && other.servesFor(s) {
			return true
		}
	}
	return false
}

// spares tells whether there is another core for the flows of s, which drains.
// The first time, those that drain already and had s alone are told that it is
// there for them no more.
func (a *Acceptor) spares(s *session, first bool) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, other := range a.live {
		if first && other != s && other.drains() && !a.another(other) {
			for _, l := range other.links {
				l.urge(func(b []byte) []byte { return frame.Append(b, frame.TypeSpare, 0, []byte{0}) })
			}
		}
	}
	return a.another(s)
}

// bury notes that s has ended and calls no handler any more.
func (a *Acceptor) bury(s *session) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.live[s.peer.Name] == s {
		delete(a.live, s.peer.Name)
	}
	s.lostAt = s.lastCarried()
	a.lost = append(a.lost, s)
	close(s.buried)
	a.transfer(s, func(*Flow) *session { return nil })
	if a.othersMay(s) {
		a.transfer(s, a.choose)
	}
}

// othersMay tells whether flows left in s may go to any core.
func (a *Acceptor) othersMay(s *session) bool {
	return time.Since(s.lostAt) >= a.cfg.Grace/othersAfter
}

// keep returns when the flows of s, which has ended, are in other sessions or
// have ended themselves.
func (a *Acceptor) keep(ctx context.Context, s *session) {
	since := time.Since(s.lostAt)
	others, end := time.NewTimer(a.cfg.Grace/othersAfter-since), time.NewTimer(a.cfg.Grace-since)
	defer others.Stop()
	defer end.Stop()
	for {
		select {
		case <-s.moved:
			return
		case <-others.C:
			a.mu.Lock()
			a.transfer(s, a.choose)
			a.mu.Unlock()
			continue
		case <-end.C:
		case <-ctx.Done():
		}
		break
	}
	a.mu.Lock()
	a.forget(s)
	a.mu.Unlock()
	s.giveUp(CloseTunnelLost, "no core for too long")
}

// transfer opens the flows left in from again, each in the session that choose
// names; those for which it names none stay. a.mu is held.
func (a *Acceptor) transfer(from *session, choose func(*Flow) *session) {
	if !slices.Contains(a.lost, from) {
		return
	}
	for _, l := range from.links {
		a.empty(l, choose)
	}
	if from.count.Load() == 0 {
		a.forget(from)
		close(from.moved)
	}
}

// empty is transfer for one link, which nobody reads any more.
func (a *Acceptor) empty(from *link, choose func(*Flow) *session) {
	from.mu.Lock()
	defer from.mu.Unlock()
	for _, f := range from.flows {
		if to := choose(f); to != nil {
			from.takeOut(f)
			to.pick(true).open(f, true)
			a.metrics.reopened.Inc()
		}
	}
}

// forget takes s from the list of those whose flows wait. a.mu is held.
func (a *Acceptor) forget(s *session) {
	a.lost = slices.DeleteFunc(a.lost, func(o *session) bool { return o == s })
}

// open tells the peer of f, which from now on is on l. Where f was on another
// link, that one is locked: whoever uses f finds it on one or the other.
func (l *link) open(f *Flow, reopened bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f.id, f.batch = l.nextID(), l.batch
	f.state &^= flowNarrow
	if l.s.features&frame.FeatureNarrow != 0 && (l.s.wantsNarrow.Load() || l.s.budget.half()) {
		f.state |= flowNarrow
	}
	l.putIn(f)
	if l.ended() {
		return // it waits here, and is opened in the next session
	}
	info := *f.info
	info.Reopened = reopened
	info.Silent = f.state&flowSilent != 0
	info.Narrow = f.state&flowNarrow != 0
	l.data = frame.AppendOpen(l.data, f.id, &info)
	l.work.Signal()
}

// nextID returns the id of the next flow of this link. l.mu is held.
func (l *link) nextID() uint32 {
	id := l.opened.Load() + uint32(len(l.s.links))
	if l.opened.Load() == 0 && l.number > 0 {
		id = l.number
	}
	l.opened.Store(id)
	return id
}

// openQueue is how many times the queue that holds messages back a link may
// have before it gets no new flows. An OPEN is small, and what comes after it
// waits its turn.
const openQueue = 4

// newUUID returns a random UUID (RFC 9562 §5.4).
func newUUID() (u [16]byte) {
	_, _ = rand.Read(u[:]) // never fails
	u[6] = u[6]&0x0f | 0x40
	u[8] = u[8]&0x3f | 0x80
	return u
}

// shareAll makes what many flows say alike one string.
func (n names) shareAll(i *Info) {
	for _, s := range []*string{&i.Service, &i.Transport, &i.Public, &i.SNI, &i.Host, &i.Path, &i.Origin, &i.Subprotocol} {
		*s = n.same(*s)
	}
}
