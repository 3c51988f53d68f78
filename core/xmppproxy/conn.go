package xmppproxy

import (
	"sync"
	"time"

	"sallyport/core/downstream"
	"sallyport/core/stanza"
	"sallyport/tunnel"
)

// maxLoginElement is how long an element may be before its client has logged
// in; tickets of Kerberos are the longest.
const maxLoginElement = 64 << 10

// elementWithin is how long an element may take from its first byte to its last
// once its client has logged in; before, the login's own time counts.
const elementWithin = 2 * time.Minute

// conn is a client's flow as elements, in and out. It holds no buffer between
// elements.
type conn struct {
	// Static after newConn.
	p      *Proxy
	flow   *downstream.Flow
	frames bool // a WebSocket: each element is a message (RFC 7395)
	out    outbox

	// Owned by the flow's worker.
	cutter *stanza.Cutter
	raw    []byte // the element that is looked at, portable
	parts  []byte // the beginning of a WebSocket's message
	ended  bool   // nothing is read any more

	mu     sync.Mutex
	fresh  *stanza.Cutter // guarded by mu: reads on in place of cutter
	login  *login         // guarded by mu: takes the elements…
	line   *line          // guarded by mu: …and then this
	closed bool           // guarded by mu: the flow is gone, or given up
	headed bool           // guarded by mu: our header was sent
	held   bool           // guarded by mu: its server does not keep up
	began  time.Time      // guarded by mu: when the element began that is not whole yet, zero for none
}

func newConn(p *Proxy, f *downstream.Flow) *conn {
	c := &conn{p: p, flow: f, frames: f.Info().Transport == "wss"}
	c.out.flow, c.out.p, c.out.frames = f, p, c.frames
	c.cutter = c.newCutter(maxLoginElement)
	return c
}

func (c *conn) newCutter(most int) *stanza.Cutter {
	l := stanza.Limits{MaxElement: most}
	if c.frames {
		return stanza.NewFrames(l)
	}
	return stanza.New(l)
}

// restart has what comes next read as a new stream, as after a login.
func (c *conn) restart() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fresh, c.headed = c.newCutter(stanza.DefaultMaxElement), false
}

func (c *conn) lineOf() *line {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.line
}

// part keeps a piece of a WebSocket's message.
func (c *conn) part(p []byte) {
	if c.ended {
		return
	}
	if c.parts = append(c.parts, p...); len(c.parts) > stanza.DefaultMaxElement {
		c.ended, c.parts = true, nil
		c.fail("policy-violation", tunnel.ClosePolicy)
		return
	}
	c.unfinished(true, false)
}

// unfinished notes whether there is an element that is not whole yet, and
// whether it has only just begun.
func (c *conn) unfinished(v, anew bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case !v:
		c.began = time.Time{}
		return
	case anew || c.began.IsZero():
		c.began = time.Now()
	}
	c.watch()
}

// watch has the agenda look whether the element becomes whole in time. c.mu is
// held.
func (c *conn) watch() {
	if c.line != nil && !c.closed && !c.began.IsZero() {
		c.p.agenda.at(c, c.began.Add(elementWithin))
	}
}

// message reads what came on the flow.
func (c *conn) message(p []byte) {
	if c.ended {
		return
	}
	if c.parts != nil {
		p = append(c.parts, p...)
		c.parts = nil
	}
	c.mu.Lock()
	if c.fresh != nil {
		c.cutter, c.fresh = c.fresh, nil
	}
	l := c.line
	c.mu.Unlock()
	if c.frames && blank(p) {
		p = nil
	}
	if len(p) > 0 {
		c.cutter.Feed(p)
	}
	took := false
	for len(p) > 0 && !c.ended {
		kind, e, err := c.cutter.Next()
		switch {
		case err != nil:
			c.ended = true
			c.fail(stanza.Condition(err), tunnel.CloseProtocol)
			return
		case kind == stanza.NeedMore:
			p = nil
		default:
			took = true
			c.element(c.kindOf(kind, e), e)
		}
	}
	if !c.ended {
		c.unfinished(c.cutter.Unfinished(), took)
	}
	if l != nil && !took { // white space, or a part of an element
		l.heard(c)
	}
}

// kindOf says what an element of a WebSocket stands for.
func (c *conn) kindOf(kind stanza.Kind, e *stanza.Element) stanza.Kind {
	switch {
	case !c.frames || kind != stanza.Whole:
	case e.Is(stanza.NSFraming, "open"):
		return stanza.Header
	case e.Is(stanza.NSFraming, "close"):
		return stanza.End
	}
	return kind
}

// element gives an element to whom it is for.
func (c *conn) element(kind stanza.Kind, e *stanza.Element) {
	if kind == stanza.Whole {
		c.raw = e.AppendPortable(c.raw[:0])
		e.Raw = c.raw
	}
	c.mu.Lock()
	l, wrong := c.line, ""
	if l == nil && !c.closed {
		wrong = c.toLogin(kind, e)
	}
	c.mu.Unlock()
	switch {
	case wrong != "":
		c.ended = true
		c.fail(wrong, tunnel.ClosePolicy)
	case l != nil:
		l.fromClient(c, kind, e)
	}
	if cap(c.raw) > 4<<10 {
		c.raw = nil
	}
}

// toLogin gives an element to the login, which the first header begins. It
// returns the stream error it deserves instead. c.mu is held.
func (c *conn) toLogin(kind stanza.Kind, e *stanza.Element) (wrong string) {
	switch {
	case c.login != nil:
		return c.login.take(kind, e)
	case c.headed: // the flow is being given up
		return ""
	case kind == stanza.Header:
		return c.startLogin(e)
	default: // on a WebSocket
		return "invalid-namespace"
	}
}

// attach has the elements go to a line from now on. What came meanwhile is
// handed over first.
func (c *conn) attach(l *line) {
	for {
		c.mu.Lock()
		early, gone := c.login.rest(), c.closed
		if len(early) == 0 || gone {
			if c.login = nil; !gone {
				c.line = l
				c.watch()
			}
			c.mu.Unlock()
			if gone {
				l.clientLost(c)
			}
			return
		}
		c.mu.Unlock()
		for i := range early {
			early[i].give(c, l)
		}
	}
}

// leave takes the line away from a flow that it has given up.
func (c *conn) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.line = nil
}

// header sends the header of our stream.
func (c *conn) header(s stanza.Stream) {
	c.mu.Lock()
	c.headed = true
	c.mu.Unlock()
	if c.frames {
		c.out.frame(s.AppendOpen(nil))
	} else {
		c.out.send(s.AppendHeader(nil))
	}
}

const nsStreamErrors = "urn:ietf:params:xml:ns:xmpp-streams"

// streamError is the text of an error of RFC 6120 §4.9.3.
func streamError(condition string) []byte {
	return []byte("<stream:error><" + condition + " xmlns='" + nsStreamErrors + "'/></stream:error>")
}

// fail ends the stream with an error.
func (c *conn) fail(condition string, code tunnel.CloseCode) {
	if condition == "" {
		condition = "undefined-condition"
	}
	c.p.metrics.failed(condition)
	c.end(streamError(condition), code)
	c.lost()
}

// end sends an error, if there is one, and the end of the stream, and closes
// the flow.
func (c *conn) end(streamErr []byte, code tunnel.CloseCode) {
	c.mu.Lock()
	closed, headed := c.closed, c.headed
	c.closed = true
	c.mu.Unlock()
	if closed {
		return
	}
	if !headed { // an error needs a stream (RFC 6120 §4.9.1.2)
		c.header(stanza.Stream{Version: "1.0"})
	}
	if streamErr != nil {
		c.out.send(streamErr)
	}
	if c.frames {
		c.out.frame([]byte(stanza.FrameEnd))
	} else {
		c.out.send([]byte(stanza.StreamEnd))
	}
	c.out.flush()
	c.close(code)
}

// drop closes the flow without an end of the stream, so that the client
// resumes.
func (c *conn) drop(code tunnel.CloseCode) {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.close(code)
}

func (c *conn) close(code tunnel.CloseCode) {
	c.out.stop()
	c.flow.Close(code, "")
}

// lost is told that the flow is over. It may be called more than once.
func (c *conn) lost() {
	c.out.stop()
	c.p.agenda.forget(c)
	c.mu.Lock()
	l, in := c.line, c.login
	c.closed, c.line = true, nil
	c.mu.Unlock()
	if in != nil {
		in.cancel()
	}
	if l != nil {
		l.clientLost(c)
	}
}

// tick ends a flow whose login, or an element of which, takes too long.
func (c *conn) tick(now time.Time) (again time.Time) {
	c.mu.Lock()
	late := false
	switch end := c.began.Add(elementWithin); {
	case c.closed:
	case c.line == nil:
		late = true
	case c.began.IsZero():
	case c.held: // it is us who keep it
		again = now.Add(elementWithin)
	case now.Before(end):
		again = end
	default:
		late = true
	}
	c.mu.Unlock()
	if late {
		c.fail("connection-timeout", tunnel.ClosePolicy)
	}
	return again
}

func blank(p []byte) bool {
	for _, b := range p {
		if b != ' ' && b != '\n' && b != '\r' && b != '\t' {
			return false
		}
	}
	return true
}

// retryHeld is how often it is looked whether a server keeps up again.
const retryHeld = 50 * time.Millisecond

// holdUp has the client wait until its server keeps up, or the flow is over.
func (c *conn) holdUp(up Stream) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.held || c.closed {
		return
	}
	c.held = true
	c.flow.Hold(true)
	c.p.work.Go(func() {
		tick := time.NewTicker(retryHeld)
		defer tick.Stop()
		for up.Queued() > lowWater && c.isHeld() {
			select {
			case <-tick.C:
			case <-c.p.life.Done():
				return
			}
		}
		c.mu.Lock()
		if c.held = false; !c.began.IsZero() {
			c.began = time.Now()
		}
		c.flow.Hold(false) // before anybody holds it up again
		c.mu.Unlock()
	})
}

func (c *conn) isHeld() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.held && !c.closed
}
