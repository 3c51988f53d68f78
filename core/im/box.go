package im

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
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

// entry is a held message, as it is remembered.
type entry struct {
	seq     uint64
	key     string
	added   time.Time
	expires time.Time
}

// keyOf names a message at its device.
func keyOf(device, id string) string {
	sum := sha256.Sum256([]byte(device + "\x00" + id))
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

func sealName(device, key string) string { return "im/" + key + "/" + device }

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

// hold stores a message. over is true for one that was held, and is not any more.
func (s *Service) hold(ctx context.Context, device string, m Message) (over bool, err error) {
	e := Entry{Device: device, Key: keyOf(device, m.ID), Added: m.Added, Expires: m.Expires}
	if e.Added.IsZero() {
		e.Added = time.Now()
	}
	if last := e.Added.Add(s.cfg.Keep); e.Expires.IsZero() || e.Expires.After(last) {
		e.Expires = last
	}
	if len(m.Data) > MaxSize {
		return false, ErrTooBig
	}
	data := m.Data
	if s.cfg.Sealer != nil {
		data = s.cfg.Sealer.Seal(sealName(device, e.Key), data)
	}
	s.mu.Lock()
	b := s.box(device)
	if slices.ContainsFunc(b.held, func(o entry) bool { return o.key == e.Key }) {
		s.mu.Unlock()
		return false, nil
	}
	if len(b.held)+b.adding >= s.cfg.PerDevice || s.counts[b.aor] >= s.cfg.PerAOR {
		s.tidy(b)
		s.mu.Unlock()
		return false, ErrFull
	}
	b.adding++
	s.counts[b.aor]++ // its place is taken
	s.mu.Unlock()

	seq, added, err := s.store.Add(ctx, e, data)

	s.mu.Lock()
	defer s.mu.Unlock()
	b.adding--
	s.uncount(b.aor)
	switch {
	case err != nil:
	case added && s.recent.has(e.Key, time.Now()): // its answer came just now
		over = true
		if seq > s.seen {
			s.gone[seq] = struct{}{}
		}
		s.workers.Go(func() { s.erase(seq, device) })
	case added:
		if _, gone := s.gone[seq]; !gone {
			s.enter(b, entry{seq: seq, key: e.Key, added: e.Added, expires: e.Expires})
		}
	default:
		over = !slices.ContainsFunc(b.held, func(o entry) bool { return o.seq == seq })
	}
	s.tidy(b)
	return over, err
}

// remove ends a held message, and counts why.
func (s *Service) remove(seq uint64, device, outcome string) {
	s.erase(seq, device)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leave(device, seq) {
		s.m.ended.WithLabelValues(outcome).Inc()
	}
}

// erase takes a message out of the store.
func (s *Service) erase(seq uint64, device string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), storeTimeout)
	defer cancel()
	if err := s.store.Remove(ctx, device, seq); err != nil {
		s.log.Warn("message not removed from the store: it may be delivered again", "err", err)
	}
}

// storeTimeout bounds what is asked of the store.
const storeTimeout = 5 * time.Second
