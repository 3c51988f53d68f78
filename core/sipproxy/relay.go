package sipproxy

import (
	"context"
	"errors"
	mrand "math/rand/v2"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/emiago/sipgo/sip"

	"sallyport/core/sipmsg"
	"sallyport/core/upstream"
)

// toPBX sends a request to the PBX of a domain, or to the server of it that a
// dialog stays with. make is called with the hop, for each that is tried.
func (p *Proxy) toPBX(st *serverTx, j *journey, make func(*peer) *sip.Request) {
	fail := func(err error) { p.unreachable(st, j.domain, err) }
	if st.req.IsInvite() {
		st.reply(100, "")
		j.begin(func(pe *peer) { p.start(st, nil, &plain{journey: j, to: pe, build: make}) }, fail)
		return
	}
	hear := func(res *sip.Response) {
		if res.StatusCode > 100 {
			st.respond(st.back(res))
		}
	}
	e := &errand{journey: j, st: st, build: make, hear: hear, end: func(err error) { p.unanswered(st, j.domain, err) }}
	j.begin(e.send, fail)
}

// unanswered ends a request that a PBX left without a final answer. A server
// that keeps silent until the transaction times out leaves it without one
// (RFC 4320 §4.1).
func (p *Proxy) unanswered(st *serverTx, domain string, err error) {
	switch {
	case err == nil || st.answered() != 0 || errors.Is(err, sip.ErrTransactionTimeout):
	case errors.Is(err, errNobody):
		p.unreachable(st, domain, err)
	default:
		st.reply(500, "")
	}
}

// livePBX returns a connection that is up, or nil; it never waits.
func (p *Proxy) livePBX(domain string) *peer { return p.journey(domain, "", hopAddr{}).live() }

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
		port = defaultPort(via.Transport)
	}
	addr, err := netip.ParseAddr(strings.Trim(host, "[]"))
	if err != nil || !p.up.Trusted(addr) {
		return upstream.ErrClosed
	}
	hop := hopAddr{addr: netip.AddrPortFrom(addr, uint16(port)), transport: strings.ToLower(via.Transport)}
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

// unreachable answers for a PBX that cannot be reached: come back soon. Whoever
// is told so at the same time comes back at different times.
func (p *Proxy) unreachable(st *serverTx, domain string, err error) {
	p.log.Warn("request not sent: upstream unreachable", "domain", domain, "err", err)
	if un, ok := errors.AsType[*upstream.UnreachableError](err); ok && un.Retry > 0 {
		st.reply(503, "", retryAfter(un.Retry+time.Second-1+mrand.N(retryLate)))
		return
	}
	st.reply(503, "")
}

// retrySoon and retryLate bound the Retry-After of a 503 of ours.
const (
	retrySoon = 5 * time.Second
	retryLate = 15 * time.Second
)

func retryAfter(d time.Duration) sip.Header {
	return sip.NewHeader("Retry-After", strconv.Itoa(int(max(d, time.Second)/time.Second)))
}

// relay forwards a request other than INVITE to a client, and its answers.
func (p *Proxy) relay(st *serverTx, to *peer, out *sip.Request) {
	p.relayHeard(st, to, out, func(res *sip.Response) { st.respond(st.back(res, p.dropFrom(to)...)) }, nil)
}

// relayHeard is relay with another use for the final response, and for the
// loss of the hop. A hop that keeps silent until the transaction times out
// leaves the request without an answer (RFC 4320 §4.1).
func (p *Proxy) relayHeard(st *serverTx, to *peer, out *sip.Request, final func(*sip.Response), lost func()) {
	if lost == nil {
		lost = func() { st.reply(480, "") }
	}
	unheard := p.listenFor(to)
	hear := func(res *sip.Response) {
		unheard.Stop()
		switch {
		case challenges(st.from, to, res):
			st.reply(480, "")
		case res.StatusCode == 503: // speaks of the client, not of us (RFC 3261 §16.7 6)
			st.reply(500, "")
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
			p.lookPublishedOn(to)
		}
	})
}

// dropFrom names the response headers that may not pass from a hop.
func (p *Proxy) dropFrom(to *peer) []string {
	if to.client() {
		return assertedByClients
	}
	return nil
}
