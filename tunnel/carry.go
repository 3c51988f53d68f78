package tunnel

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"sallyport/tunnel/frame"
)

// A link goes on over a new carrier where the old one broke: both ends say in
// HELLO how many sequenced bytes they have handled, and write again what came
// after those.

// vacate makes the link free for a new carrier, which wins over an old one
// that is not yet known to be dead. It fails when the session has ended.
// l.joining is held.
func (l *link) vacate() error {
	for {
		l.mu.Lock()
		old := l.carrier
		if old != nil {
			old.breaks(errTakenOver, 0)
			l.work.Signal()
		}
		ended := l.ended()
		l.mu.Unlock()
		switch {
		case ended:
			return errReset
		case old == nil:
			return nil
		}
		<-old.gone
	}
}

// attach makes c, on which both ends have said HELLO, the link's carrier.
// l.joining is held, and the link has none.
func (l *link) attach(c *carrier) error {
	l.mu.Lock()
	switch rx := c.hello.RxOffset; {
	case l.ended():
		l.mu.Unlock()
		return errReset
	case !l.ring.knows(rx):
		base, sent := l.ring.base, l.ring.sent
		l.mu.Unlock()
		return fmt.Errorf("%w: the peer wants link %d from byte %d, kept are %d to %d", errReset, l.number, rx, base, sent)
	default:
		again := l.ring.rewind(rx)
		l.s.metrics.replayed.Add(float64(again))
	}
	if l.gap != nil {
		l.gap.Stop()
		l.gap = nil
	}
	if c.resumed = l.born; c.resumed {
		l.s.metrics.resumed.Inc()
	}
	l.carrier, l.born, l.moving = c, true, time.Now()
	l.acked = l.rx.Load()
	c.start, c.ear.c, c.ear.l = time.Now(), c, l
	l.mu.Unlock()
	l.s.up()
	for _, other := range l.s.links {
		other.await(errors.New("tunnel: it was never dialled"))
	}
	return nil
}

// await ends the session if the link, which is in a gap because of err, gets
// no carrier within grace.
func (l *link) await(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.carrier == nil && l.gap == nil && !l.ended() && l.s.resumes() {
		l.gap = time.AfterFunc(l.s.grace, func() { l.s.fail(l.s.errGap(l, err), 0) })
	}
}

// carry serves the link over c, which is attached, until c breaks, and returns
// why. When it returns, this carrier calls no handler any more.
func (l *link) carry(c *carrier) error {
	var rest sync.WaitGroup
	rest.Go(func() { l.write(c) })
	rest.Go(func() { l.beat(c) })
	l.broke(c, l.read(c), 0)
	rest.Wait()
	return l.detach(c)
}

// broke ends c because of err.
func (l *link) broke(c *carrier, err error, code frame.GoAwayCode) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c.breaks(err, code)
	l.work.Signal()
}

// detach leaves the link without a carrier, for grace at most.
func (l *link) detach(c *carrier) error {
	l.mu.Lock()
	err := c.err
	l.carrier, l.urgent, l.pong, l.ackNow = nil, nil, nil, false
	l.mu.Unlock()
	l.await(err)
	l.s.down(err, isLeaving(err))
	close(c.gone)
	return err
}

// end makes the link carry nothing any more.
func (l *link) end(err error, code frame.GoAwayCode) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.over = true
	if l.carrier != nil {
		l.carrier.breaks(err, code)
	}
	if l.gap != nil {
		l.gap.Stop()
	}
	l.wakeAll()
	l.work.Signal()
}

// leave has the carrier write what is queued, then GOAWAY.
func (l *link) leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.leaving = true
	if l.carrier != nil {
		l.carrier.leaving = true
	}
	if l.gap != nil {
		l.gap.Stop()
	}
	l.wakeAll()
	l.work.Signal()
}

// current returns the carrier, nil in a gap.
func (l *link) current() *carrier {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.carrier
}

// release frees what an ended link kept to be sent.
func (l *link) release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.control, l.data, l.taken, l.ring = nil, nil, nil, ring{}
}
