package sipproxy

import (
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"

	"sallyport/core/im"
	"sallyport/core/location"
)

// hands knows the messages that are with a client, and not answered yet: one
// that is sent again on the flow on which it is out waits for that answer.
type hands struct {
	mu  sync.Mutex
	out map[handKey]*handed // guarded by mu
}

type handKey struct {
	id   location.DeviceID
	name string
}

// handed is a message that was sent. Guarded by hands.mu.
type handed struct {
	pe   *peer
	said bool               // the verdict was given
	wait []func(im.Verdict) // others who want to hear it
}

// join has done called with the verdict on a message that is out on that flow
// already, and says whether there is one; if not, it is out from now on.
func (h *hands) join(key handKey, pe *peer, done func(im.Verdict)) (*handed, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if one := h.out[key]; one != nil && one.pe == pe {
		one.wait = append(one.wait, done)
		return one, true
	}
	if h.out == nil {
		h.out = make(map[handKey]*handed)
	}
	one := &handed{pe: pe}
	h.out[key] = one
	return one, false
}

// holds says whether a message is out.
func (h *hands) holds(key handKey) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.out[key] != nil
}

// say notes that the verdict is given, and returns whether it was before.
func (h *hands) say(one *handed) (late bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	late, one.said = one.said, true
	return late
}

// end says that no other verdict will come, and returns who waits for it.
func (h *hands) end(key handKey, one *handed) (wait []func(im.Verdict)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.out[key] == one {
		delete(h.out, key)
	}
	wait, one.wait = one.wait, nil
	return wait
}

// hand sends a MESSAGE for a device down a flow. hear, which may be nil, is given
// a final response that settles it, and then done, once, what that is: Kept
// where none came in time, and after that perhaps another, which is late. It
// reports false if nothing was sent.
func (p *Proxy) hand(id location.DeviceID, name string, pe *peer, out *sip.Request, hear func(*sip.Response), done func(v im.Verdict, late bool)) bool {
	key := handKey{id, name}
	one, there := p.hands.join(key, pe, func(v im.Verdict) { done(v, false) })
	if there {
		return true
	}
	// Whose answer has just come is not out any more, and is known to have been had.
	if p.im.Had(id.String(), name) {
		for _, also := range append(p.hands.end(key, one), func(v im.Verdict) { done(v, false) }) {
			also(im.Delivered)
		}
		return true
	}
	unheard := p.listenFor(pe)
	limit := time.AfterFunc(letterPatience, func() {
		if !p.hands.say(one) {
			done(im.Kept, false)
		}
	})
	settle := func(v im.Verdict) {
		unheard.Stop()
		limit.Stop()
		late := p.hands.say(one)
		if late { // who asks for it from now on knows that it came
			done(v, true)
		}
		wait := p.hands.end(key, one)
		if !late {
			done(v, false)
		}
		for _, also := range wait {
			also(v)
		}
	}
	_, err := p.request(pe, out, func(res *sip.Response) {
		unheard.Stop()
		if res.StatusCode < 200 {
			return
		}
		v := verdictOf(res)
		if hear != nil && v != im.Kept {
			hear(res)
		}
		settle(v)
	}, func(err error) {
		if err != nil {
			settle(im.Kept)
		}
	})
	if err == nil {
		return true
	}
	unheard.Stop()
	limit.Stop()
	for _, also := range p.hands.end(key, one) {
		also(im.Kept)
	}
	return p.hands.say(one) // what was said stands
}
