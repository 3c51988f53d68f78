package wake

import (
	"context"
	"sync"
	"time"

	"sallyport/core/push"
)

// scoreWindow is how long after an accepted push a registration counts as its
// work: more than any wake window, and less than people take to look at an alert
// and open the app.
const scoreWindow = 15 * time.Second

// Score is what came of one accepted push to a device that slept. A provider's
// 200 says that it took the push; only this says that the device did.
type Score struct {
	Device string
	Push   push.Result
	Sent   time.Time
	Took   time.Duration // from Sent to the registration; 0 when there was none
}

// Woke reports whether the device registered in time.
func (s Score) Woke() bool { return s.Took > 0 }

// scores holds the pushes whose effect is not known yet, at most one per device
// and channel: who is woken once has come back for all that was sent meanwhile.
// One timer serves them all.
type scores struct {
	// Static.
	tell    func(Score) // without any lock held
	metrics *metrics
	changed chan struct{} // holds one token: the oldest changed

	mu sync.Mutex
	// Guarded by mu.
	open  map[scored]*pending
	queue []*pending // accepted, the oldest first; closed ones are skipped
}

type scored struct {
	device  string
	channel push.Channel
}

// pending is a push whose effect is not known. Guarded by scores.mu.
type pending struct {
	Score
	key    scored
	own    bool      // sent by the Waker, which has no answer yet
	until  time.Time // zero before it is accepted
	closed bool
}

func newScores(tell func(Score), m *metrics) *scores {
	if tell == nil {
		tell = func(Score) {}
	}
	return &scores{tell: tell, metrics: m, changed: make(chan struct{}, 1), open: make(map[scored]*pending)}
}

// begin notes that a VoIP push goes to a device without a flow.
func (s *scores) begin(device string, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := scored{device, push.VoIP}
	if s.open[k] == nil {
		s.open[k] = &pending{Score: Score{Device: device, Sent: at}, key: k, own: true}
	}
}

// settle enters the outcome of a push that began.
func (s *scores) settle(device string, r push.Result, now time.Time) {
	s.mu.Lock()
	p := s.open[scored{device, push.VoIP}]
	if p == nil || !p.own {
		s.mu.Unlock()
		return
	}
	p.own, p.Push = false, r
	switch {
	case r.Outcome != push.Accepted:
		s.close(p)
	case p.Took > 0: // back before the provider answered (R4)
		s.close(p)
		s.mu.Unlock()
		s.done(p.Score)
		return
	default:
		s.enqueue(p, now)
	}
	s.mu.Unlock()
}

// add enters a push that was accepted for a device without a flow.
func (s *scores) add(device string, r push.Result, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := scored{device, r.Channel}
	if s.open[k] != nil {
		return
	}
	p := &pending{Score: Score{Device: device, Push: r, Sent: now}, key: k}
	s.open[k] = p
	s.enqueue(p, now)
}

func (s *scores) enqueue(p *pending, now time.Time) {
	p.until = now.Add(scoreWindow)
	s.queue = append(s.queue, p)
	if len(s.queue) == 1 {
		select {
		case s.changed <- struct{}{}:
		default:
		}
	}
}

func (s *scores) close(p *pending) {
	p.closed = true
	delete(s.open, p.key)
}

// back tells that a device registered.
func (s *scores) back(device string, now time.Time) {
	var woken []Score
	s.mu.Lock()
	for _, channel := range []push.Channel{push.VoIP, push.Message} {
		p := s.open[scored{device, channel}]
		if p == nil || p.Took > 0 {
			continue
		}
		p.Took = max(now.Sub(p.Sent), 1)
		if p.own {
			continue // the provider's answer decides
		}
		s.close(p)
		woken = append(woken, p.Score)
	}
	s.mu.Unlock()
	for _, sc := range woken {
		s.done(sc)
	}
}

// forget drops what is open for a device that unregistered: it was woken by
// nobody, and missed nothing.
func (s *scores) forget(device string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, channel := range []push.Channel{push.VoIP, push.Message} {
		if p := s.open[scored{device, channel}]; p != nil {
			s.close(p)
		}
	}
}

func (s *scores) done(sc Score) {
	s.metrics.scored(sc)
	s.tell(sc)
}

// run counts as missed what nobody came back for in time, until ctx ends.
func (s *scores) run(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		timer.Reset(s.expire(time.Now()))
		select {
		case <-ctx.Done():
			return
		case <-s.changed:
		case <-timer.C:
		}
	}
}

// expire ends what is over at now and returns the time to the next.
func (s *scores) expire(now time.Time) time.Duration {
	var missed []Score
	next := time.Hour
	s.mu.Lock()
	n := 0
	for _, p := range s.queue {
		if !p.closed && now.Before(p.until) {
			next = p.until.Sub(now)
			break
		}
		n++
		if !p.closed {
			s.close(p)
			missed = append(missed, p.Score)
		}
	}
	clear(s.queue[:n])
	if s.queue = s.queue[n:]; len(s.queue) == 0 {
		s.queue = nil
	}
	s.mu.Unlock()
	for _, sc := range missed {
		s.done(sc)
	}
	return next
}

// Pushed tells of a push that the Waker did not send itself: a note that left
// its queue. It counts only for a device without a flow.
func (w *Waker) Pushed(device string, r push.Result) {
	if r.Outcome == push.Accepted && w.cfg.Flow(device) == "" {
		w.scores.add(device, r, time.Now())
	}
}
