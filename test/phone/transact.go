package phone

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// StatusError is a final response other than 2xx.
type StatusError struct{ Response *Message }

func (e *StatusError) Error() string {
	_, method := e.Response.CSeq()
	return fmt.Sprintf("phone: %s answered %s", method, e.Response)
}

// Status returns the SIP status an error carries, 0 when it carries none.
func Status(err error) int {
	var s *StatusError
	if errors.As(err, &s) {
		return s.Response.Status
	}
	return 0
}

// tx is a client transaction: it ends with its final response or its line.
type tx struct {
	line   *line
	req    *Message      // not changed once the transaction is known
	dialog *Dialog       // whose first INVITE this is, nil for others
	final  chan *Message // gets one final response; nil where dialog is set
}

func txKey(branch, method string) string { return branch + " " + method }

// Request returns a request outside a dialog with everything but Via: From is
// the phone's AOR.
func (p *Phone) Request(method, uri string) *Message {
	m := &Message{Method: method, URI: uri}
	m.Add("Max-Forwards", "70")
	m.Add("From", p.from()+";tag="+token(5))
	m.Add("To", "<"+uri+">")
	m.Add("Call-ID", token(10))
	m.Add("CSeq", "1 "+method)
	m.Add("User-Agent", p.cfg.UserAgent)
	m.Headers = append(m.Headers, p.cfg.Headers...)
	return m
}

func (p *Phone) from() string {
	if p.cfg.DisplayName == "" {
		return "<" + p.cfg.AOR + ">"
	}
	return fmt.Sprintf("%q <%s>", p.cfg.DisplayName, p.cfg.AOR)
}

// Do sends a request and returns its final response. It answers a digest
// challenge itself, once more when only the nonce was stale; req.CSeq rises then. The
// error is a *StatusError for a final response other than 2xx, which is returned beside it.
// A Via is added; one that is there already is replaced.
func (p *Phone) Do(ctx context.Context, req *Message) (*Message, error) {
	resp, err := p.once(ctx, req)
	for tries := 0; err == nil && challenges(resp) && p.cfg.Password != ""; tries++ {
		if tries == 1 && !stale(resp) || tries > 1 {
			break
		}
		if err := p.authorize(resp, req); err != nil {
			return resp, err
		}
		resp, err = p.once(ctx, req)
	}
	if err == nil && resp.Status >= 300 {
		err = &StatusError{resp}
	}
	return resp, err
}

func challenges(m *Message) bool { return m.Status == 401 || m.Status == 407 }

// authorize makes req the next try after a challenge.
func (p *Phone) authorize(challenged, req *Message) error {
	h, err := authorization(challenged, req, p.cfg.AuthUser, p.cfg.Password)
	if err != nil {
		return err
	}
	n, _ := req.CSeq()
	req.Set("CSeq", fmt.Sprintf("%d %s", n+1, req.Method))
	req.Set(h.Name, h.Value)
	return nil
}

// Once is Do without an answer to challenges: a 401 comes back as it is.
func (p *Phone) Once(ctx context.Context, req *Message) (*Message, error) { return p.once(ctx, req) }

func (p *Phone) once(ctx context.Context, req *Message) (*Message, error) {
	t := &tx{final: make(chan *Message, 1)}
	branch, err := p.start(req, t, "")
	if err != nil {
		return nil, err
	}
	return p.await(ctx, t, txKey(branch, req.Method), req.String())
}

// start sends req as the transaction t. An empty branch makes a new one.
func (p *Phone) start(req *Message, t *tx, branch string) (string, error) {
	l, err := p.current()
	if err != nil {
		return "", err
	}
	defaultTo(&branch, "z9hG4bK"+token(8))
	p.stamp(l, req, branch)
	return branch, p.launch(l, req, t)
}

// stamp makes our Via the only one.
func (p *Phone) stamp(l *line, req *Message, branch string) {
	headers := []Header{{"Via", fmt.Sprintf("SIP/2.0/%s %s;branch=%s;rport", p.cfg.Transport.via(), l.host, branch)}}
	for _, h := range req.Headers {
		if !sameHeader(h.Name, "Via") {
			headers = append(headers, h)
		}
	}
	req.Headers = headers
}

// launch makes t known and sends its stamped request.
func (p *Phone) launch(l *line, req *Message, t *tx) error {
	t.line, t.req = l, req
	p.mu.Lock()
	p.txs[txKey(branchOf(req), req.Method)] = t
	p.mu.Unlock()
	return l.send(req.Bytes())
}

func (p *Phone) await(ctx context.Context, t *tx, key, what string) (*Message, error) {
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.txs[key] == t {
			delete(p.txs, key)
		}
	}()
	select {
	case resp := <-t.final:
		return resp, nil
	case <-t.line.done:
		select { // the answer may have been the last thing it said
		case resp := <-t.final:
			return resp, nil
		default:
			return nil, fmt.Errorf("%s: %w", what, ErrLineGone)
		}
	case <-ctx.Done():
		return nil, fmt.Errorf("phone %s: %s: no final response: %w", p.cfg.AOR, what, context.Cause(ctx))
	}
}

// Write sends bytes as they are.
func (p *Phone) Write(raw []byte) error {
	l, err := p.current()
	if err != nil {
		return err
	}
	return l.send(slices.Clone(raw))
}

// SendRaw sends a request byte for byte and returns the final response to its
// topmost Via's branch and method, whatever that response says.
func (p *Phone) SendRaw(ctx context.Context, raw []byte) (*Message, error) {
	m, err := parse(raw)
	if err != nil {
		return nil, err
	}
	l, err := p.current()
	if err != nil {
		return nil, err
	}
	t := &tx{line: l, req: m, final: make(chan *Message, 1)}
	key := txKey(branchOf(m), m.Method)
	p.mu.Lock()
	p.txs[key] = t
	p.mu.Unlock()
	if err := l.send(slices.Clone(raw)); err != nil {
		return nil, err
	}
	return p.await(ctx, t, key, m.String())
}

// response hands a response to its transaction.
func (p *Phone) response(m *Message) {
	if vias := m.Values("Via"); len(vias) != 1 {
		p.complain("response %s with %d Vias dropped, as JsSIP drops it (RFC 3261 §8.1.3.3)", m, len(vias))
		return
	}
	_, method := m.CSeq()
	key := txKey(branchOf(m), method)
	p.mu.Lock()
	t := p.txs[key]
	if t != nil && m.Status >= 200 {
		delete(p.txs, key)
	}
	p.mu.Unlock()
	if t == nil {
		p.strayResponse(m)
		return
	}
	if m.Status >= 300 && method == "INVITE" {
		_ = t.line.send(ackFailure(t.req, m).Bytes())
	}
	if t.dialog != nil {
		t.dialog.answered(t, m)
	} else if m.Status >= 200 {
		t.final <- m // has room: a transaction gets one final response
	}
}

// ackFailure acknowledges a final response of 300 and above, within the
// transaction of its INVITE (RFC 3261 §17.1.1.3).
func ackFailure(invite, m *Message) *Message {
	ack := &Message{Method: "ACK", URI: invite.URI}
	ack.Add("Via", invite.Get("Via"))
	for _, route := range invite.Values("Route") {
		ack.Add("Route", route)
	}
	ack.Add("Max-Forwards", "70")
	ack.Add("From", invite.Get("From"))
	ack.Add("To", m.Get("To"))
	ack.Add("Call-ID", invite.Get("Call-ID"))
	n, _ := invite.CSeq()
	ack.Add("CSeq", fmt.Sprintf("%d ACK", n))
	return ack
}

// strayResponse sends the ACK again when a 2xx is repeated (RFC 3261 §13.2.2.4).
func (p *Phone) strayResponse(m *Message) {
	if _, method := m.CSeq(); method != "INVITE" || m.Status/100 != 2 {
		return
	}
	p.mu.Lock()
	all := slices.Collect(maps.Values(p.dialogs))
	p.mu.Unlock()
	for _, d := range all {
		d.repeatAck(m)
	}
}

// Options asks uri for its abilities and returns the final response.
func (p *Phone) Options(ctx context.Context, uri string, headers ...Header) (*Message, error) {
	req := p.Request("OPTIONS", uri)
	req.Headers = append(req.Headers, headers...)
	return p.Do(ctx, req)
}

// Message sends a text (RFC 3428) and returns the final response.
func (p *Phone) Message(ctx context.Context, to, text string) (*Message, error) {
	req := p.Request("MESSAGE", to)
	req.Add("Content-Type", "text/plain")
	req.Body = []byte(text)
	return p.Do(ctx, req)
}
