package push

import (
	"context"
	"errors"
	"sync"
)

// Run sends what is queued and runs what the apps need, until ctx ends. Notes
// that still wait then are done with ProviderDown; those in the outbox are sent
// in the next life.
func (s *Service) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make([]error, len(s.apps))
	var rooms sync.WaitGroup
	for i := range s.apps {
		if run := s.apps[i].Run; run != nil {
			rooms.Go(func() {
				if errs[i] = run(ctx); errs[i] != nil {
					cancel()
				}
			})
		}
	}
	// What is removed from the outbox last is removed while it is still followed.
	late, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	writing, written := context.WithCancel(late)
	defer written()
	var tail sync.WaitGroup
	tail.Go(func() { s.dones.run(late) })
	if s.cfg.Outbox != nil {
		tail.Go(func() { s.lane.follow(ctx, late) })
		rooms.Go(func() { s.listen(ctx) })
		for _, in := range s.writes {
			rooms.Go(func() { s.write(writing, in) })
		}
	}
	rooms.Go(func() {
		s.quiet.run(ctx, func(err error) { s.log.Warn("do not disturb: changes of others are not heard", "err", err) })
	})
	rooms.Go(func() { s.watch(ctx) })
	s.lane.run(ctx)
	s.dones.shut() // so that the writers have all there will ever be
	written()
	rooms.Wait()
	s.dones.close(stoppedResult)
	end()
	tail.Wait()
	return errors.Join(errs...)
}
