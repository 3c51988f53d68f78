package e2e

import (
	"context"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"sallyport/core"
	"sallyport/test/phone"
)

// Black holes: connections that are dead, and of which neither end has heard.
// The phone is in a tunnel of the other kind, or its NAT has forgotten it.

// A road is the way between a phone and the edge. When it is blocked, what was
// connected stays so at the edge, whose segments are even acknowledged, and
// nothing passes any more; what connects afterwards takes another way.
type road struct {
	dialer net.Dialer

	mu  sync.Mutex
	now []*lane // guarded by mu
}

// lane is one connection on a road.
type lane struct {
	net.Conn
	blocked chan struct{} // closed when it is
	once    sync.Once
	gone    chan struct{} // closed when its phone has given it up
}

// onRoad gives a phone a road, and another address at the next connection if
// moves says so.
func onRoad(t *testing.T, r *road) func(*phone.Config) {
	t.Cleanup(r.clear)
	return func(c *phone.Config) { c.Dial = r.dial }
}

func (r *road) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := r.dialer.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	l := &lane{Conn: c, blocked: make(chan struct{}), gone: make(chan struct{})}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now = append(r.now, l)
	return l, nil
}

// block swallows everything on what is connected now.
func (r *road) block() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, l := range r.now {
		l.once.Do(func() { close(l.blocked) })
		_ = l.Conn.SetReadDeadline(time.Now()) // frees who reads
	}
}

// clear closes what is left at the end of a story.
func (r *road) clear() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, l := range r.now {
		_ = l.Conn.Close()
	}
}

func (l *lane) isBlocked() bool {
	select {
	case <-l.blocked:
		return true
	default:
		return false
	}
}

func (l *lane) Read(p []byte) (int, error) {
	n, err := l.Conn.Read(p)
	if l.isBlocked() {
		<-l.gone
		return 0, os.ErrClosed
	}
	return n, err
}

func (l *lane) Write(p []byte) (int, error) {
	if l.isBlocked() {
		return len(p), nil
	}
	return l.Conn.Write(p)
}

func (l *lane) SetReadDeadline(at time.Time) error {
	if l.isBlocked() {
		return nil
	}
	return l.Conn.SetReadDeadline(at)
}

// Close of a blocked lane is not heard by the edge: its FIN is lost as well.
func (l *lane) Close() error {
	if !l.isBlocked() {
		return l.Conn.Close()
	}
	select {
	case <-l.gone:
	default:
		close(l.gone)
	}
	return nil
}

// The 2 s rule: a call finds that nobody is there, has the phone pushed, and
// rings on its next flow, once.
func TestABlackHoleIsFoundByTheCallAndTheNextFlowRings(t *testing.T) {
	cfg := Config{Core: func(c *core.Config) { c.Wake.CallPushInForeground = false }}
	everywhere(t, cfg, func(s *scene) {
		r := &road{}
		alice, bob := s.caller("alice"), s.online("bob", onRoad(s.t, r))
		r.block()
		start := time.Now()
		call := s.call(alice, "bob")
		if p := s.pushed(1); p.CallID != call.CallID() || p.Channel != "voip" {
			s.t.Errorf("pushed %+v, want call %s", p, call.CallID())
		}
		if took := time.Since(start); took < 2*time.Second {
			s.t.Errorf("pushed after %v, want 2 s: until then it may just be slow", took)
		}
		if c, _ := s.client(bob); c.State != "silent" {
			s.t.Errorf("bob is %s, want silent", c.State)
		}
		s.registers(bob, "bob")
		theirs := s.talks(bob, call)
		ok(s.t, call.Bye(s.ctx))
		ok(s.t, theirs.WaitBye(s.ctx))
		s.heard(bob, "INVITE", 1)
		s.onlyPushes(1)
	})
}

// NAT rebinding: the phone has another address, and comes by itself. The flow
// of the old address is still open at the edge, and nobody is asked there.
func TestARebindingIsFollowedAtOnceAndTheOldFlowIsNotAsked(t *testing.T) {
	cfg := Config{Core: func(c *core.Config) { c.Wake.CallPushInForeground = false }}
	everywhere(t, cfg, func(s *scene) {
		r := &road{}
		alice, bob := s.caller("alice"), s.online("bob", onRoad(s.t, r))
		before, _ := s.client(bob)
		r.block()
		r.dialer.LocalAddr = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}
		s.registers(bob, "bob")
		after, _ := s.client(bob)
		if before.Flow == nil || after.Flow == nil || after.Flow.ID == before.Flow.ID || after.Flow.Remote == before.Flow.Remote {
			s.t.Fatalf("bob was on %+v and is on %+v", before.Flow, after.Flow)
		}
		start := time.Now()
		call := s.call(alice, "bob")
		theirs := s.talks(bob, call)
		if took := time.Since(start); took > 2*time.Second {
			s.t.Errorf("rang after %v", took)
		}
		ok(s.t, call.Bye(s.ctx))
		ok(s.t, theirs.WaitBye(s.ctx))
		s.heard(bob, "INVITE", 1)
		s.onlyPushes(0)
	})
}

// A rebinding within a call: what belongs to the dialog goes to the new flow,
// both ways.
func TestARebindingUnderACallKeepsTheDialog(t *testing.T) {
	everywhere(t, Config{}, func(s *scene) {
		r := &road{}
		alice, bob := s.caller("alice"), s.online("bob", onRoad(s.t, r))
		call := s.call(alice, "bob")
		theirs := s.talks(bob, call)
		r.block()
		r.dialer.LocalAddr = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}
		s.registers(bob, "bob")
		must[*phone.Message](s.t)(call.Reinvite(s.ctx))
		ok(s.t, theirs.Bye(s.ctx))
		ok(s.t, call.WaitBye(s.ctx))
	})
}
