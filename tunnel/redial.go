package tunnel

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"sallyport/tunnel/frame"
)

// A core dials the first link of a session, and when the edge knows it, the
// others; later, each that broke. Only the first HELLO of a session makes one:
// the others say that they belong to it, so that neither end ever makes half
// a session of a connection that came late.

// begin dials e and makes a new session of it. Its first carrier is attached,
// and yet to be carried.
func (d *Dialer) begin(ctx context.Context, e *remote) (*session, *carrier, error) {
	var own frame.Hello
	id, links := randomID(), d.links()
	c, err := d.connect(ctx, e, func() frame.Hello {
		own = d.introduce()
		own.Session, own.Links = id, uint8(links)
		return own
	})
	if err != nil {
		return nil, nil, err
	}
	s := newSession(d.t, c, id, agree(own, c.hello), d.metrics, d.budget)
	s.accept = d.cfg.Open
	if err := s.links[0].attach(c); err != nil {
		_ = c.conn.Close()
		return nil, nil, err
	}
	d.admit(e, s)
	return s, c, nil
}

// carryAll keeps every link of s carried until s ends, which ctx makes it do.
// When it returns, no handler is called any more.
func (d *Dialer) carryAll(ctx context.Context, e *remote, s *session, first *carrier) {
	dialing, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, s.leave)
	defer stop()
	var all sync.WaitGroup
	all.Go(func() { d.hold(dialing, e, s.links[0], first) })
	for _, l := range s.links[1:] {
		all.Go(func() { d.hold(dialing, e, l, nil) })
	}
	<-s.done
	cancel()
	all.Wait()
	s.settle()
}

// shortLived is a carrier after which the next is not dialled at once.
const shortLived = time.Second

// hold carries l over c, and over new connections whenever one breaks, until
// its session ends.
func (d *Dialer) hold(ctx context.Context, e *remote, l *link, c *carrier) {
	for failures := 0; ; {
		if c != nil {
			err := l.carry(c)
			failures = 0
			if time.Since(c.start) < shortLived {
				failures = 1
			}
			if l.s.cause() == nil {
				d.t.log.Warn("tunnel link broke", "edge", e.addr, "link", l.number, "err", err)
			}
		}
		if failures > 0 {
			pause := time.NewTimer(backoff(failures - 1))
			select {
			case <-pause.C:
			case <-ctx.Done():
				pause.Stop()
			}
		}
		if ctx.Err() != nil || l.s.cause() != nil {
			return
		}
		var err error
		if c, err = d.rejoin(ctx, e, l); err != nil {
			failures++
			d.t.log.Debug("tunnel link not up", "edge", e.addr, "link", l.number, "err", err)
		}
	}
}

// rejoin gives l, which has none, a new carrier, or ends the session if the
// edge does not know it any more.
func (d *Dialer) rejoin(ctx context.Context, e *remote, l *link) (*carrier, error) {
	l.joining.Lock()
	defer l.joining.Unlock()
	s := l.s
	c, err := d.connect(ctx, e, func() frame.Hello {
		own := d.introduce()
		own.Session, own.Resume, own.RxOffset = s.id, true, l.rx.Load()
		own.Link, own.Links = uint8(l.number), uint8(len(s.links))
		return own
	})
	var away *goAway
	var no *refusal
	if errors.As(err, &away) && away.code != frame.GoAwayDead || errors.As(err, &no) {
		s.fail(fmt.Errorf("%w: %w", errReset, err), 0)
	}
	if err != nil {
		return nil, err
	}
	if h := c.hello; h.Boot != s.peer.Boot || h.Session != s.id || h.Features&frame.FeatureResume == 0 {
		err = fmt.Errorf("%w: the edge is not the one it was", errReset)
	} else {
		err = l.attach(c)
	}
	if err != nil {
		c.refuse(&refusal{frame.GoAwayReset, "reset", err.Error()})
		s.fail(err, frame.GoAwayReset)
		return nil, err
	}
	d.mu.Lock()
	draining := d.draining
	d.mu.Unlock()
	if draining { // whatever HELLO said: the edge answers this
		s.drain(0)
	}
	d.t.log.Info("tunnel link up", "edge", e.addr, "link", l.number, "resumed", c.resumed)
	return c, nil
}
