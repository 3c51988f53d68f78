package loadgen

import (
	"strings"
	"time"
)

// Direction says who sends.
type Direction bool

// The directions.
const (
	In  Direction = true  // from the PBX to phones
	Out Direction = false // from phones to the PBX
)

// Storm has all phones come at once, Busy at a time: TCP, TLS, WebSocket where
// that is the transport, REGISTER. They were there before and were lost.
func (g *Generator) Storm(settle time.Duration) (*Result, error) {
	if err := g.ready(); err != nil {
		return nil, err
	}
	phones := g.phones
	g.rest()
	time.Sleep(settle)
	g.takeFaults()
	var took Hist
	from := g.usage()
	ok, failed := g.open(phones, &took)
	to := g.usage()
	g.phones = phones
	return g.result(from, to, ok, failed, map[string]*Hist{"registered": &took}), nil
}

// Refresh has phones register again, each on its flow.
func (g *Generator) Refresh(l Load) (*Result, error) {
	if err := g.ready(); err != nil {
		return nil, err
	}
	var took Hist
	from, to, ok, failed := g.drive(l, took.Reset, func(i int, done func(error)) {
		p := g.phones[i%len(g.phones)]
		start := time.Now()
		if err := p.register(lifetime, func(status int) {
			took.Add(time.Since(start))
			done(statusError(status))
		}); err != nil {
			done(err)
		}
	})
	return g.result(from, to, ok, failed, map[string]*Hist{"refreshed": &took}), nil
}

// lines are the flows on which the PBX sends.
func (g *Generator) lines(d Direction, n int) (lines []*flow, err error) {
	if err := g.ready(); err != nil || d == Out {
		return nil, err
	}
	for range n {
		f, err := g.dial(TCP, g.server.Core, own)
		if err != nil {
			return nil, err
		}
		lines = append(lines, g.start(f))
	}
	return lines, nil
}

// pair is who sends operation i to whom.
func (g *Generator) pair(i int, lines []*flow) (f *flow, from, to string) {
	p := g.phones[i%len(g.phones)]
	if lines != nil {
		return lines[i%len(lines)], g.cfg.Desk, p.user
	}
	return p.flow, p.user, g.cfg.Desk
}

// Messages has MESSAGE requests of so many bytes sent.
func (g *Generator) Messages(l Load, d Direction, bytes int) (*Result, error) {
	lines, err := g.lines(d, 4)
	if err != nil {
		return nil, err
	}
	text := strings.Repeat("m", bytes)
	from, to, ok, failed := g.drive(l, g.message.Reset, func(i int, done func(error)) {
		f, from, to := g.pair(i, lines)
		g.tell(f, from, to, text, done)
	})
	for _, f := range lines {
		f.abort()
	}
	return g.result(from, to, ok, failed, map[string]*Hist{"one way": &g.message}), nil
}

// Calls has calls made: INVITE, 180, 200, ACK, BYE, 200.
func (g *Generator) Calls(l Load, d Direction) (*Result, error) {
	lines, err := g.lines(d, 4)
	if err != nil {
		return nil, err
	}
	var t callTimes
	reset := func() {
		for _, h := range []*Hist{&g.invite, &g.ack, &t.ringing, &t.answered, &t.ended} {
			h.Reset()
		}
	}
	from, to, ok, failed := g.drive(l, reset, func(i int, done func(error)) {
		f, from, to := g.pair(i, lines)
		g.dialUp(f, g.newCall(from, to, done), &t)
	})
	for _, f := range lines {
		f.abort()
	}
	return g.result(from, to, ok, failed, map[string]*Hist{
		"INVITE one way": &g.invite, "ACK one way": &g.ack, "to 180": &t.ringing, "to 200": &t.answered, "whole call": &t.ended,
	}), nil
}

// Idle has all phones register and then say nothing for the time given, and
// counts what memory each process tree grew by, in bytes for each phone.
func (g *Generator) Idle(settle time.Duration) (*Result, error) {
	before := make(map[string]int64)
	for _, p := range g.server.Watch {
		before[p.Name] = p.Memory()
	}
	from := g.usage()
	if err := g.ready(); err != nil {
		return nil, err
	}
	to := g.usage()
	time.Sleep(settle)
	r := g.result(from, to, int64(len(g.phones)), 0, nil)
	for _, p := range g.server.Watch {
		r.Extra[p.Name] = float64(p.Memory()-before[p.Name]) / float64(len(g.phones))
	}
	return r, nil
}
