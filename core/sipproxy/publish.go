package sipproxy

import (
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"

	"sallyport/core/location"
	"sallyport/core/presence"
	"sallyport/core/sipmsg"
)

// A client's presence (RFC 3903) goes to the PBX as the client sends it, but for
// the entity-tag: since we publish too while it sleeps, the tag that the client
// knows and the one that the PBX knows are not the same. See core/presence.

// publishes says whether a request is the client's word on its own presence,
// which we look after.
func (p *Proxy) publishes(st *serverTx, b location.Binding) bool {
	if p.book == nil || st.req.Method != sip.PUBLISH || !strings.EqualFold(eventOf(st.req), "presence") {
		return false
	}
	u, err := sipmsg.ParseURI(st.req.Recipient.String())
	return err == nil && u.AOR() == b.AOR
}

// eventOf is the event package a request is about, without parameters.
func eventOf(req *sip.Request) string {
	event, _, _ := strings.Cut(headerValue(req, "Event"), ";")
	return strings.TrimSpace(event)
}

// publication reads a PUBLISH.
func publication(req *sip.Request) presence.Request {
	r := presence.Request{
		IfMatch: headerValue(req, "SIP-If-Match"), Expires: askedExpires(req), Type: headerValue(req, "Content-Type"),
		Encoded: sipmsg.Find(req, "Content-Encoding") != nil,
	}
	if body := req.Body(); len(body) > 0 {
		r.Body = body
	}
	return r
}

// publish takes a client's PUBLISH to the PBX, after those of the same device
// that are under way.
func (p *Proxy) publish(st *serverTx, b location.Binding, domain string) {
	taken := p.turns.take(b.ID(), maxTurns, func(done func()) {
		u := &publishing{p: p, st: st, b: b, domain: domain, device: b.ID().String(), asks: publication(st.req), done: sync.OnceFunc(done)}
		u.goes = p.book.Map(u.device, u.asks)
		if u.goes.Stale {
			st.reply(412, "")
			u.done()
			return
		}
		u.send()
	})
	if !taken {
		st.reply(503, "", retryAfter(retrySoon))
	}
}

// publishing is one PUBLISH of a client on its way. One goroutine uses it at a
// time.
type publishing struct {
	p      *Proxy
	st     *serverTx
	b      location.Binding
	domain string
	device string
	asks   presence.Request
	goes   presence.Mapped
	anew   bool // it goes for the second time, as an initial one
	done   func()
}

func (u *publishing) send() {
	second := u.anew
	e := &errand{
		journey: u.p.journey(u.domain, u.b.AOR, hopAddr{}), st: u.st, build: u.build, hear: u.hear,
		end: func(err error) {
			if u.anew == second { // else it goes once more
				u.p.unanswered(u.st, u.domain, err)
				u.done()
			}
		},
	}
	e.begin(e.send, func(err error) {
		u.p.unreachable(u.st, u.domain, err)
		u.done()
	})
}

func (u *publishing) build(to *peer) *sip.Request {
	out := u.p.outward(u.st, to, u.b)
	if u.goes.IfMatch != u.asks.IfMatch {
		sipmsg.Remove(out, "SIP-If-Match")
		if u.goes.IfMatch != "" {
			out.AppendHeader(sip.NewHeader("SIP-If-Match", u.goes.IfMatch))
		}
	}
	if u.goes.Body != nil {
		sipmsg.Set(out, "Content-Type", u.goes.Type)
		out.SetBody(u.goes.Body)
	}
	return out
}

func (u *publishing) hear(res *sip.Response) {
	if res.StatusCode == 412 && u.goes.Held && !u.anew {
		if m, ok := u.p.book.Anew(u.device, u.asks); ok {
			u.goes, u.anew = m, true
			u.send()
			return
		}
	}
	if res.StatusCode <= 100 {
		return
	}
	if res.IsSuccess() {
		u.p.book.Answered(u.device, u.asks, u.goes, headerValue(res, "SIP-ETag"), grantedExpires(res, u.asks.Expires))
	}
	u.st.respond(u.st.back(res))
	if res.StatusCode >= 200 {
		u.done()
	}
}

// grantedExpires is the lifetime that a 2xx to PUBLISH gives (RFC 3903 §6 step
// 8).
func grantedExpires(res *sip.Response, asked time.Duration) time.Duration {
	n, err := strconv.ParseUint(headerValue(res, "Expires"), 10, 31)
	if err != nil {
		return asked
	}
	return min(time.Duration(n)*time.Second, maxExpires)
}

// maxTurns bounds the PUBLISHes of one device that wait for one another.
const maxTurns = 8

// turns let the requests about one device's publication go one after the other:
// each has to name the entity-tag that the one before was given.
type turns struct {
	mu sync.Mutex
	of map[location.DeviceID][]func(done func()) // who waits; an entry for each device under way; guarded by mu
}

// take runs fn when it is the device's turn, at once if nobody is under way; the
// turn ends when fn's done is called, which must be once. It reports false where
// more than limit wait; limit 0 is none.
func (t *turns) take(id location.DeviceID, limit int, fn func(done func())) bool {
	t.mu.Lock()
	waiting, under := t.of[id]
	if !under {
		if t.of == nil {
			t.of = make(map[location.DeviceID][]func(func()))
		}
		t.of[id] = nil
		t.mu.Unlock()
		fn(func() { t.end(id) })
		return true
	}
	defer t.mu.Unlock()
	if limit > 0 && len(waiting) >= limit {
		return false
	}
	t.of[id] = append(waiting, fn)
	return true
}

func (t *turns) end(id location.DeviceID) {
	t.mu.Lock()
	waiting := t.of[id]
	if len(waiting) == 0 {
		delete(t.of, id)
		t.mu.Unlock()
		return
	}
	t.of[id] = waiting[1:]
	t.mu.Unlock()
	waiting[0](func() { t.end(id) })
}
