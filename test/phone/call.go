package phone

import (
	"context"
	"errors"
	"fmt"
)

// ErrNotAnswered: Ack or Bye needs a 2xx first.
var ErrNotAnswered = errors.New("phone: the call has no 2xx yet")

// Call sends an INVITE and returns at once; Wait tells what becomes of it. A
// digest challenge is answered on the way.
func (p *Phone) Call(ctx context.Context, to string, headers ...Header) (*Dialog, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	l, err := p.current()
	if err != nil {
		return nil, err
	}
	req := p.Request("INVITE", to)
	p.mu.Lock()
	for _, route := range p.services {
		req.Add("Route", route)
	}
	p.mu.Unlock()
	req.Add("Contact", "<"+p.contactURI(l)+";ob>")
	req.Add("Allow", "INVITE, ACK, CANCEL, BYE, OPTIONS, MESSAGE, NOTIFY, UPDATE, INFO")
	req.Add("Supported", "outbound, gruu")
	req.Add("Content-Type", "application/sdp")
	req.Headers = append(req.Headers, headers...)
	req.Body = []byte(offer)

	d := p.newDialog(req.Get("Call-ID"))
	d.local, d.remote = req.Get("From"), req.Get("To")
	d.cseq, _ = req.CSeq()
	p.mu.Lock()
	p.dialogs[dialogKey(d.callID, tagOf(d.local))] = d
	p.mu.Unlock()
	if err := d.sendInvite(req); err != nil {
		d.end(nil)
		return nil, err
	}
	return d, nil
}

func (d *Dialog) sendInvite(req *Message) error {
	l, err := d.p.current()
	if err != nil {
		return err
	}
	t := &tx{dialog: d}
	branch := "z9hG4bK" + token(8)
	d.p.stamp(l, req, branch)
	d.p.mu.Lock()
	d.invite, d.inviteTx, d.branch = req, t, branch
	d.cseq, _ = req.CSeq()
	d.p.mu.Unlock()
	return d.p.launch(l, req, t)
}

// answered takes a response to the INVITE of t, on the reader's goroutine.
func (d *Dialog) answered(t *tx, m *Message) {
	d.p.mu.Lock()
	retry := challenges(m) && !d.tried && d.p.cfg.Password != "" && t == d.inviteTx
	d.tried = d.tried || retry
	d.p.mu.Unlock()
	if retry {
		next := *t.req
		if err := d.p.authorize(m, &next); err != nil {
			d.fail(err)
		} else if err := d.sendInvite(&next); err != nil {
			d.fail(err)
		}
		return
	}
	complaint := d.record(m)
	if complaint != "" {
		d.p.complain("%s", complaint)
	}
	if m.Status >= 300 {
		d.end(nil)
	}
}

// record keeps a response for Wait and learns the dialog from a 2xx.
func (d *Dialog) record(m *Message) (complaint string) {
	d.p.mu.Lock()
	defer d.p.mu.Unlock()
	first := d.final() == nil
	d.responses = append(d.responses, m)
	if m.Status/100 == 2 && first {
		d.remote = m.Get("To")
		d.target, _ = address(m.Get("Contact"))
		complaint = d.route(m.Values("Record-Route"), true)
		if m.Get("Contact") == "" {
			complaint = "2xx to INVITE without Contact (RFC 3261 §12.1.1)"
		}
	}
	close(d.changed)
	d.changed = make(chan struct{})
	return complaint
}

// final is the final response so far, nil when there is none. d.p.mu is held.
func (d *Dialog) final() *Message {
	for _, m := range d.responses {
		if m.Status >= 200 {
			return m
		}
	}
	return nil
}

func (d *Dialog) fail(err error) {
	d.p.mu.Lock()
	defer d.p.mu.Unlock()
	if d.failed == nil && d.final() == nil {
		d.failed = err
		close(d.changed)
		d.changed = make(chan struct{})
	}
}

// Responses returns what the INVITE was answered with so far, in order,
// challenges left out.
func (d *Dialog) Responses() []*Message {
	d.p.mu.Lock()
	defer d.p.mu.Unlock()
	return append([]*Message(nil), d.responses...)
}

// Wait waits until the INVITE was answered with status; 200 stands for any
// 2xx. A final response that is another one ends it with a *StatusError.
func (d *Dialog) Wait(ctx context.Context, status int) (*Message, error) {
	for {
		d.p.mu.Lock()
		for _, m := range d.responses {
			if m.Status == status || status == 200 && m.Status/100 == 2 {
				d.p.mu.Unlock()
				return m, nil
			}
		}
		final, failed, changed := d.final(), d.failed, d.changed
		d.p.mu.Unlock()
		if final != nil {
			return final, &StatusError{final}
		}
		if failed != nil {
			return nil, failed
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("phone %s: no %d to INVITE %s: %w", d.p.cfg.AOR, status, d.callID, context.Cause(ctx))
		}
	}
}

// Ack acknowledges the 2xx.
func (d *Dialog) Ack() error {
	d.p.mu.Lock()
	m := d.final()
	if m == nil || m.Status >= 300 {
		d.p.mu.Unlock()
		return ErrNotAnswered
	}
	n, _ := m.CSeq()
	ack := d.build("ACK", n)
	d.p.mu.Unlock()
	return d.sendAck(ack)
}

// Answered waits for the 2xx and acknowledges it.
func (d *Dialog) Answered(ctx context.Context) error {
	if _, err := d.Wait(ctx, 200); err != nil {
		return err
	}
	return d.Ack()
}

// Cancel sends CANCEL for the INVITE and returns when it is answered. A UAC
// waits for a provisional response first (RFC 3261 §9.1); that is the test's choice.
func (d *Dialog) Cancel(ctx context.Context, headers ...Header) error {
	d.p.mu.Lock()
	invite, branch := d.invite, d.branch
	d.p.mu.Unlock()
	req := &Message{Method: "CANCEL", URI: invite.URI}
	for _, route := range invite.Values("Route") {
		req.Add("Route", route)
	}
	req.Add("Max-Forwards", "70")
	req.Add("From", invite.Get("From"))
	req.Add("To", invite.Get("To"))
	req.Add("Call-ID", d.callID)
	n, _ := invite.CSeq()
	req.Add("CSeq", fmt.Sprintf("%d CANCEL", n))
	req.Headers = append(req.Headers, headers...)
	t := &tx{final: make(chan *Message, 1)}
	if _, err := d.p.start(req, t, branch); err != nil {
		return err
	}
	resp, err := d.p.await(ctx, t, txKey(branch, "CANCEL"), req.String())
	if err == nil && resp.Status >= 300 {
		err = &StatusError{resp}
	}
	return err
}
