package webpush

import (
	"container/list"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"sallyport/core/push"
)

// Bounds of what push services can take of ours. Whoever gives tokens names as
// many of them as he likes, each of which may be slow by intent.
const (
	// maxOrigins is how many push services are known at a time. Of those with
	// nothing under way the one used longest ago is forgotten.
	maxOrigins = 256
	// maxCalls and maxNotes are how many pushes may be under way to one.
	maxCalls = 64
	maxNotes = 4
	// maxStrangers is how many notes may be under way to all push services that
	// did not answer lately; to each of them it is one.
	maxStrangers = 4
	// noteWait is how long a note waits for a place.
	noteWait = time.Second
	// maxDeniers is of how many subscriptions a push service must refuse our key
	// before that is a matter of the key.
	maxDeniers = 3
	// believed is for how long an accepted push proves our key: clients choose
	// tokens, and can choose those of subscriptions made with another key.
	believed = time.Hour
)

var errOrigins = errors.New("too many push services at once")

// origin is one push service.
type origin struct {
	// Static after newOrigin.
	target
	proxied      bool
	calls, notes lane // have their own locks

	first chan struct{} // one entry while a note is under way that finds out whether anybody answers

	intro introduction // has its own lock
	// down is open while nobody answers; notes are not sent then. Calls are: the
	// breaker may be wrong, and a call cannot come again later.
	down push.Breaker
	// deny is open while the push service refuses our key. Notes are not sent
	// then; calls are, for the same reason.
	deny push.Breaker

	users int // guarded by origins.mu

	mu      sync.Mutex
	proven  bool                 // guarded by mu; it answered lately
	quiet   string               // guarded by mu; why it is not proven, "" when nothing speaks against it
	deniers map[[8]byte]struct{} // guarded by mu; tokens for which our key was refused
	alarm   string               // guarded by mu; what is wrong with our key here
	agreed  time.Time            // guarded by mu; when our key was last accepted
}

// newOrigin makes an origin; it is no connection yet.
func (c *Client) newOrigin(t target) *origin {
	o := &origin{target: t}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) { return c.dialer.connect(ctx, &o.target) }
	via := c.via(t)
	if o.proxied = via != nil; o.proxied {
		dial = c.dialProxy
	}
	one := func() *path { return c.newPath(dial, via) }
	o.calls = lane{make: one, places: make(chan struct{}, maxCalls)}
	o.notes = lane{make: one, places: make(chan struct{}, maxNotes)}
	o.first = make(chan struct{}, 1)
	return o
}

func (c *Client) dialProxy(ctx context.Context, network, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := c.dialer.dial(ctx, network, addr)
	if err != nil {
		return nil, &proxyError{fmt.Sprintf("push.proxy: %v: is it running, and does the firewall pass it?", err)}
	}
	return conn, nil
}

func (o *origin) lane(urgent bool) *lane {
	if urgent {
		return &o.calls
	}
	return &o.notes
}

// refuse returns the reason for which nothing is sent now, or "".
func (o *origin) refuse(urgent bool, now time.Time) string {
	if urgent {
		return ""
	}
	if reason := o.deny.Refuse(now); reason != "" {
		return reason
	}
	return o.down.Refuse(now)
}

// place waits for a place for a push, until its turn would come too late. Every
// nil is followed by one call of free.
func (o *origin) place(ctx context.Context, n push.Notification, strangers chan struct{}) (free func(), err error) {
	wait := noteWait
	if n.Urgent {
		wait = push.CallTimeout
		if !n.Until.IsZero() {
			wait = time.Until(n.Until)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	places := o.lane(n.Urgent).places
	if !take(ctx, places) {
		return nil, fmt.Errorf("too many pushes to %s are under way", o.host)
	}
	if n.Urgent || o.isProven() {
		return func() { <-places }, nil
	}
	if !take(ctx, o.first) {
		<-places
		return nil, fmt.Errorf("%s has not answered the push ahead", o.host)
	}
	if o.isProven() { // the one ahead found out
		<-o.first
		return func() { <-places }, nil
	}
	if !take(ctx, strangers) {
		<-o.first
		<-places
		return nil, errors.New("too many pushes to push services that do not answer are under way")
	}
	return func() { <-strangers; <-o.first; <-places }, nil
}

func take(ctx context.Context, places chan struct{}) bool {
	select {
	case places <- struct{}{}:
		return true
	default:
	}
	select {
	case places <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (o *origin) isProven() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.proven
}

// heard notes that the push service answered.
func (o *origin) heard() {
	o.down.Reset()
	o.mu.Lock()
	o.proven, o.quiet = true, ""
	o.mu.Unlock()
}

// silent notes that it did not.
func (o *origin) silent(reason string) {
	o.down.Trip(reason, time.Now())
	o.mu.Lock()
	o.proven, o.quiet = false, reason
	o.mu.Unlock()
}

// accepts notes that our key was good here at a time, or with the zero time
// that it is another one now.
func (o *origin) accepts(at time.Time) {
	o.deny.Reset()
	o.mu.Lock()
	o.deniers, o.alarm, o.agreed = nil, "", at
	o.mu.Unlock()
}

// denies notes that our key was refused for a token. Once that is so for
// several, it is no matter of theirs; it returns what is wrong when that is news.
func (o *origin) denies(token string, status int) (alarm string) {
	sum := sha256.Sum256([]byte(token))
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.agreed.IsZero() && time.Since(o.agreed) < believed {
		return "" // of others it was accepted just now
	}
	if o.deniers == nil {
		o.deniers = make(map[[8]byte]struct{})
	}
	if len(o.deniers) < maxDeniers {
		o.deniers[[8]byte(sum[:8])] = struct{}{}
	}
	if len(o.deniers) < maxDeniers {
		return ""
	}
	text := fmt.Sprintf("%s refuses our VAPID key (%d) for each of %d subscriptions", o.origin, status, maxDeniers)
	o.deny.Trip(text, time.Now())
	if o.alarm == text {
		return ""
	}
	o.alarm = text
	return text
}

func (o *origin) close() {
	o.calls.close()
	o.notes.close()
}

// origins are the push services that are known.
type origins struct {
	make func(target) *origin // static

	mu     sync.Mutex
	byName map[string]*list.Element // guarded by mu
	recent list.List                // guarded by mu; of *origin, the one used last at the front
	closed bool                     // guarded by mu
}

// enter returns the origin that a token leads to. Every success is followed by
// one leave.
func (s *origins) enter(t target) (*origin, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errClosed
	}
	if e, ok := s.byName[t.origin]; ok {
		s.recent.MoveToFront(e)
		o := e.Value.(*origin)
		o.users++
		return o, nil
	}
	if s.recent.Len() >= maxOrigins && !s.forget() {
		return nil, errOrigins
	}
	if s.byName == nil {
		s.byName = make(map[string]*list.Element)
	}
	o := s.make(t)
	o.users = 1
	s.byName[t.origin] = s.recent.PushFront(o)
	return o, nil
}

func (s *origins) leave(o *origin) {
	s.mu.Lock()
	o.users--
	s.mu.Unlock()
}

// forget makes room. s.mu is held.
func (s *origins) forget() bool {
	for e := s.recent.Back(); e != nil; e = e.Prev() {
		if o := e.Value.(*origin); o.users == 0 {
			s.recent.Remove(e)
			delete(s.byName, o.origin)
			o.close()
			return true
		}
	}
	return false
}

func (s *origins) all() []*origin {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []*origin
	for e := s.recent.Front(); e != nil; e = e.Next() {
		all = append(all, e.Value.(*origin))
	}
	return all
}

// rekeyed lets each push service judge the new key.
func (s *origins) rekeyed() {
	for _, o := range s.all() {
		o.accepts(time.Time{})
	}
}

func (s *origins) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	for _, o := range s.all() {
		o.close()
	}
}
