package tunnel

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"sallyport/tunnel/frame"
)

// A session is all links between an edge and a core, from the first HELLO to
// its end. It outlives the connections that carry it, if both ends can resume.
// An ended session of an edge keeps the flows it carried until another takes
// them, or until they are given up.
type session struct {
	// Static after newSession.
	tunables             // features are those both ends have
	id       uint64      // chosen by the core
	peer     Peer        // the node at the other end
	hello    frame.Hello // the peer's, on the first carrier
	addr     string      // of the peer, as the first carrier came
	outlived bool        // flows live longer than this session (edge)
	accept   func(*Flow) Handler
	others   func(first bool) bool // tells whether another core takes its flows, when it says, first or again, that it leaves (edge)
	metrics  *metrics
	budget   *budget
	start    time.Time
	links    []*link
	maxSend  int           // longest message the peer takes
	done     chan struct{} // closed by fail: this session carries nothing any more
	alone    chan struct{} // told when the last carrier broke; has room for one
	buried   chan struct{} // closed by its owner: no handler is called any more
	moved    chan struct{} // closed when the flows it left were taken (edge)

	rtt         atomic.Int64
	count       atomic.Int32 // flows, of all links
	wantsNarrow atomic.Bool  // the peer asked for narrow flows
	spare       atomic.Bool  // the edge has another core for its flows

	mu sync.Mutex // taken before any link's
	// Guarded by mu.
	err        error
	endedAlone bool // it had no carrier when it ended
	leaving    bool
	overdue    *time.Timer // ends a leaving session whose peer does not read
	attached   int         // carriers
	turned     time.Time   // when attached last became 0, or 1
	lastErr    error       // why a carrier broke last
	draining   bool        // the peer wants no new flows
	notices    []string    // the peer's newest
	rate       bucket

	lostAt time.Time // when its flows were last carried; guarded by Acceptor.mu
}

// newSession makes the session that the HELLOs on c agreed on. Its first
// carrier is yet to be attached.
func newSession(t tunables, c *carrier, id uint64, links int, m *metrics, b *budget) *session {
	s := &session{
		tunables: t, id: id, metrics: m, budget: b, start: time.Now(), turned: time.Now(), hello: c.hello,
		peer: Peer{Name: c.hello.Node, Boot: c.hello.Boot}, addr: c.conn.RemoteAddr().String(),
		maxSend: int(min(c.hello.Window, c.hello.MaxFrame, frame.MaxPayload)),
		done:    make(chan struct{}), alone: make(chan struct{}, 1),
		buried: make(chan struct{}), moved: make(chan struct{}),
		rate: newBucket(t.openRate, t.maxFlows), draining: c.hello.Draining,
	}
	s.features &= c.hello.Features
	if !s.resumes() {
		links = 1
	}
	for i := range links {
		s.links = append(s.links, newLink(s, uint32(i)))
	}
	return s
}

// agree returns how many links the session has that two HELLOs are about.
func agree(own, peer frame.Hello) int {
	if own.Features&peer.Features&frame.FeatureResume == 0 {
		return 1
	}
	return int(min(own.Links, peer.Links, maxLinks))
}

// resumes tells whether a link goes on over a new carrier.
func (s *session) resumes() bool { return s.features&frame.FeatureResume != 0 }

// fail ends the session because of err, for good. A code other than 0 is told
// to the peer, if that takes no time to speak of.
func (s *session) fail(err error, code frame.GoAwayCode) {
	s.mu.Lock()
	if s.err != nil {
		s.mu.Unlock()
		return
	}
	if s.leaving {
		err, code = errLeft, 0
	}
	s.err, s.endedAlone = err, s.attached == 0
	if s.overdue != nil {
		s.overdue.Stop()
	}
	s.mu.Unlock()
	for _, l := range s.links {
		l.end(err, code)
	}
	close(s.done)
}

// cause is why the session ended, nil before.
func (s *session) cause() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// settle returns when the carriers of an ended session have stopped. No
// handler is called any more then.
func (s *session) settle() {
	for _, l := range s.links {
		if c := l.current(); c != nil {
			<-c.gone
		}
		l.release()
	}
}

// leave ends the session in order: what is queued is written, then GOAWAY.
func (s *session) leave() {
	s.mu.Lock()
	if s.err != nil || s.leaving {
		s.mu.Unlock()
		return
	}
	s.leaving = true
	s.overdue = time.AfterFunc(byeWithin, func() { s.fail(errLeft, 0) })
	alone := s.attached == 0
	s.mu.Unlock()
	for _, l := range s.links {
		l.leave()
	}
	if alone {
		s.fail(errLeft, 0)
	}
}

// up books a carrier that was attached.
func (s *session) up() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.attached++; s.attached == 1 {
		s.turned = time.Now()
	}
	s.metrics.links.Inc()
}

// down books a carrier that broke because of err, and ends the session if it
// cannot go on without. last tells that the peer sends nothing more.
func (s *session) down(err error, last bool) {
	s.metrics.links.Dec()
	s.metrics.linkEnds.WithLabelValues(reason(err)).Inc()
	s.mu.Lock()
	s.attached--
	s.lastErr = err
	over := !s.resumes()
	if s.attached == 0 {
		s.turned = time.Now()
		over = over || last || s.leaving
		select {
		case s.alone <- struct{}{}:
		default:
		}
	}
	s.mu.Unlock()
	if over {
		s.fail(err, 0)
	}
}

// carried tells whether the session has a carrier, and since when that is so.
func (s *session) carried() (bool, time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.attached > 0 && s.err == nil, s.turned
}

// lastCarried returns when the session had a carrier last.
func (s *session) lastCarried() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.endedAlone {
		return s.turned
	}
	return time.Now()
}

// drain tells the peer that this end takes no new flows, and when it leaves.
func (s *session) drain(in time.Duration) {
	ms := uint32(min(max(in.Milliseconds(), 0), 1<<31))
	for _, l := range s.links {
		l.urge(func(b []byte) []byte { return frame.AppendUint32(b, frame.TypeDrain, 0, ms) })
	}
}

// notify tells the peer's operator what to know of this end. It is said on
// the first link alone, where later words come later.
func (s *session) notify(notes []string) {
	s.links[0].urge(func(b []byte) []byte { return frame.AppendNotice(b, notes) })
}

// takeNoMore notes that the peer wants no new flows, and tells whether that is
// new.
func (s *session) takeNoMore(within time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining {
		return false
	}
	s.draining = true
	s.log.Info("peer drains", "peer", s.peer.Name, "within", within)
	return true
}

// drains tells whether the peer wants no new flows.
func (s *session) drains() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.draining
}

// serves tells whether the peer takes flows of that service.
func (s *session) serves(service string) bool {
	return len(s.hello.Services) == 0 || slices.Contains(s.hello.Services, service)
}

// servesFor tells whether the peer takes flows of every service that of s named.
func (s *session) servesFor(other *session) bool {
	return !slices.ContainsFunc(other.hello.Services, func(service string) bool { return !s.serves(service) })
}

// takes tells whether the peer is there and wants new flows.
func (s *session) takes() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err == nil && !s.leaving && !s.draining && s.attached > 0
}

// load returns how busy s is compared to others, and whether it takes a new
// flow of that service at all.
func (s *session) load(service string) (float64, bool) {
	n := int(s.count.Load())
	ok := s.takes() && n < int(s.hello.MaxFlows) && s.serves(service)
	return float64(n+1) / float64(s.hello.Weight), ok
}

// pick returns the link with the fewest flows that can take one more, nil if
// none can. With any, it returns one in any case.
func (s *session) pick(anyway bool) *link {
	var best, spare *link
	var least int
	for _, l := range s.links {
		n, ok := l.vacancy()
		if ok && (best == nil || n < least) {
			best, least = l, n
		}
		if spare == nil {
			spare = l
		}
	}
	if best == nil && anyway {
		return spare
	}
	return best
}

// giveUp ends every flow that is left, without a word to the peer.
func (s *session) giveUp(code CloseCode, text string) {
	for _, l := range s.links {
		l.giveUp(code, text)
	}
}

// describe fills in what a session knows of itself.
func (s *session) describe(st *SessionStatus) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st.Up = s.err == nil && s.attached > 0
	st.Since = s.turned
	st.Flows, st.Draining = int(s.count.Load()), s.draining
	st.RTT = time.Duration(s.rtt.Load())
	st.Links, st.LinksUp = len(s.links), s.attached
	st.Notices = slices.Clone(s.notices)
	if !st.Up && s.lastErr != nil {
		st.LastError = s.lastErr.Error()
	}
	if s.err != nil {
		st.LastError = s.err.Error()
	}
}

// errGap is why a session ends that had no carrier on a link for grace.
func (s *session) errGap(l *link, err error) error {
	return fmt.Errorf("%w: link %d had no connection for %v: %w", errLost, l.number, s.grace, err)
}
