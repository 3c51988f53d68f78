package tunnel

import (
	"context"
	"crypto/rand"
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
		} else if time.Since(from.lostAt) >= a.cfg.Grace/othersAfter {
			a.transfer(from, a.choose)
		}
	}
}

// bury notes that s has ended and calls no handler any more.
func (a *Acceptor) bury(s *session) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.live[s.peer.Name] == s {
		delete(a.live, s.peer.Name)
	}
	s.lostAt = time.Now()
	a.lost = append(a.lost, s)
	close(s.buried)
	a.transfer(s, func(*Flow) *session { return nil })
}

// keep returns when the flows of s, which has ended, are in other sessions or
// have ended themselves.
func (a *Acceptor) keep(ctx context.Context, s *session) {
	others, end := time.NewTimer(a.cfg.Grace/othersAfter), time.NewTimer(a.cfg.Grace)
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
	from.mu.Lock()
	defer from.mu.Unlock()
	for _, f := range from.flows {
		if to := choose(f); to != nil {
			delete(from.flows, f.id) // nobody reads there any more
			from.unblock(f)
			to.open(f, true)
			a.metrics.reopened.Inc()
		}
	}
	if len(from.flows) == 0 {
		a.forget(from)
		close(from.moved)
	}
}

// forget takes s from the list of those whose flows wait. a.mu is held.
func (a *Acceptor) forget(s *session) {
	a.lost = slices.DeleteFunc(a.lost, func(o *session) bool { return o == s })
}

// open tells the peer of f, which from now on is in s. Where f was in another
// session, that one is locked: whoever uses f finds it in one or the other.
func (s *session) open(f *Flow, reopened bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f.id, f.batch = s.opened.Add(1), s.batch
	f.credit = int32(s.hello.Window)
	f.used.Store(0)
	f.owed.Store(0)
	s.index.Lock()
	s.flows[f.id] = f
	s.index.Unlock()
	f.session.Store(s)
	if s.ended() {
		return // it waits here, and is opened in the next one
	}
	info := *f.info
	info.Reopened = reopened
	info.Silent = f.state&flowSilent != 0
	s.data = frame.AppendOpen(s.data, f.id, &info)
	s.work.Signal()
}

// openQueue is how many times the queue that holds messages back a link may
// have before it gets no new flows. An OPEN is small, and what comes after it
// waits its turn.
const openQueue = 4

// load returns how busy s is compared to others, and whether it takes a new
// flow of that service at all.
func (s *session) load(service string) (float64, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.flows)
	ok := !s.ended() && !s.draining && n < int(s.hello.MaxFlows) && len(s.data) < openQueue*s.queue && s.serves(service)
	return float64(n+1) / float64(s.hello.Weight), ok
}

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
