package push

import (
	"context"
	"encoding/json"
	"time"
)

// word is what the cores on one store tell one another about notes: the lane
// runs on one of them only.
type word struct {
	Op     string    `json:"op"` // one of ops
	Device string    `json:"device,omitempty"`
	Name   string    `json:"name,omitempty"` // conversation or Call-ID
	At     time.Time `json:"at,omitzero"`
	// For opSettled.
	Origin string `json:"origin,omitempty"`
	Key    string `json:"key,omitempty"`
	Result Result `json:"result,omitzero"`
}

// The words.
const (
	opReturned = "returned"
	opRead     = "read"
	opWithdraw = "withdraw"
	opSettled  = "settled"
)

var ops = map[string]func(*lane, word, time.Time){
	opReturned: (*lane).returned,
	opRead:     (*lane).read,
	opWithdraw: (*lane).withdraw,
}

// Returned says that a device is in the foreground again: what waits to tell it
// of messages, or to make it register, is dropped, and messages are counted
// anew. It does not block.
func (s *Service) Returned(device string) {
	s.say(word{Op: opReturned, Device: device, At: time.Now()})
}

// Read says that the user has read a conversation, on this device or another:
// what waits to tell this one of it is dropped. It does not block.
func (s *Service) Read(device, conversation string) {
	s.say(word{Op: opRead, Device: device, Name: conversation})
}

// Withdraw says that a device knows what became of a call: a note about that
// call that still waits is dropped. It does not block.
func (s *Service) Withdraw(device, callID string) {
	s.say(word{Op: opWithdraw, Device: device, Name: callID})
}

// say tells all cores w, or where that cannot be done, this one.
func (s *Service) say(w word) {
	if s.cfg.Outbox != nil {
		if text, err := json.Marshal(w); err == nil && s.cfg.Outbox.Tell(text) == nil {
			return
		}
	}
	s.hear(w)
}

// hear has the lane do what w says.
func (s *Service) hear(w word) {
	if w.Op == opSettled {
		if w.Origin == s.life {
			s.dones.settle(w.Key, w.Result)
		}
		return
	}
	if f := ops[w.Op]; f != nil {
		s.hint(f, w)
	}
}

// hint has the lane do f, some time, if it has not fallen far behind.
func (s *Service) hint(f func(*lane, word, time.Time), w word) {
	select {
	case s.hints <- func(now time.Time) { f(s.lane, w, now) }:
	default: // a push that could have been spared is sent, or one waits longer
	}
}

// settled lets those hear of it who posted r.
func (s *Service) settled(r *row, res Result) {
	if r.target != nil {
		s.inMemory.Add(-1)
	}
	if r.origin == "" || r.origin == s.life {
		s.dones.settle(r.key, res)
		return
	}
	res.Token = Token{} // its value is nobody's business on the way
	if text, err := json.Marshal(word{Op: opSettled, Origin: r.origin, Key: r.key, Result: res}); err == nil {
		_ = s.cfg.Outbox.Tell(text)
	}
}

// dropped ends rows that nobody needs any more.
func (l *lane) dropped(r *row) { l.end(r, droppedResult, endDropped) }

func (l *lane) returned(w word, now time.Time) {
	l.back[w.Device] = later(w.At, l.back[w.Device])
	l.sched.drop(w.Device, (*row).endsOnReturn, func(string) bool { return true }, now, l.dropped)
}

// endsOnReturn says whether r is of no use to a device that is there.
func (r *row) endsOnReturn() bool {
	return r.note.Event == EventMessage || r.note.Event == EventRegister
}

func (l *lane) read(w word, now time.Time) {
	l.sched.drop(w.Device,
		func(r *row) bool { return r.note.Event == EventMessage && r.note.Conversation == w.Name },
		func(chat string) bool { return chat == w.Name }, now, l.dropped)
}

func (l *lane) withdraw(w word, now time.Time) {
	if w.Name == "" {
		return
	}
	l.sched.drop(w.Device, func(r *row) bool { return r.note.CallID == w.Name },
		func(string) bool { return false }, now, l.dropped)
}

// reconsider asks again about what quiet hours hold back: they have changed.
func (l *lane) reconsider(_ word, now time.Time) {
	l.sched.each(func(c *chat) {
		if c.held {
			c.wait, c.held = time.Time{}, false
			l.sched.plan(c, now)
		}
	})
}

// listen hears what the cores say until ctx ends.
func (s *Service) listen(ctx context.Context) {
	for ctx.Err() == nil {
		err := s.cfg.Outbox.Hear(ctx, func(text []byte) {
			var w word
			if json.Unmarshal(text, &w) == nil {
				s.hear(w)
			}
		})
		if ctx.Err() == nil {
			s.log.Warn("push queue: the other cores are not heard for a while", "err", err)
			pause(ctx)
		}
	}
}

func pause(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(time.Second):
	}
}

// follow takes rows from the outbox while it is this core's turn, until ctx
// ends; the turn itself lasts until late does.
func (l *lane) follow(ctx, late context.Context) {
	for ctx.Err() == nil {
		l.do(ctx, func(time.Time) { l.behind = true })
		err := l.s.cfg.Outbox.Follow(late,
			func(data []byte, remove func()) { l.do(ctx, func(now time.Time) { l.take(data, remove, now) }) },
			func() { l.do(ctx, l.caughtUp) })
		if l.do(ctx, l.lost) && ctx.Err() == nil {
			l.s.log.Warn("push queue: this core does not send for a while", "err", err)
			pause(ctx)
		}
	}
}

// take enters a stored row. Those from before wait for the last of them, so that
// what belongs together goes together.
func (l *lane) take(data []byte, remove func(), now time.Time) {
	r, err := decodeRow(l.s.cfg.Sealer, data, remove)
	if err != nil {
		l.s.tally.ended(endUnread, 1)
		if l.s.unsaved.first(err.Error()) {
			l.s.log.Warn("push queue holds a note that cannot be read: it is dropped when it is too old", "err", err)
		}
		return
	}
	if l.behind {
		l.backlog = append(l.backlog, r)
		return
	}
	l.enter(r, now)
}

func (l *lane) caughtUp(now time.Time) {
	for _, r := range l.backlog {
		l.enter(r, now)
	}
	l.backlog, l.behind = nil, false
}

// lost forgets what is stored: another core sends it now. Counts begin anew, as
// after a restart: what comes back is counted again.
func (l *lane) lost(now time.Time) {
	l.backlog = nil
	for name := range l.sched.devices {
		l.sched.drop(name, func(r *row) bool {
			r.counted = false
			return r.remove != nil
		}, func(string) bool { return true }, now, func(r *row) {
			if r.target != nil {
				l.s.inMemory.Add(-1)
			}
		})
	}
}
