package xmpp

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
)

// read takes what comes down a connection until it ends.
func (c *Client) read(from *conn) {
	for {
		s, err := from.read()
		if err != nil {
			c.mu.Lock()
			if c.conn == from {
				c.err = err
				c.tell()
			}
			c.mu.Unlock()
			return
		}
		c.heard(from, s)
	}
}

// heard counts and hands out one element.
func (c *Client) heard(from *conn, s *Stanza) {
	c.mu.Lock()
	if c.conn != from { // reset meanwhile: as if it had not come
		c.mu.Unlock()
		return
	}
	answer := ""
	switch {
	case s.Is(NSSM, "r"):
		answer = c.count()
	case s.Is(NSSM, "a"):
		if err := c.ack(s.Attrs["h"]); err != nil {
			c.err = err
		}
	default:
		c.deliver(s)
	}
	c.tell()
	c.mu.Unlock()
	switch {
	case answer != "":
		_ = from.write([]byte(answer))
	case s.Name == "iq" && !c.cfg.Mute && (s.Type() == "get" || s.Type() == "set"):
		_ = c.Send(reply(s))
	}
}

// deliver counts and keeps what came. c.mu is held.
func (c *Client) deliver(s *Stanza) {
	if s.IsStanza() && c.counted {
		c.h++
	}
	if c.cfg.Heard == nil || !c.cfg.Heard(s) {
		c.inbox = append(c.inbox, s)
	}
}

// count is the client's acknowledgement. c.mu is held.
func (c *Client) count() string {
	return "<a xmlns='" + NSSM + "' h='" + strconv.FormatUint(uint64(c.h), 10) + "'/>"
}

// reply answers a request as a client does: pings and roster pushes well, what
// it does not know with an error.
func reply(s *Stanza) string {
	to := ""
	if s.From() != "" {
		to = " to='" + escape(s.From()) + "'"
	}
	head := "<iq xmlns='" + NSClient + "'" + to + " id='" + escape(s.ID()) + "' type="
	if s.Child(NSPing, "ping") != nil || s.Child(nsRoster, "query") != nil {
		return head + "'result'/>"
	}
	return head + "'error'><error type='cancel'><service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>"
}

// ack takes the server's count of our stanzas. c.mu is held.
func (c *Client) ack(text string) error {
	h, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return fmt.Errorf("h=%q: %w", text, err)
	}
	n := uint32(h) - c.acked
	if int(n) > len(c.queue) {
		return fmt.Errorf("the server acknowledges %d stanzas of ours, but we sent %d", h, c.acked+uint32(len(c.queue)))
	}
	c.queue, c.acked = slices.Clip(c.queue[n:]), uint32(h)
	return nil
}

// Send sends one stanza. While not connected it is kept for [Client.Resume] if
// there is a session to resume.
func (c *Client) Send(text string) error {
	c.sending.Lock()
	defer c.sending.Unlock()
	c.mu.Lock()
	to := c.conn
	kept := c.counted
	if kept {
		c.queue = append(c.queue, []byte(text))
	}
	c.mu.Unlock()
	if to == nil {
		if kept {
			return nil
		}
		return errors.New("not connected")
	}
	if err := to.write([]byte(text)); err != nil && !kept {
		return err
	}
	return nil
}

// Write sends an element that XEP-0198 does not count, or anything else.
func (c *Client) Write(text string) error {
	c.mu.Lock()
	to := c.conn
	c.mu.Unlock()
	if to == nil {
		return errors.New("not connected")
	}
	return to.write([]byte(text))
}

// Inactive and Active tell the server where the user looks (XEP-0352).
func (c *Client) Inactive() error { return c.Write("<inactive xmlns='" + NSCSI + "'/>") }

// Active is the opposite.
func (c *Client) Active() error { return c.Write("<active xmlns='" + NSCSI + "'/>") }

// Presence sends the client's presence with what is inside it.
func (c *Client) Presence(inside string) error {
	return c.Send("<presence xmlns='" + NSClient + "'>" + inside + "</presence>")
}

// Message sends a chat message with an id of its own and returns that.
func (c *Client) Message(to, body string) (id string, err error) {
	id = NewID()
	return id, c.Send("<message xmlns='" + NSClient + "' to='" + escape(to) + "' type='chat' id='" + id + "'><body>" + escape(body) + "</body></message>")
}

// NewID is an id that no other stanza of the process has.
func NewID() string { return "s" + strconv.FormatUint(lastID.Add(1), 10) }

// Ask sends a request and waits for its answer; to may be "".
func (c *Client) Ask(ctx context.Context, kind, to, inside string) (*Stanza, error) {
	id := NewID()
	if to != "" {
		to = " to='" + escape(to) + "'"
	}
	if err := c.Send("<iq xmlns='" + NSClient + "'" + to + " type='" + kind + "' id='" + id + "'>" + inside + "</iq>"); err != nil {
		return nil, err
	}
	return c.Expect(ctx, "the answer to "+inside, func(s *Stanza) bool {
		return s.Name == "iq" && s.ID() == id && (s.Type() == "result" || s.Type() == "error")
	})
}

// Ping asks the server, so that all that it sent before has come.
func (c *Client) Ping(ctx context.Context) error {
	_, err := c.Ask(ctx, "get", "", "<ping xmlns='"+NSPing+"'/>")
	return err
}

// Carbons switches on copies of the user's other conversations (XEP-0280).
func (c *Client) Carbons(ctx context.Context) error {
	answer, err := c.Ask(ctx, "set", "", "<enable xmlns='"+NSCarbons+"'/>")
	if err == nil && answer.Type() != "result" {
		err = fmt.Errorf("carbons were answered by %s", answer.Raw)
	}
	return err
}

// Expect waits for an element that fits, and takes it. What came earlier and
// did not fit stays for later calls.
func (c *Client) Expect(ctx context.Context, what string, fits func(*Stanza) bool) (*Stanza, error) {
	for {
		c.mu.Lock()
		for i, s := range c.inbox {
			if fits(s) {
				c.inbox = slices.Delete(c.inbox, i, i+1)
				c.mu.Unlock()
				return s, nil
			}
		}
		wake, err := c.changed, c.err
		c.mu.Unlock()
		if err != nil {
			return nil, fmt.Errorf("%s waited for %s: %w", c.cfg.JID, what, err)
		}
		select {
		case <-wake:
		case <-ctx.Done():
			return nil, fmt.Errorf("%s waited for %s: %w; it got %s", c.cfg.JID, what, context.Cause(ctx), c.kept())
		}
	}
}

// kept lists what nobody took, for an error.
func (c *Client) kept() string {
	text := ""
	for _, s := range c.Inbox() {
		text += "\n  " + string(s.Raw)
	}
	return text
}

// Inbox is what came and was not taken, in order.
func (c *Client) Inbox() []*Stanza {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.inbox)
}

// ExpectMessage waits for a message with a body.
func (c *Client) ExpectMessage(ctx context.Context, body string) (*Stanza, error) {
	return c.Expect(ctx, "message "+body, func(s *Stanza) bool { return s.Name == "message" && s.Body() == body })
}

// ExpectShow waits for a presence of a bare or full JID that shows this.
func (c *Client) ExpectShow(ctx context.Context, jid, show string) (*Stanza, error) {
	return c.Expect(ctx, jid+" to be "+show, func(s *Stanza) bool {
		return s.Name == "presence" && s.Type() == "" && s.Show() == show && (s.From() == jid || bare(s.From()) == jid)
	})
}

func bare(jid string) string {
	for i := range len(jid) {
		if jid[i] == '/' {
			return jid[:i]
		}
	}
	return jid
}

// Acked asks the server for its count and waits until it has all we sent.
func (c *Client) Acked(ctx context.Context) error {
	if err := c.Write("<r xmlns='" + NSSM + "'/>"); err != nil {
		return err
	}
	return c.wait(ctx, "the server's acknowledgement", func() bool { return len(c.queue) == 0 })
}

// Ended waits until the other side has ended the connection and returns why.
func (c *Client) Ended(ctx context.Context) error {
	var why error
	err := c.wait(ctx, "the end of the connection", func() bool { why = c.err; return why != nil })
	if why != nil {
		return why
	}
	return err
}

// wait waits until so, which is called with c.mu held.
func (c *Client) wait(ctx context.Context, what string, so func() bool) error {
	for {
		c.mu.Lock()
		done, err, wake := so(), c.err, c.changed
		c.mu.Unlock()
		switch {
		case done:
			return nil
		case err != nil:
			return fmt.Errorf("%s waited for %s: %w", c.cfg.JID, what, err)
		}
		select {
		case <-wake:
		case <-ctx.Done():
			return fmt.Errorf("%s waited for %s: %w", c.cfg.JID, what, context.Cause(ctx))
		}
	}
}

// JID is the full JID that was bound.
func (c *Client) JID() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.jid
}

// SM is the id of the session, "" without one that can be resumed, and the
// number of stanzas that came in it.
func (c *Client) SM() (id string, h uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.smID, c.h
}

// Features are those of the stream after login.
func (c *Client) Features() *Stanza {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.offered
}
