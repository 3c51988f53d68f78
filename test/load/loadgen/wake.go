package loadgen

import (
	"fmt"
	"time"
)

// A Sleep says how phones are woken.
type Sleep struct {
	// Phones are woken one after the other, each Times times. A phone may be
	// woken again at once: the same user within seconds.
	Phones, Times int
	// Known has the phones registered once before they sleep. Else nothing is
	// known of them until they are woken.
	Known bool
	// Push gives the URI parameters of a phone's contact for being pushed, by
	// its user; nil: none.
	Push func(user string) string
	// Leave has a phone unregister after each call, before its flow ends.
	Leave bool
	// Settle is how long after the last phone fell asleep the first is called.
	Settle time.Duration
	// Prefix begins the users' names: those of another measurement are known
	// already.
	Prefix string
}

// wakeTimes are the moments of a woken call.
type wakeTimes struct {
	callTimes
	push, registered, invite, whole Hist
}

// Wake has the PBX call phones that sleep. The push that this causes, said to
// [Generator.Pushed], has the phone connect anew and register; then the call
// reaches it and is answered. Extra counts, as "ghosts", INVITEs that belong to
// no call that waits for the phone.
func (g *Generator) Wake(s Sleep) (*Result, error) {
	g.rest()
	g.push = s.Push
	defer func() { g.push = nil }()
	phones := g.crowd(s.Phones, s.Prefix)
	if s.Known {
		if _, failed := g.open(phones, &Hist{}); failed > 0 {
			return nil, fmt.Errorf("%d phones did not register: %v", failed, g.takeFaults())
		}
		for _, p := range phones {
			p.sleep()
		}
	}
	line, err := g.dial(TCP, g.server.Core, own)
	if err != nil {
		return nil, err
	}
	g.start(line)
	defer line.abort()
	time.Sleep(s.Settle)
	g.takeFaults()
	var t wakeTimes
	var ok, failed, ghosts int64
	from := g.usage()
	for i := range s.Phones * s.Times {
		p := phones[i/s.Times]
		stray, err := g.wake(line, p, s.Leave, &t)
		if ghosts += stray; err != nil {
			failed++
			g.fault("%v", err)
			continue
		}
		ok++
	}
	r := g.result(from, g.usage(), ok, failed, map[string]*Hist{
		"INVITE to push": &t.push, "REGISTER to 200": &t.registered, "REGISTER to INVITE": &t.invite,
		"INVITE to INVITE": &t.whole, "to 200": &t.answered,
	})
	r.Extra["ghosts"] = float64(ghosts)
	return r, nil
}

// wake calls one phone that sleeps and has it come.
func (g *Generator) wake(line *flow, p *phone, leave bool, t *wakeTimes) (ghosts int64, err error) {
	p.invites = make(chan arrival, 64)
	p.came.Store(0)
	late := time.NewTimer(g.cfg.Timeout)
	defer late.Stop()
	ended := make(chan error, 1)
	c := g.newCall(g.cfg.Desk, p.user, func(err error) { ended <- err })
	pushed, forget := g.expect(c.callID)
	defer forget()
	g.dialUp(line, c, &t.callTimes)
	select {
	case at := <-pushed:
		t.push.Add(at.Sub(c.started))
	case err := <-ended:
		return 0, fmt.Errorf("before the push: %w", err)
	case <-late.C:
		return 0, fmt.Errorf("push: %w", errTimeout)
	}
	if err := p.connect(); err != nil {
		return 0, err
	}
	defer p.sleep()
	registering := time.Now()
	if err := p.register(lifetime, func(int) { t.registered.Add(time.Since(registering)) }); err != nil {
		return 0, err
	}
	for came := false; !came; {
		select {
		case in := <-p.invites:
			if came = in.call == c.callID; came {
				t.invite.Add(in.at.Sub(registering))
				t.whole.Add(in.at.Sub(c.started))
			}
		case <-late.C:
			return 0, fmt.Errorf("INVITE: %w", errTimeout)
		}
	}
	select {
	case err = <-ended:
	case <-late.C:
		err = errTimeout
	}
	if leave && err == nil {
		err = p.await(0)
	}
	return p.came.Load() - 1, err
}

// expect has [Generator.Pushed] tell of the push for a call.
func (g *Generator) expect(callID string) (arrived <-chan time.Time, forget func()) {
	c := make(chan time.Time, 1)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.pushes[callID] = c
	return c, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		delete(g.pushes, callID)
	}
}
