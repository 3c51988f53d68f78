package wake

import (
	"slices"
	"time"
)

// recent remembers the VoIP pushes of the last minute, by device. It holds two
// generations of a minute each and forgets the older one whole, so that it
// needs neither timer nor search. Guarded by Waker.mu.
type recent struct {
	now, before map[string]*history
	turned      time.Time // when now was begun
}

// history is what one device got.
type history struct {
	sent []time.Time // oldest first
	last *run        // whose call it may still be ringing for; nil if it failed
}

// turn begins a new generation when the present one is a minute old.
func (r *recent) turn(at time.Time) {
	switch age := at.Sub(r.turned); {
	case r.now != nil && age < time.Minute:
		return
	case age < 2*time.Minute:
		r.before = r.now
	default:
		r.before = nil
	}
	r.now, r.turned = make(map[string]*history), at
}

// of returns the device's history, nil if it got nothing lately.
func (r *recent) of(device string) *history {
	if h := r.now[device]; h != nil {
		return h
	}
	return r.before[device]
}

// allow notes a push to device if it has had fewer than limit in the last
// minute, and reports whether it has.
func (r *recent) allow(device string, push *run, limit int) bool {
	r.turn(push.start)
	h := r.of(device)
	if h == nil {
		h = &history{}
	}
	h.sent = slices.DeleteFunc(h.sent, func(t time.Time) bool { return push.start.Sub(t) >= time.Minute })
	if len(h.sent) >= limit {
		return false
	}
	h.sent = append(h.sent, push.start)
	h.last = push
	r.now[device] = h
	return true
}

// failed forgets that push announced its call. If it was taken back before it
// left, it does not count either.
func (r *recent) failed(device string, push *run, takenBack bool) {
	h := r.of(device)
	if h == nil {
		return
	}
	if h.last == push {
		h.last = nil
	}
	if !takenBack {
		return
	}
	if i := slices.Index(h.sent, push.start); i >= 0 {
		h.sent = slices.Delete(h.sent, i, i+1)
	}
}

// announced returns the push that announced the very call to the device less
// than window ago, under way or accepted: a device rings once for a call (B6).
func (r *recent) announced(device, callID string, window time.Duration) *run {
	h := r.of(device)
	if h == nil || h.last == nil || h.last.stopped || callID == "" || h.last.call.CallID != callID {
		return nil
	}
	if time.Since(h.last.start) >= window {
		return nil
	}
	return h.last
}
