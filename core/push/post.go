package push

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"time"
)

// writers is how many notes are written to the outbox at a time.
const writers = 8

// write is a row on its way to the outbox.
type write struct {
	row  *row   // nil for one that is there already, in another state
	key  string // of the state
	data []byte
	dev  string
}

// Enqueue queues a note and returns when it is safe: an unexpired note then
// outlives this process, kill -9 included, and is sent at least once, by this
// or another core. (A machine that loses power may lose what it wrote in the
// last two minutes; see core/jetstream.) A note for a device without a name, or
// without an outbox, waits in memory, and that is safe from nothing.
//
// Errors are [ErrNoRoute], [ErrQueueFull], [ErrStopped], or the store's: then
// nothing is queued, as far as is known. A note that was queued before, by the
// same ID for the same device, is not queued again; that is no error.
func (s *Service) Enqueue(ctx context.Context, t Target, n Note) error {
	if r, _ := s.find(t, needNote); r.app == nil {
		return ErrNoRoute
	}
	r := newRow(t.Device, n, time.Now(), s.cfg.Keep)
	if !s.durable(t) {
		return s.remember(r, t, nil)
	}
	return s.store(ctx, r)
}

// Post is Enqueue without waiting, for those who would not do anything else if
// the note were lost: where the store does not take it, for another reason than
// that too many notes wait, it waits in memory.
// done, which may be nil, gets the outcome from a goroutine of the service, in
// this life of the process or not at all; it must not block. Where the note
// cannot be queued, it is called before Post returns. A note that was merged
// into another one's push has the outcome of that push.
func (s *Service) Post(t Target, n Note, done func(Result)) {
	now := time.Now()
	r := newRow(t.Device, n, now, s.cfg.Keep)
	err := s.post(r, t, done)
	if err != nil && done != nil {
		done(s.count(Result{Outcome: outcomeOf[err], Channel: Message, Reason: err.Error()}, now))
	}
}

var outcomeOf = map[error]Outcome{ErrQueueFull: ProviderDown, ErrStopped: ProviderDown, ErrNoRoute: NoRoute}

func (s *Service) post(r *row, t Target, done func(Result)) error {
	if !s.durable(t) {
		return s.remember(r, t, done)
	}
	if done != nil {
		r.origin = s.life
	}
	r.target = &t // for the case that the store does not take it
	return s.dones.queue(r.key, done, func() error {
		select {
		case s.writer(r.device) <- write{row: r}:
			return nil
		default:
			s.tally.ended(endFull, 1)
			return ErrQueueFull
		}
	})
}

func (s *Service) writer(device string) chan write {
	return s.writes[maphash.String(s.seed, device)%writers]
}

// durable says whether a note for t is kept in the outbox.
func (s *Service) durable(t Target) bool {
	return s.cfg.Outbox != nil && s.cfg.Sealer != nil && s.cfg.Targets != nil && t.Device != ""
}

// remember queues r in memory.
func (s *Service) remember(r *row, t Target, done func(Result)) error {
	if r.device == "" {
		r.key = newLife() // nothing tells one such device from another
	}
	if s.inMemory.Add(1) > int64(s.cfg.Queue) {
		s.inMemory.Add(-1)
		s.tally.ended(endFull, 1)
		return ErrQueueFull
	}
	r.target = &t // from here on it is counted, until it is settled
	err := s.dones.queue(r.key, done, func() error {
		s.memory <- r // has room for as many as may wait
		return nil
	})
	if err != nil {
		s.inMemory.Add(-1)
		r.target = nil
	}
	return err
}

// store puts r into the outbox.
func (s *Service) store(ctx context.Context, r *row) error {
	if s.dones.over() {
		return ErrStopped
	}
	data, err := r.encode(s.cfg.Sealer)
	if err != nil {
		return fmt.Errorf("push queue: %w", err)
	}
	if _, err := s.cfg.Outbox.Add(ctx, r.device, r.rev(), data); err != nil {
		if errors.Is(err, ErrQueueFull) {
			s.tally.ended(endFull, 1)
		}
		return err
	}
	return nil
}

// write writes to the outbox what was posted, until ctx ends; then what is still
// to be written, for a moment.
func (s *Service) write(ctx context.Context, in chan write) {
	for {
		select {
		case w := <-in:
			s.writeOne(ctx, w)
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
			defer cancel()
			for {
				select {
				case w := <-in:
					s.writeOne(last, w)
				default:
					return
				}
			}
		}
	}
}

func (s *Service) writeOne(ctx context.Context, w write) {
	if w.row == nil {
		if _, err := s.cfg.Outbox.Add(ctx, w.dev, w.key, w.data); err != nil {
			s.log.Debug("delay of a push not stored", "err", err)
		}
		return
	}
	r, t := w.row, w.row.target
	r.target = nil // it is in memory alone only if the store fails
	data, err := r.encode(s.cfg.Sealer)
	added := false
	if err == nil {
		added, err = s.cfg.Outbox.Add(ctx, r.device, r.rev(), data)
	}
	switch {
	case err == nil && added:
	case err == nil: // whoever posted it waits with those who did before
		s.lane.do(ctx, func(time.Time) {
			if s.lane.sched.rows[r.key] == nil {
				s.settled(r, Result{Outcome: Refused, Channel: Message, Reason: "queued before"})
			}
		})
	case errors.Is(err, ErrQueueFull): // it does not get the room of others
		s.tally.ended(endFull, 1)
		s.settled(r, Result{Outcome: ProviderDown, Channel: Message, Reason: err.Error()})
	default:
		if s.unsaved.first(err.Error()) {
			s.log.Warn("push queue does not take a note: it waits in memory", "err", err)
		}
		if err := s.remember(r, *t, nil); err != nil {
			s.settled(r, Result{Outcome: ProviderDown, Channel: Message, Reason: err.Error()})
		}
	}
}

// rewrite stores the state that an attempt left r in. The row before it goes
// when the new one comes back from the outbox.
func (s *Service) rewrite(r *row) {
	data, err := r.encode(s.cfg.Sealer)
	if err != nil {
		return
	}
	select {
	case s.writer(r.device) <- write{key: r.rev(), data: data, dev: r.device}:
	default: // a restart will send it sooner than it should: once
	}
}
