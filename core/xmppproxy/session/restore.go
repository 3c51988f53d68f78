package session

import (
	"slices"
	"time"
)

// Restore makes a session from its record and journal, after a restart: it is
// an orphan, or retired.
func Restore(now time.Time, p *Policy, out Out, data []byte, read func(each func(pos uint64, entry []byte) bool) error) (*Session, error) {
	rec, err := decodeRecord(data)
	if err != nil {
		return nil, err
	}
	f := fold{record: rec, seq: 0}
	var bad error
	if err := read(func(pos uint64, b []byte) bool {
		var e *entry
		if e, bad = decodeEntry(b); bad != nil {
			return false
		}
		f.take(pos, e)
		return true
	}); err != nil {
		return nil, err
	}
	if bad != nil {
		return nil, bad
	}
	return f.session(now, p, out), nil
}

// fold puts a journal together again.
type fold struct {
	record  *record
	seq     uint64
	last    marks // of the newest entry
	epoch   uint32
	q       []item
	waiting []item
	pos     uint64
	entries int
}

// take adds an entry. One that was written twice, because nobody knew that the
// first time had worked, counts once, where it was written last.
func (f *fold) take(pos uint64, e *entry) {
	was := f.pos
	f.pos = pos
	f.entries++
	if e.seq <= f.seq {
		for i := range f.q {
			if f.q[i].pos == was {
				f.q[i].pos = pos
			}
		}
		return
	}
	f.seq = e.seq
	f.newEpoch(e.epoch)
	d := e.d
	for _, no := range slices.Backward(e.drops) {
		if at := uint64(len(f.q)) - 1 - (d - no); no <= d && at < uint64(len(f.q)) {
			f.q = slices.Delete(f.q, int(at), int(at)+1)
		}
		d--
	}
	for _, it := range e.items {
		it.pos, it.raw = pos, nil
		it.flags |= isPushed | isLate
		f.q = append(f.q, it)
	}
	d += uint64(len(e.items))
	if e.replay > 0 {
		f.q = append(f.q, f.waiting...)
		d += e.replay
		f.waiting = nil
	}
	f.last = e.marks
	f.last.d = d
}

// newEpoch is another login: what was queued waits for its replay.
func (f *fold) newEpoch(epoch uint32) {
	if epoch == f.epoch {
		return
	}
	f.epoch = epoch
	for _, it := range f.q {
		if it.flags&isMessage != 0 {
			it.u = 0
			f.waiting = append(f.waiting, it)
		}
	}
	f.q = nil
}

// session makes the session. The newest of record and entries says the
// numbers.
func (f *fold) session(now time.Time, p *Policy, out Out) *Session {
	r := f.record
	m := f.last
	if r.seq > m.seq {
		f.newEpoch(r.epoch)
		m = r.marks
	}
	s := &Session{policy: p, out: out, epoch: m.epoch, previd: r.previd, keeps: r.keeps, since: now.UnixNano()}
	s.cfg = Config{ID: r.id, JID: r.jid, ServerSM: r.flags&recServerSM != 0, Pushable: r.flags&recPushable != 0}
	s.away, s.presence = r.flags&recAway != 0, r.presence
	s.sm, s.resumable, s.restored = true, r.flags&recResumable != 0, true
	if s.cfg.ServerSM {
		s.smState = smOn
	}
	s.log = journal{recorded: true, started: m.seq, done: m.seq, lastPos: max(f.pos, r.voidPos-min(r.voidPos, 1)), entries: f.entries}
	s.uIn, s.uSafe, s.uTold = m.u, m.u, m.u
	s.up = m.up
	void := func(it item) bool { return it.pos < r.voidPos || it.pos == r.voidPos && it.idx < r.voidIdx }
	d := &s.down
	d.q, d.waiting = slices.DeleteFunc(f.q, void), slices.DeleteFunc(f.waiting, void)
	d.acked = m.d - min(m.d, uint64(len(d.q)))
	d.assigned, d.given, d.onDisk, d.uGiven = len(d.q), len(d.q), len(d.q), m.u
	for _, q := range [...][]item{d.q, d.waiting} {
		for _, it := range q {
			d.bytes += int(it.size)
			s.log.items = true
		}
	}
	if r.flags&recRetired != 0 && r.since > 0 { // it waits since then
		s.since = min(s.since, r.since)
	}
	if r.flags&recRetired != 0 || !s.resumable || s.previd == "" || s.smState != smOn {
		s.retire(s.since)
	}
	s.shown = s.State()
	return s
}
