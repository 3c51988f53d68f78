package notify

import (
	"time"

	"sallyport/core/location"
	"sallyport/core/stanza"
	"sallyport/core/wake"
	"sallyport/core/xmppproxy/classify"
)

// Push says that a stanza waits for a client that does not listen. id is not
// looked at: copies of a stanza have ids of their own.
func (n *Notifier) Push(c Client, e *stanza.Element, _ uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := n.of(c)
	v := classify.Of(e, classify.Self{JID: c.Bare(), Nick: func(room string) string { return s.nicks[room] }})
	n.metrics.stanzas.WithLabelValues(v.Class.String()).Inc()
	switch v.Class {
	case classify.None:
	case classify.Call:
		if v.Stored.IsZero() || time.Since(v.Stored) < ringsFor {
			n.ring(s, v)
		} else {
			n.metrics.spared.WithLabelValues("late").Inc()
		}
	case classify.Missed, classify.Taken:
		n.over(s, v)
	case classify.Low, classify.Message:
		n.tell(s, v)
	}
}

// note is what a push says of v.
func (s *state) note(v classify.Verdict, event string, now time.Time) wake.Note {
	name := v.Name
	if name == "" {
		name = v.Sender
	}
	return wake.Note{
		Event: event, ID: v.Key, CallID: v.CallID, Conversation: v.Conversation,
		FromURI: location.SchemeXMPP + v.Sender, FromName: name, To: s.id.AOR,
		Text: v.Text, Urgent: v.Urgent, Sent: now,
	}
}

// tell pushes word of something to read, now or later.
func (n *Notifier) tell(s *state, v classify.Verdict) {
	now := time.Now()
	if !s.told.first(v.Key, now) {
		n.metrics.spared.WithLabelValues("copy").Inc()
		return
	}
	note := s.note(v, wake.EventMessage, now)
	if v.Class == classify.Message {
		s.badge++
		note.Count = 1
	}
	if due := n.due(s); due.After(now) {
		n.metrics.spared.WithLabelValues("active_elsewhere").Inc()
		n.postpone(s, note, due)
		return
	}
	n.send(s, note)
}

// due is when a message for s may be pushed: as soon as no other client of the
// user is, or was lately, active.
func (n *Notifier) due(s *state) time.Time {
	if n.cfg.DesktopActive <= 0 {
		return time.Time{}
	}
	last := s.who.Others()
	if last.IsZero() {
		return time.Time{}
	}
	return last.Add(n.cfg.DesktopActive)
}

// send pushes a note, if the device can be told.
func (n *Notifier) send(s *state, note wake.Note) {
	d, known := n.device(s.id)
	if !known || !n.waker.CanNote(d) {
		return
	}
	note.Badge = s.badge
	n.metrics.notes.WithLabelValues(note.Event).Inc()
	n.waker.Note(d, note, nil)
}

// call is one that a device was told of.
type call struct {
	began time.Time
	stop  func()
	done  bool
	rings bool       // the push left
	taken *wake.Note // to be sent if it did
}

// ringsFor is how old a call may be that rings: one that a server stored is over,
// and an app that is woken for it has nothing to show.
const ringsFor = time.Minute

// Bounds of calls that are remembered.
const (
	maxCalls = 16
	keepCall = 10 * time.Minute
)

func callKey(v classify.Verdict) string { return v.CallID + "\x00" + v.Conversation }

// ring announces a call, once.
func (n *Notifier) ring(s *state, v classify.Verdict) {
	now := time.Now()
	for k, one := range s.calls {
		if now.Sub(one.began) > keepCall {
			delete(s.calls, k)
		}
	}
	key := callKey(v)
	if s.calls[key] != nil || len(s.calls) >= maxCalls {
		n.metrics.spared.WithLabelValues("copy").Inc()
		return
	}
	d, known := n.device(s.id)
	if !known {
		return
	}
	one := &call{began: now}
	if s.calls == nil {
		s.calls = make(map[string]*call)
	}
	s.calls[key] = one
	n.metrics.notes.WithLabelValues("call").Inc()
	one.stop = n.waker.Announce(d, wake.Call{
		CallID: v.CallID, FromURI: location.SchemeXMPP + v.Sender, FromName: v.Sender, To: s.id.AOR, Video: v.Video, Sent: now,
	}, nil, func(r wake.Result) { n.rang(s, one, r.Outcome == wake.Accepted) })
}

// rang takes what became of a call's push.
func (n *Notifier) rang(s *state, one *call, rings bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	one.done, one.rings = true, rings
	if rings && one.taken != nil {
		n.send(s, *one.taken)
	}
}

// over ends a call that was announced: what has not left stays here, and what
// rings is told why it rings no more.
func (n *Notifier) over(s *state, v classify.Verdict) {
	key := callKey(v)
	one := s.calls[key]
	if v.Class == classify.Taken { // who called is not said
		key, one = s.findCall(v.CallID)
	}
	if one == nil {
		return
	}
	delete(s.calls, key)
	one.stop()
	event := wake.EventMissed
	if v.Class == classify.Taken {
		event = wake.EventAnsweredElsewhere
	}
	note := s.note(v, event, time.Now())
	switch {
	case v.Class == classify.Missed:
		n.send(s, note)
	case !one.done:
		one.taken = &note
	case one.rings:
		n.send(s, note)
	}
}
