package flow

import (
	"context"
	"errors"
	"time"

	"sallyport/edge/alarm"
	"sallyport/edge/transport"
)

// hear notes a sign of life. The first CRLF keep-alive on a stream puts the
// flow under the rule of RFC 5626 §4.4.1, that there will be more of them.
func (f *Flow) hear(keepAlive bool) {
	f.mu.Lock()
	f.heard = time.Now()
	f.missed = 0
	changed := f.silent
	f.silent = false
	if kinds[f.kind].crlf && (keepAlive || f.ruled) && !f.watching {
		f.watchIn(f.quietFor())
	}
	f.mu.Unlock()
	if changed {
		f.tellSilent()
	}
}

// tellSilent tells the owner whether the flow is silent, if it was told
// otherwise last.
func (f *Flow) tellSilent() {
	f.tell.Lock()
	defer f.tell.Unlock()
	f.mu.Lock()
	silent, over := f.silent, f.ended
	f.mu.Unlock()
	if !over && silent != f.told {
		f.told = silent
		f.owner.Silent(silent)
	}
}

// quietFor is how long a client with keep-alives may say nothing.
func (f *Flow) quietFor() time.Duration { return f.table.cfg.FlowTimer + flowTimerSlack }

// watchIn has Run look after d, unless the flow ends first. f.mu is held.
func (f *Flow) watchIn(d time.Duration) {
	if f.ended {
		return
	}
	f.watching, f.ruled = true, true
	f.table.clock.Set((*watch)(f), time.Now().Add(d))
}

// watch is the side of a flow that looks for signs of life when its alarm
// rings.
type watch Flow

// Alarm is the flow's place on the table's clock.
func (w *watch) Alarm() *alarm.Alarm { return &w.alarm }

// Ring has Run look, behind the back of the clock.
func (w *watch) Ring() { w.conn.Go(w) }

// Run looks.
func (w *watch) Run() {
	f := (*Flow)(w)
	f.mu.Lock()
	if f.ended {
		f.mu.Unlock()
		return
	}
	f.table.running.Add(1)
	defer f.table.running.Done()
	if kinds[f.kind].pinged {
		f.mu.Unlock()
		f.ping()
		return
	}
	f.watching = false
	quiet := time.Since(f.heard)
	if left := f.quietFor() - quiet; left > 0 {
		f.watchIn(left)
		f.mu.Unlock()
		return
	}
	f.silent = true
	f.mu.Unlock()
	f.tellSilent()
}

// ping asks once and judges the answer: a missed one makes the flow silent,
// another in a row ends it.
func (f *Flow) ping() {
	ctx, cancel := context.WithTimeout(f.ctx, f.table.cfg.PongTimeout)
	defer cancel()
	start := time.Now()
	err := f.conn.Ping(ctx)
	f.mu.Lock()
	lost := false
	switch {
	case f.ended || errors.Is(err, transport.ErrNoPing):
		f.mu.Unlock()
		return
	case err != nil && !f.heard.After(start):
		f.missed++
		lost = f.missed >= maxMissed
		f.silent = true
	}
	f.watchIn(max(f.table.cfg.WSPing-time.Since(start), 0))
	f.mu.Unlock()
	if lost {
		f.End(transport.KeepaliveLost, "no pong")
		return
	}
	f.tellSilent()
}
