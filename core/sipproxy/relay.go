package sipproxy

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"time"

	"github.com/emiago/sipgo/sip"

	"sallyport/core/sipmsg"
	"sallyport/core/upstream"
)

// dialPatience bounds the wait for a connection to the PBX.
const dialPatience = 5 * time.Second

// toPBX sends a request to the PBX of a domain, or to the server of it that a
// dialog stays with. make is called with the hop.
func (p *Proxy) toPBX(st *serverTx, domain string, hop hopAddr, make func(*peer) *sip.Request) {
	if st.req.IsInvite() {
		st.reply(100, "")
	}
	send := func(pe *peer) {
		if st.req.IsInvite() {
			p.start(st, nil, &plain{to: pe, req: make(pe)})
			return
		}
		p.relay(st, pe, make(pe))
	}
	p.withPBX(domain, hop, send, func(err error) { p.unreachable(st, domain, err) })
}

// withPBX calls use with a live connection to the domain's PBX: at once if
// there is one, so that the order of a flow's requests is kept, else as soon
// as it is dialled.
func (p *Proxy) withPBX(domain string, hop hopAddr, use func(*peer), fail func(error)) {
	if pe := p.liveHop(domain, hop); pe != nil {
		use(pe)
		return
	}
	dialled := p.calls.Go(func() {
		ctx, cancel := context.WithTimeout(p.ctx, dialPatience)
		defer cancel()
		c, err := p.dial(ctx, domain, hop)
		if err != nil {
			fail(err)
			return
		}
		use(p.upPeer(c))
	})
	if !dialled {
		fail(context.Canceled)
	}
}

// livePBX returns a connection that is up, or nil; it never waits.
func (p *Proxy) livePBX(domain string) *peer { return p.liveHop(domain, hopAddr{}) }

// liveHop is livePBX for the server that a dialog stays with.
func (p *Proxy) liveHop(domain string, hop hopAddr) *peer {
	if p.up == nil {
		return nil
	}
	ctx, cancel := context.WithCancel(p.ctx)
	cancel()
	c, err := p.dial(ctx, domain, hop)
	if err != nil {
		return nil
	}
	return p.upPeer(c)
}

func (p *Proxy) dial(ctx context.Context, domain string, hop hopAddr) (*upstream.Conn, error) {
	if hop.addr.IsValid() {
		return p.up.Dial(ctx, hop.String())
	}
	return p.up.Conn(ctx, domain)
}

// answerAgain sends a response whose request came on a connection that has
// ended since, to where the top Via says, if that is an address of the PBX
// (RFC 3261 §18.2.2). A call may ring for longer than a PBX keeps an idle
// connection.
func (p *Proxy) answerAgain(res *sip.Response) error {
	via := res.Via()
	if via == nil {
		return upstream.ErrClosed
	}
	host, port := via.Host, via.Port
	if received, _ := via.Params.Get("received"); received != "" {
		host = received
	}
	if port == 0 {
		port = 5060
	}
	addr, err := netip.ParseAddr(strings.Trim(host, "[]"))
	if err != nil || !p.up.Trusted(addr) {
		return upstream.ErrClosed
	}
	hop := hopAddr{addr: netip.AddrPortFrom(addr, uint16(port)), udp: strings.EqualFold(via.Transport, "udp")}
	text := sipmsg.Bytes(res)
	p.calls.Go(func() {
		ctx, cancel := context.WithTimeout(p.ctx, dialPatience)
		defer cancel()
		c, err := p.up.Dial(ctx, hop.String())
		if err == nil {
			err = c.Send(text)
		}
		if err != nil {
			p.log.Info("response not sent", "to", "upstream", "err", err)
		}
	})
	return nil
}

// unreachable answers for a PBX that cannot be reached: come back soon.
func (p *Proxy) unreachable(st *serverTx, domain string, err error) {
	p.log.Warn("upstream unreachable", "domain", domain, "err", err)
	st.reply(503, "", sip.NewHeader("Retry-After", "5"))
}

// relay forwards a request other than INVITE and its answers.
func (p *Proxy) relay(st *serverTx, to *peer, out *sip.Request) {
	p.relayHeard(st, to, out, func(res *sip.Response) { st.respond(st.back(res, p.dropFrom(to)...)) }, nil)
}

// relayHeard is relay with another use for the final response, and for the
// loss of the hop. A hop that keeps silent until the transaction times out
// leaves the request without an answer (RFC 4320 §4.1).
func (p *Proxy) relayHeard(st *serverTx, to *peer, out *sip.Request, final func(*sip.Response), lost func()) {
	if lost == nil {
		lost = func() { st.reply(lostStatus(to), "") }
	}
	unheard := p.listenFor(to)
	hear := func(res *sip.Response) {
		unheard.Stop()
		switch {
		case challenges(st.from, to, res):
			st.reply(480, "")
		case res.StatusCode >= 200:
			final(res)
		case res.StatusCode > 100:
			st.respond(st.back(res, p.dropFrom(to)...))
		}
	}
	end := func(err error) {
		unheard.Stop()
		if err != nil && st.answered() == 0 && !errors.Is(err, sip.ErrTransactionTimeout) {
			lost()
		}
	}
	if _, err := p.request(to, out, hear, end); err != nil {
		unheard.Stop()
		p.log.Info("request not sent", "to", to.name(), "method", string(out.Method), "err", err)
		lost()
	}
}

// listenFor marks a client as silent that answers nothing within 2 s, unless
// the timer is stopped before.
func (p *Proxy) listenFor(to *peer) *time.Timer {
	return time.AfterFunc(unansweredAfter, func() {
		if to.client() {
			to.flow.SetUnanswered()
		}
	})
}

// lostStatus is what a lost hop means for the requester: a device that went
// away is 480, a PBX that did is our 503 and leaves as 500 (RFC 3261 §16.7 6).
func lostStatus(to *peer) int {
	if to.client() {
		return 480
	}
	return 500
}

// dropFrom names the response headers that may not pass from a hop.
func (p *Proxy) dropFrom(to *peer) []string {
	if to.client() {
		return assertedByClients
	}
	return nil
}
