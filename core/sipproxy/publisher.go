package sipproxy

import (
	"context"
	"strconv"
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"

	"sallyport/core/liveness"
	"sallyport/core/location"
	"sallyport/core/presence"
	"sallyport/core/upstream"
)

// While a device sleeps, we publish for it (B11): its own document, changed so
// that others see it away, and refreshed for as long as it can be woken; on its
// return that document as it was. What is to be published, and when, is
// core/presence's to say. We have no credentials: a PBX that asks for them is
// left alone, and the operator is told.

const (
	// maxPublishing bounds the PUBLISHes of ours that are under way: when a
	// tunnel breaks, all its devices fall silent together.
	maxPublishing = 64
	// leftAlone is how long a PBX that lets us not publish is not asked again.
	leftAlone = time.Hour
)

// publisher remembers which PBXs do not let us publish.
type publisher struct {
	mu      sync.Mutex
	refused map[string]refusal // by domain; guarded by mu
	queued  map[string]bool    // devices that wait for their turn, with a slot; guarded by mu
}

// queue says whether a device is not queued already; it is from now on.
func (b *publisher) queue(device string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.queued[device] {
		return false
	}
	if b.queued == nil {
		b.queued = make(map[string]bool)
	}
	b.queued[device] = true
	return true
}

// turn says that a device's turn has come.
func (b *publisher) turn(device string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.queued, device)
}

type refusal struct {
	status int
	at     time.Time
}

// refuses says whether a domain's PBX is left alone now.
func (b *publisher) refuses(domain string, now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	r, ok := b.refused[domain]
	return ok && now.Sub(r.at) < leftAlone
}

// heard notes a PBX's answer, and says whether it refuses what it had not
// refused before.
func (b *publisher) heard(domain string, status int, now time.Time) (news bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, before := b.refused[domain]
	if status < 300 {
		delete(b.refused, domain)
		return false
	}
	if b.refused == nil {
		b.refused = make(map[string]refusal)
	}
	b.refused[domain] = refusal{status, now}
	return !before
}

// Unpublished returns the domains whose PBX does not let us publish for devices
// that sleep, each with the status of its refusal.
func (p *Proxy) Unpublished() map[string]int {
	p.publisher.mu.Lock()
	defer p.publisher.mu.Unlock()
	out := make(map[string]int, len(p.publisher.refused))
	for domain, r := range p.publisher.refused {
		out[domain] = r.status
	}
	return out
}

// lookPublished has the presence of devices looked at: they may not look any more.
func (p *Proxy) lookPublished(ids ...location.DeviceID) {
	if p.book == nil {
		return
	}
	for _, id := range ids {
		p.book.Look(id.String())
	}
}

// lookPublishedOn is lookPublished for the devices on a flow.
func (p *Proxy) lookPublishedOn(pe *peer) {
	if p.book == nil || !pe.client() {
		return
	}
	for _, b := range p.loc.ByFlow(pe.flow.ID()) {
		p.book.Look(b.ID().String())
	}
}

// backPublished restores the presence of the devices on a flow that look again.
func (p *Proxy) backPublished(pe *peer) {
	if p.book == nil || !p.book.Stirred() {
		return
	}
	for _, b := range p.loc.ByFlow(pe.flow.ID()) {
		dev, ok := p.loc.Device(b.ID())
		if ok && p.stateOn(dev, p.peerOf(dev)) == liveness.Foreground {
			p.book.Back(dev.ID.String())
		}
	}
}

// publishing does what the book says, until ctx ends.
func (p *Proxy) publishing(ctx context.Context) {
	slots := make(chan struct{}, maxPublishing)
	clock := time.NewTimer(0)
	defer clock.Stop()
	for ctx.Err() == nil {
		device, wait := p.book.Due()
		if device == "" {
			clock.Reset(wait)
			select {
			case <-ctx.Done():
			case <-p.book.Changed():
			case <-clock.C:
			}
			continue
		}
		id, ok := location.ParseDeviceID(device)
		if !ok || !p.publisher.queue(device) {
			continue // who waits already is looked at when its turn comes
		}
		select {
		case <-ctx.Done():
		case slots <- struct{}{}:
			p.turns.take(id, 0, func(done func()) {
				p.publisher.turn(device)
				p.publishFor(id, sync.OnceFunc(func() { done(); <-slots }))
			})
		}
	}
}

// published are the facts of a device that matter to its presence.
func (p *Proxy) published(id location.DeviceID) presence.Facts {
	dev, known := p.loc.Device(id)
	if !known {
		return presence.Facts{}
	}
	pe, d := p.peerOf(dev), wakeDevice(dev)
	return presence.Facts{
		Known:   true,
		Looking: p.stateOn(dev, pe) == liveness.Foreground,
		Told:    pe != nil && pe.flow.Attention().Inactive,
		Kept:    p.cfg.PushEnabled && (p.waker.CanNote(d) || p.waker.CanCall(d)),
	}
}

// publishFor takes the next step for a device, if there is one.
func (p *Proxy) publishFor(id location.DeviceID, done func()) {
	s, ok := p.book.Decide(id.String(), p.published(id))
	if !ok {
		done()
		return
	}
	domain := domainOf(id.AOR)
	if dom := p.domains[domain]; dom == nil || dom.Registrar != nil || p.publisher.refuses(domain, time.Now()) {
		p.book.Done(s, presence.Answer{Verdict: presence.Refused})
		done()
		return
	}
	req, err := p.ownPublish(id.AOR, s)
	if err != nil {
		p.book.Done(s, presence.Answer{Verdict: presence.Refused})
		done()
		return
	}
	tell := func(a presence.Answer, outcome string) {
		p.m.publishes.WithLabelValues(outcome).Inc()
		p.book.Done(s, a)
		done()
	}
	var final bool // hear and end come on one goroutine
	e := &errand{
		journey: p.journey(domain, id.AOR, hopAddr{}),
		build: func(to *peer) *sip.Request {
			d := draft{from: req, uri: req.Recipient}
			return d.build(p.newVia(to, req))
		},
		hear: func(res *sip.Response) {
			if res.StatusCode >= 200 && !final {
				final = true
				tell(p.publishAnswer(domain, s, res))
			}
		},
		end: func(error) {
			if !final {
				tell(presence.Answer{Verdict: presence.Failed}, "failed")
			}
		},
	}
	e.begin(e.send, func(error) { tell(presence.Answer{Verdict: presence.Failed}, "failed") })
}

// ownPublish is a PUBLISH of ours, without Via.
func (p *Proxy) ownPublish(aor string, s presence.Step) (*sip.Request, error) {
	var uri sip.Uri
	if err := sip.ParseUri(aor, &uri); err != nil {
		return nil, err
	}
	req := sip.NewRequest(sip.PUBLISH, uri)
	from := &sip.FromHeader{Address: uri, Params: sip.NewParams()}
	from.Params.Add("tag", random(10))
	callID := sip.CallIDHeader(random(20) + "@" + p.advertiseHost)
	for _, h := range []sip.Header{
		from, &sip.ToHeader{Address: uri, Params: sip.NewParams()}, &callID,
		&sip.CSeqHeader{SeqNo: 1, MethodName: sip.PUBLISH}, sip.NewHeader("Event", "presence"),
		sip.NewHeader("Expires", strconv.Itoa(int(s.Expires/time.Second))),
	} {
		req.AppendHeader(h)
	}
	if s.IfMatch != "" {
		req.AppendHeader(sip.NewHeader("SIP-If-Match", s.IfMatch))
	}
	if s.Body != nil {
		req.AppendHeader(sip.NewHeader("Content-Type", s.Type))
		req.SetBody(s.Body)
	}
	return req, nil
}

// publishAnswer reads the PBX's final word on a PUBLISH of ours.
func (p *Proxy) publishAnswer(domain string, s presence.Step, res *sip.Response) (a presence.Answer, outcome string) {
	switch status := res.StatusCode; {
	case res.IsSuccess():
		p.publisher.heard(domain, status, time.Now())
		return presence.Answer{Tag: headerValue(res, "SIP-ETag"), Granted: grantedExpires(res, s.Expires)}, "accepted"
	case status == 412:
		return presence.Answer{Verdict: presence.Stale}, "stale"
	case status == 423:
		d, _ := upstream.ParseRetryAfter(headerValue(res, "Min-Expires")) // a number of seconds, as well
		return presence.Answer{Verdict: presence.Brief, Granted: d}, "stale"
	case status == 408, status == 429, status == 480, status == 486, status == 491, status >= 500 && status != 501:
		d, _ := upstream.ParseRetryAfter(headerValue(res, "Retry-After"))
		return presence.Answer{Verdict: presence.Failed, Retry: d}, "failed"
	case status == 401, status == 403, status == 405, status == 407, status == 489, status == 501:
		if p.publisher.heard(domain, status, time.Now()) {
			p.log.Warn("the PBX does not let the core publish for phones that sleep, so they are not shown as away: "+
				"let it take PUBLISH from the core's address without credentials", "domain", domain, "status", status)
		}
	default:
		p.log.Info("presence not published", "domain", domain, "status", status)
	}
	return presence.Answer{Verdict: presence.Refused}, "refused"
}
