package im

import (
	"context"
	"slices"
	"strings"
	"time"
)

// box is what there is for one device. Guarded by Service.mu, but worked on by
// one goroutine at a time.
type box struct {
	device, aor string
	held        []entry // in order of arrival
	adding      int     // being stored
	line        []Item  // to be handled, the oldest first
	working     bool
	again       bool          // the device has just come back: the worker is to look
	tries       int           // in a row that a device which looks did not take a message
	rests       time.Time     // it is not sent to before
	arrived     chan struct{} // capacity 1: something joined the line; nil without a worker
}

// entry is a held message, as it is remembered: small, for there may be a
// million.
type entry struct {
	seq            uint64
	key            key
	sender         uint64
	added, expires int64 // ms since 1970
	taken          bool  // another device of the user has had a copy
}

func entryOf(e Entry, k key) entry {
	return entry{seq: e.Seq, key: k, sender: e.Sender, added: e.Added.UnixMilli(), expires: e.Expires.UnixMilli()}
}

func (e *entry) over(now time.Time) bool { return now.UnixMilli() >= e.expires }

// find returns where in held a message is, or -1.
func (b *box) find(k key) int {
	return slices.IndexFunc(b.held, func(e entry) bool { return e.key == k })
}

// first is the message that comes next, for whom looks.
func (b *box) first(sight Sight) (e entry, ok bool) {
	for _, e := range b.held {
		if sight == Itself || sight == Another && !e.taken {
			return e, true
		}
	}
	return e, false
}

func aorOf(device string) string {
	aor, _, _ := strings.Cut(device, " ")
	return aor
}

// box returns a device's box, made if there is none. Under mu.
func (s *Service) box(device string) *box {
	if b := s.boxes[device]; b != nil {
		return b
	}
	b := &box{device: device, aor: aorOf(device)}
	s.boxes[device] = b
	if s.aors[b.aor] == nil {
		s.aors[b.aor] = make(map[string]*box)
	}
	s.aors[b.aor][device] = b
	return b
}

// tidy forgets a box that nothing is in. Under mu.
func (s *Service) tidy(b *box) {
	if len(b.held) > 0 || b.adding > 0 || b.working || len(b.line) > 0 {
		return
	}
	delete(s.boxes, b.device)
	if delete(s.aors[b.aor], b.device); len(s.aors[b.aor]) == 0 {
		delete(s.aors, b.aor)
	}
}

// enter notes a held message. Under mu.
func (s *Service) enter(b *box, e entry) bool {
	i, there := slices.BinarySearchFunc(b.held, e.seq, func(o entry, seq uint64) int {
		switch {
		case o.seq < seq:
			return -1
		case o.seq > seq:
			return 1
		}
		return 0
	})
	if there {
		return false
	}
	e.taken = s.recent.has(markOf(b.aor, e.key), time.Now())
	b.held = slices.Insert(b.held, i, e)
	s.counts[b.aor]++
	s.total.Add(1)
	return true
}

// leave notes that a message is not held any more. Under mu.
func (s *Service) leave(device string, seq uint64) bool {
	b := s.boxes[device]
	if b == nil {
		return false
	}
	i := slices.IndexFunc(b.held, func(e entry) bool { return e.seq == seq })
	if i < 0 {
		return false
	}
	b.held = slices.Delete(b.held, i, i+1)
	s.uncount(b.aor)
	s.total.Add(-1)
	if seq > s.seen {
		s.gone[seq] = struct{}{}
	}
	s.tidy(b)
	return true
}

func (s *Service) uncount(aor string) {
	if s.counts[aor]--; s.counts[aor] == 0 {
		delete(s.counts, aor)
	}
}

// had notes that a device has had a message. Under mu.
func (s *Service) had(device string, k key) {
	now, aor := time.Now(), aorOf(device)
	s.recent.add(markOf(device, k), now)
	s.recent.add(markOf(aor, k), now)
	for _, b := range s.aors[aor] {
		if i := b.find(k); i >= 0 {
			b.held[i].taken = true
		}
	}
}

// reserve takes a place for a message, or says why there is none. there is true
// for one that is held already. Under mu.
func (s *Service) reserve(b *box, k key, sender uint64) (there bool, err error) {
	if b.find(k) >= 0 {
		return true, nil
	}
	if sender != 0 {
		n := 0
		for i := range b.held {
			if b.held[i].sender == sender {
				n++
			}
		}
		if n >= s.cfg.PerSender {
			return false, ErrFull
		}
	}
	if len(b.held)+b.adding >= s.cfg.PerDevice && !s.makeRoom(b) {
		return false, ErrFull
	}
	if s.counts[b.aor] >= s.cfg.PerAOR {
		room := false
		for _, other := range s.aors[b.aor] {
			if room = s.makeRoom(other); room {
				break
			}
		}
		if !room {
			return false, ErrFull
		}
	}
	b.adding++
	s.counts[b.aor]++
	return false, nil
}

// makeRoom ends the oldest message of a box that another device of the user has
// had, if there is one. Under mu.
func (s *Service) makeRoom(b *box) bool {
	i := slices.IndexFunc(b.held, func(e entry) bool { return e.taken })
	if i < 0 {
		return false
	}
	device, seq := b.device, b.held[i].seq
	s.leave(device, seq)
	s.m.ended.WithLabelValues("made_room").Inc()
	s.workers.Go(func() { s.erase(seq, device) })
	return true
}

// hold stores a message.
func (s *Service) hold(ctx context.Context, device string, m Message) (h Holding, err error) {
	k := keyOf(m.ID)
	e := Entry{Device: device, Key: k.String(), Sender: senderOf(m.Sender), Added: m.Added, Expires: m.Expires}
	if e.Added.IsZero() {
		e.Added = time.Now()
	}
	if last := e.Added.Add(s.cfg.Keep); e.Expires.IsZero() || e.Expires.After(last) {
		e.Expires = last
	}
	if len(m.Data) > MaxSize {
		return 0, ErrTooBig
	}
	data := m.Data
	if s.cfg.Sealer != nil {
		data = s.cfg.Sealer.Seal(sealName(device, k), data)
	}
	s.mu.Lock()
	b := s.box(device)
	there, err := s.reserve(b, k, e.Sender)
	if there || err != nil {
		s.tidy(b)
		s.mu.Unlock()
		return Again, err
	}
	s.mu.Unlock()

	seq, added, err := s.store.Add(ctx, e, data)

	s.mu.Lock()
	defer s.mu.Unlock()
	b.adding--
	s.uncount(b.aor)
	switch {
	case err != nil:
	case added && s.recent.has(markOf(device, k), time.Now()): // its answer came just now
		h = Over
		if seq > s.seen {
			s.gone[seq] = struct{}{}
		}
		s.workers.Go(func() { s.erase(seq, device) })
	case added:
		if _, gone := s.gone[seq]; !gone {
			e.Seq = seq
			s.enter(b, entryOf(e, k))
		}
	default:
		h = Over
		if slices.ContainsFunc(b.held, func(o entry) bool { return o.seq == seq }) {
			h = Again
		}
	}
	s.tidy(b)
	return h, err
}

// remove ends a held message, and counts why. It reports whether it was this
// core that did.
func (s *Service) remove(seq uint64, device, outcome string) bool {
	removed := s.erase(seq, device)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leave(device, seq) {
		s.m.ended.WithLabelValues(outcome).Inc()
	}
	return removed
}

// erase takes a message out of the store, and reports whether it was there.
func (s *Service) erase(seq uint64, device string) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), storeTimeout)
	defer cancel()
	removed, err := s.store.Remove(ctx, device, seq)
	if err != nil {
		s.log.Warn("message not removed from the store: it may be delivered again", "err", err)
	}
	return removed
}

// storeTimeout bounds what is asked of the store.
const storeTimeout = 5 * time.Second
