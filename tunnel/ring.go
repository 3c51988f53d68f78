package tunnel

import (
	"encoding/binary"
	"fmt"

	"sallyport/tunnel/frame"
)

// A ring keeps the sequenced frames of a link from when the writer takes them
// until the peer has acknowledged them, so that they can be written again.
// Offsets count the sequenced bytes of the link's life. It is not safe for
// concurrent use; slices it returned stay as they are until written is called.
type ring struct {
	buf   []byte // its length is a power of two, or 0
	base  uint64 // offset of the oldest byte kept
	acked uint64 // what the peer has handled; base follows it
	busy  uint64 // bytes from here to sent are in a Write call
	sent  uint64 // offset after the newest byte given to a carrier
	end   uint64 // offset after the newest byte
}

const (
	minRing = 16 << 10
	// keptRing is the largest buffer kept while nothing happens.
	keptRing = 256 << 10
)

// held is how many bytes are kept.
func (r *ring) held() int { return int(r.end - r.base) }

// unsent is how many bytes are still to be given to a carrier.
func (r *ring) unsent() int { return int(r.end - r.sent) }

// put appends whole frames.
func (r *ring) put(p []byte) {
	if need := r.held() + len(p); need > len(r.buf) {
		r.grow(need)
	}
	at := int(r.end) & (len(r.buf) - 1)
	n := copy(r.buf[at:], p)
	copy(r.buf, p[n:])
	r.end += uint64(len(p))
}

// grow makes room for need bytes. A slice that is being written goes on
// showing the old buffer, which nobody changes any more.
func (r *ring) grow(need int) {
	size := max(minRing, 2*len(r.buf))
	for size < need {
		size *= 2
	}
	buf := make([]byte, size)
	for at := r.base; at < r.end; {
		part := r.view(at, r.end)
		copy(buf[int(at)&(size-1):], part)
		if split := size - int(at)&(size-1); split < len(part) {
			copy(buf, part[split:])
		}
		at += uint64(len(part))
	}
	r.buf = buf
}

// view returns the bytes from one offset to another, or those of them that lie
// in one piece.
func (r *ring) view(from, to uint64) []byte {
	at := int(from) & (len(r.buf) - 1)
	return r.buf[at:min(len(r.buf), at+int(to-from))]
}

// next takes the frames to be written next: as many whole ones as fit in
// limit, or one, in up to two parts.
func (r *ring) next(limit int) (head, tail []byte) {
	from := r.sent
	if r.unsent() <= limit {
		r.sent = r.end
	} else {
		for r.sent < r.end {
			n := uint64(frame.HeaderLen + r.frameLen(r.sent))
			if r.sent+n > from+uint64(limit) && r.sent > from {
				break
			}
			r.sent = min(r.sent+n, r.end)
		}
	}
	if from == r.sent {
		return nil, nil
	}
	head = r.view(from, r.sent)
	if rest := from + uint64(len(head)); rest < r.sent {
		tail = r.view(rest, r.sent)
	}
	return head, tail
}

// frameLen is the length of the payload of the frame that begins at an offset.
func (r *ring) frameLen(at uint64) int {
	var b [4]byte
	for i := range b {
		b[i] = r.buf[int(at+uint64(i))&(len(r.buf)-1)]
	}
	return int(binary.BigEndian.Uint32(b[:]) >> 8)
}

// written is called when what next returned is in nobody's hands any more.
func (r *ring) written() {
	r.busy = r.sent
	r.drop()
}

// ack is told that the peer has handled everything up to an offset.
func (r *ring) ack(to uint64) error {
	if to < r.acked || to > r.sent {
		return fmt.Errorf("%w: ACK of %d after %d of %d", errProtocol, to, r.acked, r.sent)
	}
	r.acked = to
	r.drop()
	return nil
}

// drop forgets what is acknowledged and not being written.
func (r *ring) drop() {
	r.base = max(r.base, min(r.acked, r.busy))
}

// shrink gives a large buffer back that is empty, and was when end was last.
func (r *ring) shrink(last uint64) {
	if r.base == r.end && r.end == last && len(r.buf) > keptRing {
		r.buf = nil
	}
}

// knows tells whether a peer that has handled everything up to an offset can
// be served from here.
func (r *ring) knows(to uint64) bool { return to >= r.base && to <= r.sent }

// rewind begins again behind what the peer says it has handled, which the ring
// knows. It returns how many bytes it had given out for nothing.
func (r *ring) rewind(to uint64) int {
	again := int(r.sent - to)
	r.acked, r.busy, r.sent = to, to, to
	r.drop()
	return again
}
