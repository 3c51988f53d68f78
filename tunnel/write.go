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
)

// write writes what the session has queued until it ends, and then closes the
// connection. Control frames go first, and again between pieces of data.
func (s *session) write() {
	var control, data []byte
	whole := true // the peer got whole frames only
	for whole && s.take(&control, &data) {
		rest := data
		for whole && len(control)+len(rest) > 0 {
			limit := maxPiece
			if len(control) > 0 {
				limit = chunk // small enough to be copied
			}
			n := cut(rest, limit)
			piece := rest[:n]
			if len(control) > 0 {
				control = append(control, piece...)
				piece = control
			}
			whole = s.put(piece)
			rest, control = rest[n:], s.takeControl(control)
		}
	}
	s.hangUp(whole)
}

// take waits for work and swaps what is queued for the buffers given, which
// were written. It returns false when the session has ended.
func (s *session) take(control, data *[]byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.written = s.batch - 1
	if cap(*data) > maxKept {
		*data = nil
	}
	for len(s.control)+len(s.data)+len(s.pong) == 0 && s.err == nil && !s.leaving {
		s.work.Wait()
	}
	if s.err != nil || s.leaving && len(s.data) == 0 {
		return false
	}
	*control = s.swapControl(*control)
	*data, s.data = s.data, (*data)[:0]
	s.batch++
	s.wakeRoom(roomAtOnce)
	return true
}

// takeControl is take for control frames alone. It does not wait.
func (s *session) takeControl(written []byte) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.swapControl(written)
}

func (s *session) swapControl(written []byte) []byte {
	if len(s.pong) > 0 {
		s.control = frame.Append(s.control, frame.TypePong, 0, s.pong)
		s.pong = s.pong[:0]
	}
	out := s.control
	if cap(written) > maxKept {
		written = nil
	}
	s.control = written[:0]
	return out
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
func (s *session) put(p []byte) bool {
	for len(p) > 0 {
		if !s.allow() {
			return false
		}
		n := min(len(p), chunk)
		if _, err := s.conn.Write(p[:n]); err != nil {
			s.fail(lost(err), 0)
			return false
		}
		s.metrics.sent.Add(float64(n))
		p = p[n:]
	}
	return true
}

// allow sets the deadline of the next write, unless the session has ended and
// set the last one.
func (s *session) allow() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err == nil && s.conn.SetWriteDeadline(time.Now().Add(s.deadAfter)) == nil
}

// hangUp says goodbye, if there is something to say and the peer can make
// sense of it, and closes the connection.
func (s *session) hangUp(whole bool) {
	s.mu.Lock()
	bye, left := s.bye, s.leaving && s.err == nil
	s.mu.Unlock()
	if bye != nil && whole {
		_, _ = s.conn.Write(bye)
	}
	if !left {
		// TLS would try for seconds to tell a dead peer that this is the end.
		if c, ok := s.conn.(interface{ NetConn() net.Conn }); ok {
			_ = c.NetConn().Close()
		}
	}
	_ = s.conn.Close()
	s.fail(errLeft, 0)
}
