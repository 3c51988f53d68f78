package im

import (
	"context"
	"errors"
	"time"
)

// work sees to it that somebody handles the box. Under mu.
func (s *Service) work(b *box) {
	if b.working {
		select {
		case b.arrived <- struct{}{}:
		default:
		}
		return
	}
	b.working, b.arrived = true, make(chan struct{}, 1)
	s.workers.Go(func() { s.handle(b) })
}

// handle does what there is to do for a device, and ends.
func (s *Service) handle(b *box) {
	for {
		it, next, done := s.next(b)
		switch {
		case done:
			return
		case it != nil:
			if s.take(b, it) {
				s.rest(b)
			}
		default:
			s.deliver(b, next)
		}
	}
}

// next is the item or the held message that comes next. Items come before held
// messages: they have a sender that waits, and only join them.
func (s *Service) next(b *box) (it Item, held entry, done bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		if it := s.arrival(b); it != nil {
			return it, entry{}, false
		}
		if len(b.held) == 0 || s.ctx.Err() != nil {
			break
		}
		b.again = false
		s.mu.Unlock()
		looks := s.courier.Looks(b.device)
		s.mu.Lock()
		switch {
		case len(b.line) > 0 || b.again:
		default:
			if e, ok := b.first(looks); ok {
				return nil, e, false
			}
			b.working, b.arrived = false, nil
			return nil, entry{}, true
		}
	}
	b.working, b.arrived, b.line, b.again = false, nil, nil, false
	s.tidy(b)
	return nil, entry{}, true
}

// arrival takes the oldest item in line. Under mu.
func (s *Service) arrival(b *box) Item {
	if len(b.line) == 0 {
		return nil
	}
	it := b.line[0]
	b.line[0] = nil
	b.line = b.line[1:]
	s.lined--
	return it
}

// take sends a message that has just come, or holds it; kept is true if it was
// sent, and must be held all the same.
func (s *Service) take(b *box, it Item) (kept bool) {
	if s.ctx.Err() != nil {
		it.Lost(ErrStopped)
		return false
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), storeTimeout)
	defer cancel()
	m := it.Message()
	k := keyOf(m.ID)
	if s.known(b.device, k) {
		it.Held(ctx, Over)
		return false
	}
	if s.empty(b) {
		verdict := make(chan Verdict, 1)
		if kept = it.Send(func(v Verdict) { verdict <- v }); kept && s.settled(b.device, k, verdict) {
			return false
		}
		ctx, cancel = context.WithTimeout(context.WithoutCancel(s.ctx), storeTimeout)
		defer cancel()
	}
	start := time.Now()
	h, err := s.hold(ctx, b.device, m)
	if err != nil {
		s.lost(err)
		it.Lost(err)
		return kept
	}
	s.m.stored.Observe(time.Since(start).Seconds())
	it.Held(ctx, h)
	return kept
}

func (s *Service) known(device string, k key) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.recent.has(markOf(device, k), time.Now())
}

func (s *Service) empty(b *box) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(b.held) == 0
}

// settled waits for the verdict on a message that was sent as it came, and says
// whether it needs no holding.
func (s *Service) settled(device string, k key, verdict <-chan Verdict) bool {
	select {
	case v := <-verdict:
		s.note(device, k, v)
		return v != Kept
	case <-s.ctx.Done():
		return false
	}
}

// note remembers a message that is done with.
func (s *Service) note(device string, k key, v Verdict) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch v {
	case Delivered:
		s.had(device, k)
	case Refused:
		s.recent.add(markOf(device, k), time.Now())
	case Kept, Elsewhere:
	}
}

// lost counts a message that could not be held, and says what an operator can do.
func (s *Service) lost(err error) {
	switch {
	case errors.Is(err, ErrFull):
		s.m.refused.WithLabelValues("full").Inc()
	case errors.Is(err, ErrTooBig):
		s.m.refused.WithLabelValues("too_big").Inc()
	default:
		s.m.refused.WithLabelValues("store").Inc()
		s.log.Error("message not stored", "err", err)
	}
}

// deliver sends a held message and waits for its final answer. What comes in
// the meantime is stored, since its sender waits too.
func (s *Service) deliver(b *box, e entry) {
	if e.over(time.Now()) {
		s.expire(b.device, e)
		return
	}
	data, ok := s.read(b.device, e)
	if !ok {
		return
	}
	verdict := make(chan Verdict, 1)
	if !s.courier.Deliver(b.device, time.UnixMilli(e.added), data, func(v Verdict) { verdict <- v }) {
		s.rest(b) // it has just ceased to look, or cannot be sent to
		return
	}
	v, ok := s.meanwhile(b, verdict, nil)
	if !ok {
		return
	}
	if v == Kept {
		s.rest(b)
		return
	}
	s.note(b.device, e.key, v)
	s.mu.Lock()
	b.tries = 0
	if i := b.find(e.key); i >= 0 {
		b.held[i].taken = b.held[i].taken || v == Elsewhere
		e.taken = b.held[i].taken
	}
	s.mu.Unlock()
	switch v {
	case Delivered:
		s.remove(e.seq, b.device, "delivered")
	case Refused:
		if s.remove(e.seq, b.device, "refused") && !e.taken {
			s.courier.Ended(b.device, data, Refused)
		}
	case Kept, Elsewhere:
	}
}

// meanwhile handles what arrives until there is a verdict, until over, or until
// the service ends; ok is true for a verdict.
func (s *Service) meanwhile(b *box, verdict <-chan Verdict, over <-chan time.Time) (v Verdict, ok bool) {
	s.mu.Lock()
	arrived := b.arrived
	s.mu.Unlock()
	for {
		select {
		case v := <-verdict:
			return v, true
		case <-arrived:
			if s.arrivals(b) && over != nil {
				return Kept, false
			}
		case <-over:
			return Kept, false
		case <-s.ctx.Done():
			return Kept, false
		}
	}
}

// arrivals stores what has come, and says whether the device has come back.
func (s *Service) arrivals(b *box) (again bool) {
	for {
		s.mu.Lock()
		it := s.arrival(b)
		again = b.again
		s.mu.Unlock()
		if it == nil {
			return again
		}
		s.take(b, it)
	}
}

// How long a device that looks, and did not take a message, is left alone:
// twice as long each time.
const (
	firstRest = 5 * time.Second
	lastRest  = 5 * time.Minute
)

// rest keeps a device that looks, and takes nothing, from being sent the same
// message without end. Word that it has come back ends the rest.
func (s *Service) rest(b *box) {
	if s.courier.Looks(b.device) == Nobody {
		return
	}
	s.mu.Lock()
	if b.again { // while the message was out
		s.mu.Unlock()
		return
	}
	d := min(firstRest<<min(b.tries, 10), lastRest)
	b.tries++
	b.rests = time.Now().Add(d)
	s.mu.Unlock()
	limit := time.NewTimer(d)
	defer limit.Stop()
	s.meanwhile(b, nil, limit.C)
}

// read gets a message from the store. One that is not there any more, or cannot
// be opened, is out of the way then.
func (s *Service) read(device string, e entry) (data []byte, ok bool) {
	ctx, cancel := context.WithTimeout(s.ctx, storeTimeout)
	defer cancel()
	data, err := s.store.Get(ctx, e.seq)
	if err == nil && s.cfg.Sealer != nil {
		data, _, err = s.cfg.Sealer.Open(sealName(device, e.key), data)
		if err != nil { // kept in the store, for the day on which the key is back
			s.log.Error("a held message cannot be read: put back the key file of store.key_file that sealed it", "err", err)
			s.forget(device, e.seq, "unreadable")
			return nil, false
		}
	}
	switch {
	case err == nil:
		return data, true
	case errors.Is(err, ErrNotHeld): // another core was first
		s.forget(device, e.seq, "elsewhere")
	case s.ctx.Err() == nil:
		s.log.Error("held message not read", "err", err)
		s.pause()
	}
	return nil, false
}

func (s *Service) forget(device string, seq uint64, outcome string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leave(device, seq) {
		s.m.ended.WithLabelValues(outcome).Inc()
	}
}

// pause lets a store in trouble recover.
func (s *Service) pause() {
	t := time.NewTimer(time.Second)
	defer t.Stop()
	select {
	case <-t.C:
	case <-s.ctx.Done():
	}
}
