package phone

import (
	"strings"
)

// reply builds a response with what RFC 3261 §8.2.6 copies. A tag is added to
// To unless it has one.
func reply(req *Message, status int, reason, tag string) *Message {
	m := &Message{Status: status, Reason: reason}
	for _, via := range req.Lines("Via") {
		m.Add("Via", via)
	}
	to := req.Get("To")
	if tagOf(to) == "" && status > 100 {
		to += ";tag=" + tag
	}
	m.Add("From", req.Get("From"))
	m.Add("To", to)
	m.Add("Call-ID", req.Get("Call-ID"))
	m.Add("CSeq", req.Get("CSeq"))
	return m
}

// handlers answer requests by method; what is not here gets 200 within a
// dialog and 405 outside.
var handlers = map[string]func(*Phone, *line, *Message){
	"INVITE":  (*Phone).onInvite,
	"ACK":     (*Phone).onAck,
	"CANCEL":  (*Phone).onCancel,
	"BYE":     (*Phone).onBye,
	"OPTIONS": (*Phone).onOptions,
	"MESSAGE": (*Phone).onMessage,
	"NOTIFY":  (*Phone).onMessage,
}

func (p *Phone) request(l *line, m *Message) {
	p.mu.Lock()
	p.counts[m.Method]++
	p.mu.Unlock()
	p.inspect(l, m)
	if h, ok := handlers[m.Method]; ok {
		h(p, l, m)
		return
	}
	switch {
	case p.dialogOf(m) != nil:
		p.answer(l, m, 200, "OK")
	case tagOf(m.Get("To")) != "":
		p.answer(l, m, 481, "Call/Transaction Does Not Exist")
	default:
		p.answer(l, m, 405, "Method Not Allowed")
	}
}

func (p *Phone) answer(l *line, m *Message, status int, reason string) {
	_ = l.send(reply(m, status, reason, token(5)).Bytes())
}

// inspect notes what clients trip over in a request to them.
func (p *Phone) inspect(l *line, m *Message) {
	if n := len(m.Values("Via")); n != 1 && p.cfg.Public != "" {
		p.complain("%s with %d Vias: a proxy in front of a client shows its own alone", m.Method, n)
	}
	if strings.Contains(strings.ToLower(m.URI), "pn-") {
		p.complain("%s: push parameters in the R-URI (RFC 8599 §13)", m.Method)
	}
	if tagOf(m.Get("To")) != "" {
		return // within a dialog the host is the one of the connection it began on
	}
	host, _, _ := strings.Cut(m.URI[strings.LastIndexByte(m.URI, '@')+1:], ";")
	if userOf(m.URI) != p.cfg.ContactUser || host != l.host {
		p.complain("%s for %s, our contact is %s", m.Method, m.URI, p.contactURI(l))
	}
}

// dialogOf finds the dialog a request belongs to, nil when there is none.
func (p *Phone) dialogOf(m *Message) *Dialog {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dialogs[dialogKey(m.Get("Call-ID"), tagOf(m.Get("To")))]
}

func (p *Phone) onInvite(l *line, m *Message) {
	if tagOf(m.Get("To")) != "" {
		p.onReinvite(l, m)
		return
	}
	branch := branchOf(m)
	p.mu.Lock()
	if in := p.incoming[branch]; in != nil { // a retransmission
		raw := in.last
		p.mu.Unlock()
		if raw != nil {
			_ = l.send(raw)
		}
		return
	}
	for _, in := range p.incoming {
		if in.CallID() == m.Get("Call-ID") && in.Request.Get("CSeq") == m.Get("CSeq") && tagOf(in.Request.Get("From")) == tagOf(m.Get("From")) {
			p.mu.Unlock()
			p.answer(l, m, 482, "Loop Detected") // merged request, RFC 3261 §8.2.2.2
			return
		}
	}
	in := &Incoming{Request: m, p: p, line: l, tag: token(5), cancelled: make(chan struct{}), ended: make(chan struct{})}
	p.incoming[branch] = in
	p.mu.Unlock()
	select {
	case p.calls <- in:
	default:
		_ = in.Reject(486, "Busy Here")
	}
}

func (p *Phone) onReinvite(l *line, m *Message) {
	d := p.dialogOf(m)
	if d == nil {
		p.answer(l, m, 481, "Call/Transaction Does Not Exist")
		return
	}
	p.mu.Lock()
	if contact := m.Get("Contact"); contact != "" {
		d.target, _ = address(contact)
	}
	p.mu.Unlock()
	ok := reply(m, 200, "OK", "")
	for _, route := range m.Values("Record-Route") {
		ok.Add("Record-Route", route)
	}
	ok.Add("Contact", "<"+p.contactURI(l)+">")
	ok.Add("Content-Type", "application/sdp")
	ok.Body = []byte(offer)
	_ = l.send(ok.Bytes())
	select {
	case d.reinvite <- m:
	default:
	}
}

// onAck ends a refused INVITE's transaction, or confirms a dialog.
func (p *Phone) onAck(_ *line, m *Message) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if in := p.incoming[branchOf(m)]; in != nil && in.status >= 300 {
		delete(p.incoming, branchOf(m))
		in.over()
		return
	}
	if d := p.dialogs[dialogKey(m.Get("Call-ID"), tagOf(m.Get("To")))]; d != nil {
		select {
		case <-d.acked:
		default:
			close(d.acked)
		}
	}
}

func (p *Phone) onCancel(l *line, m *Message) {
	p.mu.Lock()
	in := p.incoming[branchOf(m)]
	late := in != nil && in.status >= 200
	if in != nil && !late {
		in.cancel = m
	}
	p.mu.Unlock()
	if in == nil {
		p.answer(l, m, 481, "Call/Transaction Does Not Exist")
		return
	}
	p.answer(l, m, 200, "OK")
	if !late {
		_ = in.respond(487, "Request Terminated", nil)
		close(in.cancelled)
	}
}

func (p *Phone) onBye(l *line, m *Message) {
	d := p.dialogOf(m)
	if d == nil {
		p.answer(l, m, 481, "Call/Transaction Does Not Exist")
		return
	}
	p.answer(l, m, 200, "OK")
	d.end(m)
}

func (p *Phone) onOptions(l *line, m *Message) { p.answer(l, m, 200, "OK") }

func (p *Phone) onMessage(l *line, m *Message) {
	p.answer(l, m, 200, "OK")
	select {
	case p.messages <- m:
	default:
		p.complain("%s lost: nobody reads Messages", m.Method)
	}
}
