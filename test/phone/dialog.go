package phone

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// offer is a session description that any peer accepts: one audio stream on
// the discard port.
const offer = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 9 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\na=sendrecv\r\n"

// Dialog is one call, from either end. It outlives a connection: after Sleep
// and Connect its requests leave on the new one.
type Dialog struct {
	p      *Phone
	callID string

	// Guarded by p.mu.
	local, remote string // From and To values of requests we send, tags and all
	target        string // remote target (RFC 3261 §12.1)
	routes        []string
	cseq          int
	invite        *Message // our INVITE as sent last, for CANCEL and ACK
	inviteTx      *tx
	branch        string
	tried         bool // a challenge was answered
	responses     []*Message
	failed        error
	changed       chan struct{} // closed and replaced at each change
	ack           []byte        // the ACK of the last 2xx
	ended         bool
	bye           *Message

	done     chan struct{} // closed at BYE from either side
	acked    chan struct{} // closed when the ACK of our 2xx arrived
	reinvite chan *Message
}

func (p *Phone) newDialog(callID string) *Dialog {
	return &Dialog{
		p: p, callID: callID, changed: make(chan struct{}),
		done: make(chan struct{}), acked: make(chan struct{}), reinvite: make(chan *Message, 8),
	}
}

// dialogKey names a dialog by its Call-ID and our tag.
func dialogKey(callID, localTag string) string { return callID + " " + localTag }

// CallID is the dialog's Call-ID.
func (d *Dialog) CallID() string { return d.callID }

// Done is closed when a BYE ended the dialog, from either side.
func (d *Dialog) Done() <-chan struct{} { return d.done }

// Reinvited delivers each re-INVITE of the other side, already answered 200.
func (d *Dialog) Reinvited() <-chan *Message { return d.reinvite }

// Hangup returns the BYE of the other side, nil when there was none.
func (d *Dialog) Hangup() *Message {
	d.p.mu.Lock()
	defer d.p.mu.Unlock()
	return d.bye
}

// WaitAck waits for the ACK of the 2xx this phone answered with.
func (d *Dialog) WaitAck(ctx context.Context) error { return d.wait(ctx, d.acked, "ACK") }

// WaitBye waits for the end of the dialog.
func (d *Dialog) WaitBye(ctx context.Context) error { return d.wait(ctx, d.done, "BYE") }

func (d *Dialog) wait(ctx context.Context, event <-chan struct{}, what string) error {
	select {
	case <-event:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("phone %s: no %s in %s: %w", d.p.cfg.AOR, what, d.callID, context.Cause(ctx))
	}
}

// request builds the next request of the dialog.
func (d *Dialog) request(method string) *Message {
	d.p.mu.Lock()
	defer d.p.mu.Unlock()
	d.cseq++
	return d.build(method, d.cseq)
}

// build is request without a new CSeq, for ACK. d.p.mu is held.
func (d *Dialog) build(method string, cseq int) *Message {
	m := &Message{Method: method, URI: d.target}
	for _, r := range d.routes {
		m.Add("Route", r)
	}
	m.Add("Max-Forwards", "70")
	m.Add("From", d.local)
	m.Add("To", d.remote)
	m.Add("Call-ID", d.callID)
	m.Add("CSeq", fmt.Sprintf("%d %s", cseq, method))
	m.Add("User-Agent", d.p.cfg.UserAgent)
	return m
}

// Do sends a request within the dialog and returns its final response, as
// [Phone.Do] does.
func (d *Dialog) Do(ctx context.Context, method string, body []byte, headers ...Header) (*Message, error) {
	req := d.request(method)
	req.Headers = append(req.Headers, headers...)
	req.Body = body
	resp, err := d.p.Do(ctx, req)
	n, _ := req.CSeq()
	d.p.mu.Lock()
	d.cseq = max(d.cseq, n)
	d.p.mu.Unlock()
	return resp, err
}

// Bye ends the dialog.
func (d *Dialog) Bye(ctx context.Context) error {
	_, err := d.Do(ctx, "BYE", nil)
	d.end(nil)
	return err
}

// Reinvite offers a new session, as for hold or after a change of network, and
// acknowledges the answer.
func (d *Dialog) Reinvite(ctx context.Context) (*Message, error) {
	l, err := d.p.current()
	if err != nil {
		return nil, err
	}
	resp, err := d.Do(ctx, "INVITE", []byte(offer),
		Header{"Contact", "<" + d.p.contactURI(l) + ">"}, Header{"Content-Type", "application/sdp"})
	if resp == nil || resp.Status >= 300 {
		return resp, err
	}
	n, _ := resp.CSeq()
	d.p.mu.Lock()
	if contact := resp.Get("Contact"); contact != "" {
		d.target, _ = address(contact)
	}
	ack := d.build("ACK", n)
	d.p.mu.Unlock()
	return resp, d.sendAck(ack)
}

// sendAck sends the ACK of a 2xx, a transaction of its own that nothing answers.
func (d *Dialog) sendAck(ack *Message) error {
	l, err := d.p.current()
	if err != nil {
		return err
	}
	d.p.stamp(l, ack, "z9hG4bK"+token(8))
	raw := ack.Bytes()
	d.p.mu.Lock()
	d.ack = raw
	d.p.mu.Unlock()
	return l.send(raw)
}

// repeatAck answers a repeated 2xx of this dialog.
func (d *Dialog) repeatAck(m *Message) {
	d.p.mu.Lock()
	mine := m.Get("Call-ID") == d.callID && tagOf(m.Get("From")) == tagOf(d.local)
	raw, l := d.ack, d.p.line
	d.p.mu.Unlock()
	if mine && raw != nil && l != nil {
		_ = l.send(raw)
	}
}

// end closes the dialog; bye is the other side's, if it was that.
func (d *Dialog) end(bye *Message) {
	d.p.mu.Lock()
	defer d.p.mu.Unlock()
	if d.ended {
		return
	}
	d.ended, d.bye = true, bye
	delete(d.p.dialogs, dialogKey(d.callID, tagOf(d.local)))
	close(d.done)
}

// route sets the route set and checks that a client which dials its top Route
// would come back to the server it is connected to. d.p.mu is held.
func (d *Dialog) route(records []string, reversed bool) (complaint string) {
	d.routes = slices.Clone(records)
	if reversed {
		slices.Reverse(d.routes)
	}
	if d.p.cfg.Public == "" {
		return ""
	}
	if len(d.routes) == 0 {
		return "no Record-Route in a dialog: the far contact cannot be reached from outside"
	}
	uri, _ := address(d.routes[0])
	host, params, _ := strings.Cut(strings.TrimPrefix(uri, "sip:"), ";")
	host = host[strings.LastIndexByte(host, '@')+1:]
	if transport, _ := param(params, "transport"); host != d.p.cfg.Public || transport != d.p.cfg.Transport.param() {
		return fmt.Sprintf("top Route %q leads to %s (%s), not to %s (%s)", uri, host, transport, d.p.cfg.Public, d.p.cfg.Transport.param())
	}
	return ""
}
