package sipproxy

import (
	"strconv"
	"strings"

	"github.com/emiago/sipgo/sip"

	"sallyport/core/downstream"
	"sallyport/core/sipmsg"
	"sallyport/core/upstream"
	"sallyport/tunnel"
)

// allowed are the methods that we answer for in OPTIONS.
const allowed = "INVITE, ACK, CANCEL, BYE, OPTIONS, REGISTER, MESSAGE, SUBSCRIBE, NOTIFY, REFER, INFO, UPDATE, PRACK, PUBLISH"

// Message implements downstream.Handler.
func (p *Proxy) Message(f *downstream.Flow, raw []byte) {
	pe, ok := f.User().(*peer)
	if !ok {
		return
	}
	p.receive(pe, raw)
}

// Upstream returns p as the handler of PBX connections.
func (p *Proxy) Upstream() upstream.Handler { return pbxSide{p} }

type pbxSide struct{ p *Proxy }

func (s pbxSide) Message(c *upstream.Conn, raw []byte) { s.p.receive(s.p.upPeer(c), raw) }

func (s pbxSide) Closed(c *upstream.Conn) {
	s.p.upMu.Lock()
	pe := s.p.ups[c]
	delete(s.p.ups, c)
	s.p.upMu.Unlock()
	if pe != nil {
		pe.txs.lose(pe)
	}
}

// receive parses, matches and dispatches one message of a hop, in order.
func (p *Proxy) receive(from *peer, raw []byte) {
	m, fault := sipmsg.Parse(raw)
	if m == nil {
		p.m.invalid.Inc()
		p.log.Info("message refused", "flow", from.name(), "fault", fault)
		if fault != nil && fault.Close && from.client() {
			from.flow.Close(tunnel.CloseProtocol, "not SIP")
		}
		return
	}
	switch m := m.(type) {
	case *sip.Response:
		if fault == nil && (from.client() || from.up.Trusted()) {
			from.txs.receive(m)
		}
	case *sip.Request:
		m.SetTransport(from.via)
		if from.client() {
			p.noteClientState(from, m)
		}
		p.requestFrom(from, m, fault)
	}
	if from.client() {
		p.attentive(from)
	}
}

// requestFrom takes one request through the checks of RFC 3261 §16.3, in that
// order, to the room of its method.
func (p *Proxy) requestFrom(from *peer, req *sip.Request, fault *sipmsg.Fault) {
	if !from.client() && !from.up.Trusted() {
		p.refuseStranger(from, req)
		return
	}
	switch {
	case req.IsAck():
		if fault == nil {
			p.ack(from, req)
		}
		return
	case req.IsCancel():
		if fault == nil {
			p.cancelRequest(from, req)
		}
		return
	}
	sipmsg.SetReceived(req, from.remote())
	st := p.accept(from, req)
	if st == nil {
		return
	}
	if p.ctx.Err() != nil { // we are leaving
		st.reply(503, "")
		return
	}
	if fault != nil {
		p.m.invalid.Inc()
		p.log.Info("request refused", "flow", from.name(), "method", string(req.Method), "fault", fault)
		st.reply(fault.Status, fault.Reason)
		return
	}
	if p.refused(st) {
		return
	}
	if from.client() {
		p.fromClient(st)
	} else {
		p.fromPBX(st)
	}
	st.watch()
}

// refused answers what no proxy forwards.
func (p *Proxy) refused(st *serverTx) bool {
	req := st.req
	if n, err := strconv.Atoi(headerValue(req, "Max-Forwards")); err == nil && n <= 0 {
		if req.Method == sip.OPTIONS { // a trace of the way: we are its end (RFC 3261 §11)
			p.able(st)
			return true
		}
		st.reply(483, "")
		return true
	}
	if p.looped(req) {
		st.reply(482, "")
		return true
	}
	if need := sipmsg.All(req, "Proxy-Require"); len(need) > 0 {
		var extra []sip.Header
		for _, h := range need {
			extra = append(extra, sip.NewHeader("Unsupported", h.Value()))
		}
		st.reply(420, "", extra...)
		return true
	}
	return false
}

// able answers OPTIONS for us, or for a device that is not asked itself.
func (p *Proxy) able(st *serverTx) {
	st.reply(200, "", sip.NewHeader("Allow", allowed), sip.NewHeader("Accept", "application/sdp"))
}

// refuseStranger answers a request from an address that may send none
// (decision 10): 403 on TCP, nothing on UDP.
func (p *Proxy) refuseStranger(from *peer, req *sip.Request) {
	p.m.strangers.Inc()
	if from.via == "UDP" || req.IsAck() {
		return
	}
	_ = from.WriteMsg(sipmsg.Response(req, 403, ""))
}

// noteClientState reads Client-State, on any request of a client.
func (p *Proxy) noteClientState(from *peer, req *sip.Request) {
	switch v := headerValue(req, headerClientState); {
	case strings.EqualFold(v, "inactive"):
		from.flow.SetInactive(true)
		p.lookPublishedOn(from)
	case strings.EqualFold(v, "active"):
		from.flow.SetInactive(false)
	case v != "":
		p.log.Info("unknown Client-State, want active or inactive", "flow", from.name())
	}
}

// cancelRequest answers a CANCEL at once and ends the call it means
// (RFC 3261 §16.10). When the 487 goes out is the fork's business.
func (p *Proxy) cancelRequest(from *peer, req *sip.Request) {
	st := from.txs.invite(req)
	status := 200
	if st == nil {
		status = 481
	}
	res := sipmsg.Response(req, status, "")
	res.SetTransport(from.via)
	if err := from.WriteMsg(res); err != nil {
		p.log.Debug("response not sent", "flow", from.name(), "err", err)
	}
	if st == nil || st.answered() != 0 {
		return
	}
	if f := st.getFork(); f != nil {
		f.cancel(allReasons(req))
		return
	}
	st.reply(487, "")
}

// allReasons are the values of Reason headers as one (RFC 3326 §2).
func allReasons(req *sip.Request) string {
	var values []string
	for _, h := range sipmsg.All(req, "Reason") {
		values = append(values, strings.TrimSpace(h.Value()))
	}
	return strings.Join(values, ", ")
}

// ack takes an ACK to the INVITE whose failure it confirms, or else along the
// dialog: an ACK for a 2xx is a request of its own, without an answer.
func (p *Proxy) ack(from *peer, req *sip.Request) {
	if st := from.txs.invite(req); st != nil && st.answered() >= 300 {
		_ = st.tx.Receive(req)
		return
	}
	if n, err := strconv.Atoi(headerValue(req, "Max-Forwards")); err == nil && n <= 0 {
		return
	}
	to, out := p.inDialog(from, req)
	if to == nil || out == nil {
		p.log.Debug("ack without a way", "flow", from.name())
		return
	}
	if err := to.WriteMsg(out); err != nil {
		p.log.Debug("ack not sent", "flow", to.name(), "err", err)
	}
}
