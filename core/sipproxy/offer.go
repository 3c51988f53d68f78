package sipproxy

import (
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"

	"sallyport/core/location"
	"sallyport/core/sipmsg"
)

// What a REGISTER asks of push, and what it is told (RFC 8599 §5.4, §5.6.1).

const (
	// pushLead is how long before a binding ends a push must leave for the
	// client to register in time (RFC 8599 §5.5). A binding that lasts no longer
	// is too short to be kept alive by pushes.
	pushLead = 120 * time.Second
	// selfLead is how long before that a client registers which wakes by itself:
	// more than pushLead, so that it needs no push (RFC 8599 §5.6.1.1).
	selfLead = 130 * time.Second
)

// supports says whether pushes for a provider can be sent at all.
func (p *Proxy) supports(provider string) bool {
	return p.cfg.PushEnabled && provider != "" && slices.Contains(p.cfg.Providers, provider)
}

// offerPush decides what we say of push to a REGISTER, and to the PBX that it
// goes to. Where the operator knows that nobody else would push either, one
// that asks in vain gets 555.
func (p *Proxy) offerPush(reg *registration) (status int, reason string) {
	push := &reg.push
	if push.BadKey && p.badKeys.first(reg.id) {
		p.log.Info("pn-key or pn-auth is no key: pushes to the device are not encrypted for it; want a point on P-256 and 16 octets, both in base64url",
			"device", reg.id)
	}
	if reg.fetch || reg.star || reg.expires <= 0 || push.Provider == "" && !push.Query {
		return 0, ""
	}
	told := offersOf(reg.st.req)
	switch {
	case push.Provider != "" && slices.Contains(told, push.Provider):
		reg.closer, reg.tokens = true, nil
		return 0, ""
	case push.Provider == "":
		for _, s := range p.cfg.Providers {
			if p.supports(s) {
				reg.offer = append(reg.offer, s)
			}
		}
	case p.supports(push.Provider) && (push.Query || p.reaches(reg)):
		reg.offer = []string{push.Provider}
	}
	if len(reg.offer) == 0 && len(told) == 0 && p.cfg.RefuseUnknown {
		return 555, "Push Notification Service Not Supported"
	}
	if !push.Query && reg.dom.Registrar == nil && reg.dom.UpstreamExpires <= pushLead {
		reg.offer = nil // what is asked of the PBX is too short
	}
	return 0, ""
}

// reaches says whether a client's tokens fit an app of ours.
func (p *Proxy) reaches(reg *registration) bool {
	d := wakeDevice(location.Device{ID: reg.id, Tokens: reg.tokens, Class: reg.push.Class})
	return p.waker.CanCall(d) || p.waker.CanNote(d)
}

// offersOf are the providers by which proxies between the client and us push.
func offersOf(req *sip.Request) (providers []string) {
	for _, h := range sipmsg.All(req, "Feature-Caps") {
		for _, param := range strings.FieldsFunc(h.Value(), func(r rune) bool { return r == ';' || r == ',' }) {
			if k, v, ok := strings.Cut(strings.TrimSpace(param), "="); ok && strings.EqualFold(strings.TrimSpace(k), "+sip.pns") {
				providers = append(providers, strings.ToLower(strings.Trim(strings.TrimSpace(v), `"`)))
			}
		}
	}
	return providers
}

// offered is what a 2xx tells the client of push: the providers, and with each
// what belongs to it. Where the PBX forgets the client before a push could keep
// it registered, nothing is promised.
func (p *Proxy) offered(reg *registration) (hs []sip.Header) {
	if reg.expires <= 0 {
		return nil
	}
	now := time.Now()
	if !reg.push.Query && !reg.ends.IsZero() && reg.ends.Sub(now) <= pushLead {
		return nil
	}
	for _, provider := range reg.offer {
		more := ""
		if provider == "webpush" && p.cfg.VAPID != nil {
			if key := p.cfg.VAPID(); key != "" {
				more += `;+sip.vapid="` + key + `"`
			}
		}
		if !reg.push.Query {
			more += p.ofBinding(reg, now)
		}
		hs = append(hs, featureCaps(provider, more))
	}
	return hs
}

// ofBinding are the capabilities that concern one binding: when a client that
// wakes by itself shall register, and by what its dialogs are known to us.
func (p *Proxy) ofBinding(reg *registration, now time.Time) (params string) {
	if reg.contact.WakesItself() && reg.expires > 2*selfLead {
		params += `;+sip.pnsreg="` + strconv.Itoa(int(selfLead/time.Second)) + `"`
	}
	dev, ok := p.loc.Device(reg.id)
	if ok && p.askable(dev) {
		for _, b := range dev.Bindings {
			if b.RegID == reg.regID {
				params += `;+sip.pnspurr="` + p.purr(b.Token, now) + `"`
			}
		}
	}
	return params
}

func featureCaps(provider, more string) sip.Header {
	return sip.NewHeader("Feature-Caps", `*;+sip.pns="`+provider+`"`+more)
}

// maxSaid bounds of how many devices it is remembered that something was said.
const maxSaid = 1024

// said remembers of which devices something was said. Beyond its bound nothing
// more is.
type said struct {
	mu sync.Mutex
	of map[location.DeviceID]struct{} // guarded by mu
}

func (s *said) first(id location.DeviceID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.of[id]; known || len(s.of) >= maxSaid {
		return false
	}
	if s.of == nil {
		s.of = make(map[location.DeviceID]struct{})
	}
	s.of[id] = struct{}{}
	return true
}
