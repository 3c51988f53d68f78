package loadgen

import (
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// A call is one INVITE, ACK and BYE, or one MESSAGE.
type call struct {
	id       uint64
	callID   string
	from, to string
	started  time.Time
	acked    atomic.Int64 // when, in nanoseconds since started
	done     func(error)
	over     atomic.Bool
}

// callTimes are what callers see, from sending the INVITE on.
type callTimes struct{ ringing, answered, ended Hist }

// newCall makes a call that its receiver finds by the Call-ID.
func (g *Generator) newCall(from, to string, done func(error)) *call {
	c := &call{id: g.next.Add(1), done: done}
	c.callID = string(appendHex([]byte(callPrefix), c.id)) + "@lg"
	c.from = "<sip:" + from + "@" + g.cfg.Domain + ">;tag=f" + strconv.FormatUint(c.id, 36)
	c.to = "<sip:" + to + "@" + g.cfg.Domain + ">"
	s := g.shard(c.id)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls[c.id] = c
	return c
}

// callOf finds the call that a request belongs to, nil if it is none of ours.
func (g *Generator) callOf(m *message) *call {
	id, ok := number(m.callID, callPrefix)
	if !ok {
		return nil
	}
	s := g.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[id]
}

// finish ends the call once.
func (g *Generator) finish(c *call, err error) {
	if !c.over.CompareAndSwap(false, true) {
		return
	}
	s := g.shard(c.id)
	s.mu.Lock()
	delete(s.calls, c.id)
	s.mu.Unlock()
	c.done(err)
}

// dialUp sends the INVITE of a call, and hangs up as soon as it is answered.
func (g *Generator) dialUp(f *flow, c *call, t *callTimes) {
	r := &request{
		method: "INVITE", uri: string(uriOf([]byte(c.to))), from: c.from, to: c.to, callID: c.callID, cseq: 1,
		contact: f.contact(g.cfg.Desk),
		headers: "Supported: outbound, replaces, timer\r\n" + allow, contentType: "application/sdp", body: offer,
	}
	c.started = time.Now()
	err := g.ask(f, r, func(m *message) bool {
		switch {
		case m.status == 100:
			return false
		case m.status < 200:
			t.ringing.Add(time.Since(c.started))
			return false
		case m.status < 300:
			t.answered.Add(time.Since(c.started))
			g.hangUp(f, c, m, t)
			return true
		}
		refusal := *r
		refusal.method, refusal.to, refusal.contact, refusal.headers, refusal.body = "ACK", string(m.to), "", "", ""
		_ = f.write(func(b []byte) []byte { return refusal.appendTo(b, f) })
		g.finish(c, statusError(m.status))
		return true
	})
	if err != nil {
		g.finish(c, err)
	}
}

// hangUp acknowledges the answer m and ends the dialog at once.
func (g *Generator) hangUp(f *flow, c *call, m *message, t *callTimes) {
	var routes strings.Builder
	for i := len(m.routes) - 1; i >= 0; i-- {
		fmt.Fprintf(&routes, "Route: %s\r\n", m.routes[i])
	}
	in := request{
		method: "ACK", uri: string(uriOf(m.contact)), routes: routes.String(), branch: g.next.Add(1),
		from: c.from, to: string(m.to), callID: c.callID, cseq: 1,
	}
	c.acked.Store(int64(time.Since(c.started)))
	if err := f.write(func(b []byte) []byte { return in.appendTo(b, f) }); err != nil {
		g.finish(c, err)
		return
	}
	bye := in
	bye.method, bye.cseq = "BYE", 2
	if err := g.ask(f, &bye, func(m *message) bool {
		if m.status < 200 {
			return false
		}
		t.ended.Add(time.Since(c.started))
		g.finish(c, statusError(m.status))
		return true
	}); err != nil {
		g.finish(c, err)
	}
}

// tell sends a MESSAGE.
func (g *Generator) tell(f *flow, from, to, text string, done func(error)) {
	c := g.newCall(from, to, done)
	c.started = time.Now()
	err := g.ask(f, &request{
		method: "MESSAGE", uri: "sip:" + to + "@" + g.cfg.Domain, from: c.from, to: c.to, callID: c.callID, cseq: 1,
		contentType: "text/plain", body: text,
	}, func(m *message) bool {
		if m.status < 200 {
			return false
		}
		g.finish(c, statusError(m.status))
		return true
	})
	if err != nil {
		g.finish(c, err)
	}
}
