package push

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

// How a push is sent again that the provider did not take: twice as late each
// time, with a jitter, until its rows expire.
const (
	firstRetry = 2 * time.Second  // where nobody answered
	lastRetry  = 30 * time.Second // where nobody answered: a dead path is noticed by the app's slots
	firmRetry  = time.Minute      // where the provider answered that it is down, and named no time
	maxRetry   = 4 * time.Hour
	keptRetry  = time.Minute // from here on the delay itself survives a restart
)

// givenUp is how long after its first refusal a push is still sent again, by
// provider; Google asks for an end after an hour.
var givenUp = map[string]time.Duration{ProviderFCM: time.Hour}

// lane sends the notes that wait. One goroutine, run, owns all of it; what
// others want of it they do by an event.
type lane struct {
	s       *Service
	sched   *schedule
	slots   map[*App]*slots
	events  chan func(now time.Time)
	backlog []*row               // stored rows that came before the word that these were all
	behind  bool                 // that word is still to come
	back    map[string]time.Time // when devices came back, in the last minute
	flying  int                  // pushes under way

	sending sync.WaitGroup
}

func newLane(s *Service) *lane {
	l := &lane{
		s: s, sched: newSchedule(s.cfg.PerMinute, s.cfg.Keep), slots: make(map[*App]*slots),
		events: make(chan func(time.Time), 64), back: make(map[string]time.Time),
	}
	for i := range s.apps {
		l.slots[&s.apps[i]] = &slots{limit: s.cfg.Workers, many: s.apps[i].Provider == ProviderWebPush}
	}
	return l
}

// run sends until ctx ends, and then waits for the pushes that are under way.
func (l *lane) run(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for ctx.Err() == nil {
		now := time.Now()
		l.turn(ctx, now)
		l.report()
		if at := l.sched.next(); at.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(max(time.Until(at), 0))
		}
		select {
		case <-ctx.Done():
		case <-timer.C:
		case r := <-l.s.memory:
			l.enter(r, time.Now())
		case f := <-l.s.hints:
			f(time.Now())
		case f := <-l.events:
			f(time.Now())
		}
	}
	for l.flying > 0 {
		(<-l.events)(time.Now())
	}
	l.sending.Wait()
	l.close()
}

// do has f run by the lane's goroutine. It reports false when ctx ends first.
func (l *lane) do(ctx context.Context, f func(now time.Time)) bool {
	select {
	case l.events <- f:
		return true
	case <-ctx.Done():
		return false
	}
}

// turn sends what is due.
func (l *lane) turn(ctx context.Context, now time.Time) {
	if l.sched.tidy(now) {
		for device, at := range l.back {
			if now.Sub(at) >= time.Minute {
				delete(l.back, device)
			}
		}
	}
	for {
		c := l.sched.pop(now, func(r *row) { l.end(r, Result{Outcome: Refused, Channel: Message, Reason: "expired"}, endExpired) })
		switch {
		case c != nil:
			l.try(ctx, c, now)
		case !l.unstick(now):
			return
		}
	}
}

// unstick gives free slots to chats that were left in line by one that had a
// slot and did not need it, and reports whether there were any.
func (l *lane) unstick(now time.Time) (any bool) {
	for _, slot := range l.slots {
		if len(slot.line) > 0 && !slot.busy() {
			l.unpark(slot, now)
			any = true
		}
	}
	return any
}

// try sends c if quiet hours, its route and its app let it.
func (l *lane) try(ctx context.Context, c *chat, now time.Time) {
	last := c.rows[len(c.rows)-1]
	target, ok := l.target(last)
	r, reason := route{}, "the device is not known any more"
	if ok {
		r, reason = l.s.find(target, needNote)
	}
	if r.app == nil {
		b := l.sched.start(c, now)
		res := l.s.count(Result{Outcome: NoRoute, Channel: Message, Reason: reason}, now)
		l.finish(b, res, now)
		return
	}
	n := last.note
	n.Urgent = c.urgent()
	if q := l.s.QuietNote(target, n); q.Hold {
		l.hold(c, q.Until, now)
		l.sched.plan(c, now)
		return
	}
	slot := l.slots[r.app]
	switch at := slot.free(now); {
	case at.After(now):
		c.wait = at.Add(time.Duration(rand.Int64N(int64(time.Second)))) // #nosec G404 -- spreads load
		l.sched.plan(c, now)
	case slot.busy():
		slot.park(c)
	default:
		l.fly(ctx, slot, l.sched.start(c, now), target)
	}
}

// hold has c wait for the end of quiet hours; where they have none, for the next
// time to ask. Whoever ends them before is heard.
func (l *lane) hold(c *chat, until, now time.Time) {
	if c.held = true; until.IsZero() {
		until = now.Add(endless)
	}
	c.wait = later(until, c.wait)
}

// target is the device of r as it stands now.
func (l *lane) target(r *row) (Target, bool) {
	if r.target != nil {
		return *r.target, true
	}
	if l.s.cfg.Targets == nil {
		return Target{}, false
	}
	return l.s.cfg.Targets(r.device)
}

// fly sends b on a goroutine of its own, of which there are no more than the
// apps have slots.
func (l *lane) fly(ctx context.Context, slot *slots, b batch, target Target) {
	slot.flying++
	l.flying++
	l.sending.Go(func() {
		res := l.s.Note(ctx, target, b.note)
		l.events <- func(now time.Time) {
			slot.flying--
			l.flying--
			slot.heard(res, now)
			l.landed(b, res, now, ctx.Err() != nil)
			l.unpark(slot, now)
		}
	})
}

// unpark gives the slots that came free to those who wait for them.
func (l *lane) unpark(slot *slots, now time.Time) {
	for _, c := range slot.freed(now) {
		c.parked = false
		l.sched.resume(c, now)
	}
}

// landed settles what became of b. Where the service is ending, what is stored
// stays for the next life.
func (l *lane) landed(b batch, res Result, now time.Time, ending bool) {
	if ending && res.Outcome == ProviderDown {
		for _, r := range b.rows {
			if r.remove == nil {
				l.sched.end(r)
				l.s.settled(r, res)
			}
		}
		b.chat.busy = false
		b.chat.settle()
		return
	}
	c := b.chat
	if res.Outcome == Quiet { // since it was asked about
		l.hold(c, now.Add(res.Retry), now)
		l.sched.retry(b, c.wait, now)
		return
	}
	delay, again := l.again(c, res, now)
	if !again {
		l.finish(b, res, now)
		return
	}
	c.tries++
	if res.Status != 0 && c.failed.IsZero() {
		c.failed = now
	}
	l.s.tally.ended(endRetried, 1)
	wait := now.Add(delay)
	if last := b.last; delay >= keptRetry && last.remove != nil && !last.ended {
		last.tries, last.failed, last.wait = c.tries, c.failed, wait
		l.s.rewrite(last)
	}
	l.sched.retry(b, wait, now)
}

// again says whether and when a push with this result is sent again.
func (l *lane) again(c *chat, res Result, now time.Time) (time.Duration, bool) {
	floor, limit := res.Retry, maxRetry
	switch {
	case floor == 0 && res.Outcome != ProviderDown:
		return 0, false
	case res.Status == 0:
		floor, limit = max(floor, firstRetry), lastRetry
	case floor == 0:
		floor = firmRetry
	}
	// What the provider named is the least: the jitter only adds to it.
	delay := min(floor<<min(c.tries, 8), max(floor, limit))
	delay = jitter(delay+delay/4, .2, now).Sub(now)
	if end, ok := givenUp[res.Provider]; ok && !c.failed.IsZero() && now.Add(delay).Sub(c.failed) > end {
		return 0, false
	}
	return delay, true
}

// jitter is now and d, give or take part of d.
func jitter(d time.Duration, part float64, now time.Time) time.Time {
	return now.Add(d + time.Duration((2*rand.Float64()-1)*part*float64(d))) // #nosec G404 -- spreads load, hides nothing
}

// finish ends all rows of b with one result.
func (l *lane) finish(b batch, res Result, now time.Time) {
	how := endDead
	if res.Outcome == Accepted {
		how = endDone
		l.s.tally.ended(endCoalesced, len(b.rows)-1)
	}
	for _, r := range b.rows {
		if !r.ended {
			l.end(r, res, how)
		}
	}
	l.sched.finish(b, now)
}

// end takes r out of the outbox and tells whoever posted it.
func (l *lane) end(r *row, res Result, how string) {
	l.s.tally.ended(how, 1)
	if r.remove != nil {
		r.remove()
	}
	l.s.settled(r, res)
}

// enter takes a row in, unless its device came back after it was queued.
func (l *lane) enter(r *row, now time.Time) {
	if at, ok := l.back[r.device]; ok && r.device != "" && r.added.Before(at) && r.endsOnReturn() {
		l.end(r, droppedResult, endDropped)
		return
	}
	if !l.sched.add(r, now) && r.target != nil {
		l.s.inMemory.Add(-1) // who posted it hears how the other one ends
	}
}

// close tells those who posted what is in memory that it will not be sent.
func (l *lane) close() {
	for _, r := range l.sched.order {
		if r != nil && !r.ended {
			l.s.settled(r, stoppedResult)
		}
	}
	for {
		select {
		case r := <-l.s.memory:
			l.s.settled(r, stoppedResult)
		default:
			return
		}
	}
}

var (
	stoppedResult = Result{Outcome: ProviderDown, Channel: Message, Reason: ErrStopped.Error()}
	droppedResult = Result{Outcome: Refused, Channel: Message, Reason: "not needed any more"}
)
