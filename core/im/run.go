package im

import (
	"context"
	"time"
)

// sweepEvery is how often expired messages are looked for. None is delivered in
// between: that is asked for each.
const sweepEvery = time.Minute

// Run follows the store, ends what expires, and returns when ctx ends and no
// message is being handled any more.
func (s *Service) Run(ctx context.Context) error {
	s.workers.Go(func() { s.sweeping() })
	for ctx.Err() == nil {
		err := s.store.Follow(ctx, s.told, s.toldRemoved, s.caughtUp)
		if ctx.Err() == nil {
			s.log.Warn("what is held is not known for sure for a while", "err", err)
			t := time.NewTimer(time.Second)
			select {
			case <-t.C:
			case <-ctx.Done():
			}
			t.Stop()
		}
	}
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.stop()
	s.workers.Wait()
	return nil
}

// told is what the store says it holds.
func (s *Service) told(e Entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = max(s.seen, e.Seq)
	k, ok := parseKey(e.Key)
	if !ok {
		return
	}
	if _, gone := s.gone[e.Seq]; gone {
		delete(s.gone, e.Seq)
		return
	}
	b := s.box(e.Device)
	if !s.enter(b, entryOf(e, k)) || s.closed {
		return
	}
	select {
	case <-s.ready: // by another core; its device may look at us
		s.look(b)
	default:
	}
}

// toldRemoved is what another core says it has delivered.
func (s *Service) toldRemoved(device string, seq uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leave(device, seq)
}

func (s *Service) caughtUp() {
	s.readied.Do(func() { close(s.ready) })
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	for _, b := range s.boxes {
		if s.courier != nil && len(b.held) > 0 {
			s.look(b)
		}
	}
}

func (s *Service) sweeping() {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			s.sweep(now)
		case <-s.ctx.Done():
			return
		}
	}
}

// sweep ends what has expired.
func (s *Service) sweep(now time.Time) {
	type over struct {
		b *box
		e entry
	}
	var list []over
	s.mu.Lock()
	for _, b := range s.boxes {
		for i := range b.held {
			if b.held[i].over(now) {
				list = append(list, over{b, b.held[i]})
			}
		}
	}
	s.mu.Unlock()
	for _, o := range list {
		if s.ctx.Err() != nil {
			return
		}
		s.expire(o.b.device, o.e)
	}
}

// expire ends a message that nobody wants any more.
func (s *Service) expire(device string, e entry) {
	if data, ok := s.read(device, e); ok && s.remove(e.seq, device, "expired") && !e.taken {
		s.courier.Ended(device, data, Kept)
	}
}
