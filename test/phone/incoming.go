package phone

import (
	"context"
	"errors"
	"fmt"
)

// ErrCancelled: the caller gave up before this phone answered.
var ErrCancelled = errors.New("phone: call was cancelled")

// Incoming is an INVITE that rings here and is not answered yet.
type Incoming struct {
	// Request is the INVITE as it arrived; Request.Raw has its bytes.
	Request *Message

	// Static.
	p    *Phone
	line *line
	tag  string

	// Guarded by p.mu.
	last   []byte // the response sent last, for retransmissions
	status int    // of the last response
	cancel *Message
	closed bool

	cancelled chan struct{}
	ended     chan struct{}
}

// Cancelled is closed when the caller's CANCEL arrived; the phone has then
// answered 200 to it and 487 to the INVITE.
func (in *Incoming) Cancelled() <-chan struct{} { return in.cancelled }

// Ended is closed when the INVITE can no longer be answered: refused and
// acknowledged, cancelled, or its connection gone.
func (in *Incoming) Ended() <-chan struct{} { return in.ended }

// Reason is the Reason header of the CANCEL (RFC 3326), "" without one.
func (in *Incoming) Reason() string {
	in.p.mu.Lock()
	defer in.p.mu.Unlock()
	if in.cancel == nil {
		return ""
	}
	return in.cancel.Get("Reason")
}

// CallID is the call's Call-ID, which a push for it carries too.
func (in *Incoming) CallID() string { return in.Request.Get("Call-ID") }

// WaitCancel waits for the caller to give up.
func (in *Incoming) WaitCancel(ctx context.Context) error {
	select {
	case <-in.cancelled:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("phone %s: no CANCEL in %s: %w", in.p.cfg.AOR, in.CallID(), context.Cause(ctx))
	}
}

// over marks the end. p.mu is held.
func (in *Incoming) over() {
	if !in.closed {
		in.closed = true
		close(in.ended)
	}
}

// Ring answers 180.
func (in *Incoming) Ring() error { return in.Provisional(180, "Ringing") }

// Provisional answers any 1xx.
func (in *Incoming) Provisional(status int, reason string, headers ...Header) error {
	return in.respond(status, reason, nil, headers...)
}

// Reject answers a status of 300 and above.
func (in *Incoming) Reject(status int, reason string) error {
	return in.respond(status, reason, nil)
}

// respond sends a response unless a final one has left already.
func (in *Incoming) respond(status int, reason string, body []byte, headers ...Header) error {
	m := reply(in.Request, status, reason, in.tag)
	if status > 100 && status < 300 {
		for _, route := range in.Request.Values("Record-Route") {
			m.Add("Record-Route", route)
		}
		m.Add("Contact", "<"+in.p.contactURI(in.line)+">")
	}
	m.Headers = append(m.Headers, headers...)
	m.Body = body
	raw := m.Bytes()
	in.p.mu.Lock()
	defer in.p.mu.Unlock()
	switch {
	case in.cancel != nil && status != 487:
		return ErrCancelled
	case in.closed:
		return ErrLineGone
	case in.status >= 200:
		return fmt.Errorf("phone: INVITE %s is answered already with %d", in.CallID(), in.status)
	}
	in.last, in.status = raw, status
	return in.line.send(raw)
}

// Answer answers 200 and returns the dialog; its WaitAck tells when the caller
// has heard it.
func (in *Incoming) Answer() (*Dialog, error) {
	d := in.p.newDialog(in.CallID())
	in.p.mu.Lock()
	d.local = in.Request.Get("To") + ";tag=" + in.tag
	d.remote = in.Request.Get("From")
	d.target, _ = address(in.Request.Get("Contact"))
	d.cseq = 1
	complaint := d.route(in.Request.Values("Record-Route"), false)
	in.p.dialogs[dialogKey(d.callID, in.tag)] = d
	in.p.mu.Unlock()
	if complaint != "" {
		in.p.complain("%s", complaint)
	}
	if err := in.respond(200, "OK", []byte(offer), Header{"Content-Type", "application/sdp"}); err != nil {
		d.end(nil)
		return nil, err
	}
	return d, nil
}
