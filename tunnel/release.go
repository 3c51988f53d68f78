package tunnel

import (
	"context"
	"sync"
	"time"
)

const (
	// releaseAll is the time in which all flows of a core that leaves are
	// released: at most 2 % of them a second, so that the others are not
	// stormed by the clients that come.
	releaseAll = 50 * time.Second
	// releaseStep is the time between two batches.
	releaseStep = time.Second / 2
	// spareWithin is how long an edge may take to say that it has another core.
	spareWithin = time.Second
)

// Release ends the flows of the edges that have another core for them, with
// drain and at most 2 % of them a second, and returns when none is left, or
// ctx ends. It is called after [Dialer.Drain]. Flows of an edge that has no
// other core stay: it keeps its clients until this core, or another, is back.
func (d *Dialer) Release(ctx context.Context) {
	d.mu.Lock()
	var sessions []*session
	for _, e := range d.edges {
		if e.session != nil {
			sessions = append(sessions, e.session)
		}
	}
	d.mu.Unlock()
	var all sync.WaitGroup
	for _, s := range sessions {
		all.Go(func() { s.release(ctx) })
	}
	all.Wait()
}

// release ends the flows of s little by little, if the edge has another core.
func (s *session) release(ctx context.Context) {
	tick := time.NewTicker(releaseStep)
	defer tick.Stop()
	asked, began, total, done := time.Now(), time.Now(), int(s.count.Load()), 0
	for s.count.Load() > 0 {
		select {
		case <-tick.C:
		case <-s.done:
			return
		case <-ctx.Done():
			return
		}
		switch {
		case s.spare.Load():
		case time.Since(asked) >= spareWithin:
			return
		default:
			began = time.Now()
			continue
		}
		took := time.Since(began)
		due := int(int64(total) * int64(min(took, releaseAll)) / int64(releaseAll))
		for _, l := range s.links {
			flows := l.some(due - done)
			l.endFlows(flows, CloseDrain, "this core leaves", func() bool { return true })
			done += len(flows)
		}
		if took >= releaseAll {
			total, done, began = int(s.count.Load()), 0, time.Now() // those that came crosswise
		}
	}
}

// some returns up to n flows of the link.
func (l *link) some(n int) (flows []*Flow) {
	l.index.Lock()
	defer l.index.Unlock()
	for _, f := range l.flows {
		if len(flows) >= n {
			break
		}
		flows = append(flows, f)
	}
	return flows
}

// onSpare is told whether the edge has another core.
func (l *link) onSpare(_ *carrier, _ uint32, p []byte) error {
	l.s.spare.Store(p[0] != 0)
	return nil
}
