package session

import (
	"encoding/binary"
	"fmt"
)

// Both begin with this.
const (
	recordVersion = 1
	entryVersion  = 1
)

// What a record says in a byte.
const (
	recResumable = 1 << iota
	recRetired
	recAway
	recPushable
	recServerSM
)

const (
	maxPrevid = 512
	maxJID    = 3071 // RFC 7622 §3.1
	maxRunsIn = 4096
	maxDrops  = 1 << 16
)

// marks are the numbers both legs have reached.
type marks struct {
	seq   uint64 // of the op that wrote them
	epoch uint32
	d, u  uint64 // what the last of the queue is to the client and to the server
	up    up     // acked, din and runs
}

// record is what a record says.
type record struct {
	marks
	flags           uint8
	id, jid, previd string
	keeps, since    int64
	voidPos         uint64 // no item of an entry before is needed…
	voidIdx         uint16 // …or in that one before this
	presence        []byte
}

// entry is what an entry says: what was superseded, what came, and how many
// that waited for this login follow. d counts before all that, u after it.
type entry struct {
	marks
	replay uint64
	drops  []uint64
	items  []item
}

func (s *Session) encodeRecord() []byte {
	d := &s.down
	r := record{
		marks:   s.marks(d.uGiven),
		id:      s.cfg.ID,
		jid:     s.cfg.JID,
		previd:  s.previd,
		keeps:   s.keeps,
		since:   s.since,
		voidPos: 0,
	}
	r.voidPos, r.voidIdx = s.firstKept()
	for bit, on := range map[uint8]bool{
		recResumable: s.resumable, recRetired: s.retired, recAway: s.away,
		recPushable: s.cfg.Pushable, recServerSM: s.smState == smOn,
	} {
		if on {
			r.flags |= bit
		}
	}
	if s.away {
		r.presence = s.presence
	}
	return r.encode()
}

// marks are the numbers as of what was given to entries.
func (s *Session) marks(u uint64) marks {
	d := &s.down
	return marks{
		seq: s.log.started, epoch: s.epoch,
		d: d.acked + uint64(d.given) + uint64(len(d.drops)),
		u: u, up: s.up,
	}
}

// encodeEntry writes the next n items and all that deviates.
func (s *Session) encodeEntry(n int, u uint64, replay bool) []byte {
	d := &s.down
	e := entry{marks: s.marks(u), drops: d.drops}
	if replay {
		e.replay = uint64(len(d.waiting))
	}
	e.items = d.q[d.given : d.given+n]
	for i := range e.items {
		e.items[i].idx = uint16(i)
	}
	return e.encode()
}

func (r *record) encode() []byte {
	b := append([]byte{recordVersion}, r.flags)
	b = r.marks.encode(b)
	for _, v := range [...]uint64{uint64(r.keeps), uint64(r.since), r.voidPos, uint64(r.voidIdx)} {
		b = binary.AppendUvarint(b, v)
	}
	for _, v := range [...]string{r.id, r.jid, r.previd, string(r.presence)} {
		b = binary.AppendUvarint(b, uint64(len(v)))
		b = append(b, v...)
	}
	return b
}

func (e *entry) encode() []byte {
	size := 64
	for i := range e.items {
		size += len(e.items[i].raw) + 32
	}
	b := e.marks.encode(append(make([]byte, 0, size), entryVersion))
	b = binary.AppendUvarint(b, e.replay)
	b = binary.AppendUvarint(b, uint64(len(e.drops)))
	for _, d := range e.drops {
		b = binary.AppendUvarint(b, d)
	}
	b = binary.AppendUvarint(b, uint64(len(e.items)))
	for i := range e.items {
		it := &e.items[i]
		b = append(b, it.flags&storedFlags)
		b = binary.AppendUvarint(b, it.u)
		b = binary.AppendUvarint(b, uint64(it.at))
		b = binary.AppendUvarint(b, uint64(len(it.raw)))
		b = append(b, it.raw...)
	}
	return b
}

func (m *marks) encode(b []byte) []byte {
	for _, v := range [...]uint64{m.seq, uint64(m.epoch), m.d, m.u, m.up.acked, m.up.din, uint64(len(m.up.runs))} {
		b = binary.AppendUvarint(b, v)
	}
	for _, r := range m.up.runs {
		b = binary.AppendUvarint(append(b, byte(r.kind)), r.n)
	}
	return b
}

// reader takes a record or an entry apart. After the first fault all it
// returns is nothing.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) byte() byte {
	if len(r.b) == 0 {
		r.bad = true
		return 0
	}
	v := r.b[0]
	r.b = r.b[1:]
	return v
}

func (r *reader) number(limit uint64) uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 || v > limit {
		r.b, r.bad = nil, true
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) bytes(limit int) []byte {
	n := r.number(uint64(limit))
	if r.bad || n > uint64(len(r.b)) {
		r.b, r.bad = nil, true
		return nil
	}
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v
}

const (
	any64 = 1<<64 - 1
	any62 = 1<<62 - 1
)

func (r *reader) marks() marks {
	m := marks{seq: r.number(any62), epoch: uint32(r.number(1<<32 - 1)), d: r.number(any62), u: r.number(any62)}
	m.up.acked, m.up.din = r.number(any62), r.number(any62)
	n := r.number(maxRunsIn)
	for range n {
		if r.bad {
			break
		}
		k := kind(r.byte())
		if k > consumed {
			r.bad = true
		}
		m.up.runs = append(m.up.runs, run{k, r.number(any62)})
	}
	return m
}

// end says whether all was read and nothing was wrong.
func (r *reader) end(what string) error {
	if r.bad || len(r.b) > 0 {
		return fmt.Errorf("%w: %s", ErrCorrupt, what)
	}
	return nil
}

func decodeRecord(b []byte) (*record, error) {
	r := reader{b: b}
	if r.byte() != recordVersion {
		r.bad = true
	}
	var rec record
	rec.flags = r.byte()
	rec.marks = r.marks()
	rec.keeps, rec.since = int64(r.number(any62)), int64(r.number(any62))
	rec.voidPos, rec.voidIdx = r.number(any64), uint16(r.number(1<<16-1))
	rec.id, rec.jid = string(r.bytes(maxPrevid)), string(r.bytes(maxJID))
	rec.previd = string(r.bytes(maxPrevid))
	rec.presence = append([]byte(nil), r.bytes(maxPresence)...)
	if len(rec.presence) == 0 {
		rec.presence = nil
	}
	return &rec, r.end("record")
}

// decodeEntry reads an entry; the bytes of its items are pieces of b.
func decodeEntry(b []byte) (*entry, error) {
	r := reader{b: b}
	if r.byte() != entryVersion {
		r.bad = true
	}
	e := &entry{marks: r.marks()}
	e.replay = r.number(any62)
	for n := r.number(maxDrops); n > 0 && !r.bad; n-- {
		e.drops = append(e.drops, r.number(any62))
	}
	n := r.number(maxItems)
	for i := uint64(0); i < n && !r.bad; i++ {
		it := item{flags: r.byte() & storedFlags, idx: uint16(i)}
		it.u, it.at = r.number(any62), int64(r.number(any62))
		it.raw = r.bytes(MaxEntry)
		it.size = uint32(len(it.raw))
		e.items = append(e.items, it)
	}
	return e, r.end("entry")
}
