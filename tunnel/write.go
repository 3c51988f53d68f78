package tunnel

import (
	"net"
	"time"

	"sallyport/tunnel/frame"
)

const (
	// maxPiece is written before control frames get their turn again.
	maxPiece = 64 << 10
	// chunk is one TLS record. The peer has deadAfter to take it: 22 kbit/s
	// are alive, and a queue of a megabyte is no reason to hang up.
	chunk = 16 << 10
	// maxKept is the largest buffer kept for the next batch.
	maxKept = 1 << 20
	// softRing is how much is kept for the peer to acknowledge before data
	// waits, hardRing before control frames do. It is a second at 32 Mbit/s.
	softRing, hardRing = 4 << 20, 8 << 20
	// ackEvery is how many bytes are handled before the peer is told at once,
	// ackAlong before it is told with whatever else is written.
	ackEvery, ackAlong = 64 << 10, 4 << 10
)

// write writes to c what the link has queued until c breaks, and then closes
// the connection. Frames of the carrier go first, control frames next, and
// again between pieces of data.
func (l *link) write(c *carrier) {
	var out, head, tail []byte
	whole, more := true, true // the peer got whole frames only
	for {
		if out, head, tail, more = l.take(c, out[:0]); !more {
			break
		}
		if n := min(len(head), chunk-len(out)); len(out) > 0 && n > 0 {
			out, head = append(out, head[:n]...), head[n:]
		}
		whole = l.put(c, out) && l.put(c, head) && l.put(c, tail)
		if cap(out) > maxKept {
			out = nil
		}
	}
	l.hangUp(c, whole)
}

// take waits for work. It appends the frames of this carrier to out, and
// returns the sequenced ones that go next in up to two parts, which are valid
// until the next call. more is false when c has ended.
func (l *link) take(c *carrier, out []byte) (first, head, tail []byte, more bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ring.written()
	if !l.s.resumes() {
		l.ring.acked = l.ring.sent
		l.ring.drop()
	}
	for c.err == nil {
		l.fill()
		if len(l.urgent)+len(l.pong)+l.ring.unsent() > 0 || l.ackNow {
			head, tail = l.ring.next(maxPiece)
			return l.takeUrgent(out), head, tail, true
		}
		if c.leaving && len(l.control)+len(l.data)+len(l.taken) == 0 {
			break
		}
		l.work.Wait()
	}
	return out, nil, nil, false
}

// fill moves frames into the ring: all control frames, and one piece of data.
func (l *link) fill() {
	if l.ring.acked == l.ring.end {
		l.moving = time.Now()
	}
	if len(l.control) > 0 && l.ring.held() < hardRing {
		l.ring.put(l.control)
		if l.control = l.control[:0]; cap(l.control) > maxKept {
			l.control = nil
		}
	}
	if l.ring.unsent() >= maxPiece || l.ring.held() >= softRing {
		return
	}
	if len(l.taken) == 0 {
		if len(l.data) == 0 {
			l.written = l.batch - 1
			return
		}
		l.taken, l.data = l.data, l.taken
		l.batch++
		l.wakeRoom(roomAtOnce)
	}
	n := cut(l.taken[l.into:], maxPiece-l.ring.unsent())
	l.ring.put(l.taken[l.into : l.into+n])
	if l.into += n; l.into == len(l.taken) {
		l.into, l.taken, l.written = 0, l.taken[:0], l.batch-1
		if cap(l.taken) > maxKept {
			l.taken = nil
		}
	}
}

// takeUrgent appends the frames of the carrier, and an ACK if it is due.
func (l *link) takeUrgent(out []byte) []byte {
	out = append(out, l.urgent...)
	if l.urgent = l.urgent[:0]; cap(l.urgent) > maxKept {
		l.urgent = nil
	}
	if len(l.pong) > 0 {
		out = frame.Append(out, frame.TypePong, 0, l.pong)
		l.pong = l.pong[:0]
	}
	if rx := l.rx.Load(); l.s.resumes() && (l.ackNow || rx-l.acked >= ackAlong) {
		out = frame.AppendUint64(out, frame.TypeAck, rx)
		l.acked, l.ackNow = rx, false
	}
	return out
}

// askAck has the writer tell the peer what was handled, if it does not know.
func (l *link) askAck() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.s.resumes() && l.rx.Load() != l.acked {
		l.ackNow = true
		l.work.Signal()
	}
}

// cut returns the length of the longest run of whole frames in b that is not
// longer than limit, or that of the first frame.
func cut(b []byte, limit int) int {
	if len(b) <= limit {
		return len(b)
	}
	n := 0
	for n < len(b) {
		next := n + frame.HeaderLen + int(b[n])<<16 + int(b[n+1])<<8 + int(b[n+2])
		if next > limit && n > 0 {
			break
		}
		n = next
	}
	return n
}

// put writes p, each chunk within deadAfter.
func (l *link) put(c *carrier, p []byte) bool {
	for len(p) > 0 {
		if !l.allow(c) {
			return false
		}
		n := min(len(p), chunk)
		if _, err := c.conn.Write(p[:n]); err != nil {
			l.broke(c, lost(err), 0)
			return false
		}
		l.s.metrics.sent.Add(float64(n))
		p = p[n:]
	}
	return true
}

// allow sets the deadline of the next write, unless c has ended and set the
// last one.
func (l *link) allow(c *carrier) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return c.err == nil && c.conn.SetWriteDeadline(time.Now().Add(l.s.deadAfter)) == nil
}

// hangUp says goodbye, if there is something to say and the peer can make
// sense of it, and closes the connection.
func (l *link) hangUp(c *carrier, whole bool) {
	l.mu.Lock()
	bye, left := c.bye, c.leaving && c.err == nil
	l.mu.Unlock()
	if left {
		bye = frame.AppendGoAway(nil, frame.GoAwayLeaving, "")
		_ = c.conn.SetWriteDeadline(time.Now().Add(byeWithin))
	}
	if bye != nil && whole {
		_, _ = c.conn.Write(bye)
	}
	if !left {
		// TLS would try for seconds to tell a dead peer that this is the end.
		if under, ok := c.conn.(interface{ NetConn() net.Conn }); ok {
			_ = under.NetConn().Close()
		}
	}
	_ = c.conn.Close()
	l.broke(c, errLeft, 0)
}
