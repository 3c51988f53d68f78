package session

import "time"

// kind is whose a stanza is that raises the numbers towards the server.
type kind uint8

const (
	theirs   kind = iota // the client's, and forwarded
	ours                 // the core's own
	consumed             // the client's, and for the core
)

// run is a number of stanzas of one kind.
type run struct {
	kind kind
	n    uint64
}

// up is the direction from the client to the server. No stanza is kept: the
// client keeps what was not acknowledged to it, and it is told what the server
// acknowledged.
type up struct {
	acked uint64 // the server's h
	out   uint64 // sent to the server, or waiting in pending
	din   uint64 // the client's stanzas that are dealt with, as of acked
	in    uint64 // the client's stanzas
	runs  []run  // behind acked

	dirty   bool      // runs have what is not on disk
	gate    uint64    // op that puts the newest of it there
	pending []waiting // in order; they wait for a gate
	bytes   int       // of pending

	asked    bool   // <r/> is out
	askedFor uint64 // what out was then
}

// waiting is a stanza that has to wait for the disk.
type waiting struct {
	raw  []byte
	gate uint64
}

// add notes a stanza.
func (u *up) add(k kind) {
	if n := len(u.runs); n > 0 && u.runs[n-1].kind == k {
		u.runs[n-1].n++
	} else {
		u.runs = append(u.runs, run{k, 1})
	}
	if k != consumed {
		u.out++
	}
	if k != ours {
		u.in++
	}
}

// advance takes an acknowledgement of n more stanzas. What is left when the
// runs are used up was the client's.
func (u *up) advance(n uint64) {
	u.acked += n
	for n > 0 {
		u.passConsumed()
		if len(u.runs) == 0 {
			u.din += n
			return
		}
		r := &u.runs[0]
		k := min(n, r.n)
		if r.kind == theirs {
			u.din += k
		}
		n -= k
		if r.n -= k; r.n == 0 {
			u.drop()
		}
	}
}

// passConsumed counts what the core dealt with itself and the server need not
// acknowledge.
func (u *up) passConsumed() {
	for len(u.runs) > 0 && u.runs[0].kind == consumed {
		u.din += u.runs[0].n
		u.drop()
	}
}

func (u *up) drop() {
	if u.runs = u.runs[1:]; len(u.runs) == 0 {
		u.runs = nil
	}
}

// sent is how much of out has left.
func (s *Session) sentUp() uint64 { return s.up.out - uint64(len(s.up.pending)) }

// toServer sends a stanza on, or keeps it until what it depends on is on disk.
// One for which there is no place is not counted: the client sends it again.
func (s *Session) toServer(k kind, raw []byte) {
	if !s.server {
		return
	}
	u := &s.up
	waits := k != consumed && s.resumable && (k != theirs || u.gate > s.log.done)
	if waits && u.bytes+len(raw) > maxPending || len(u.runs) >= mostRuns {
		s.closeClient(streamError("resource-constraint", ""))
		return
	}
	u.add(k)
	if len(u.runs) > maxRuns {
		s.askServer()
	}
	if k != theirs && s.resumable {
		s.markUp()
	}
	if k == consumed {
		if !s.resumable {
			s.passSafe()
		}
		return
	}
	if waits {
		u.bytes += len(raw)
		u.pending = append(u.pending, waiting{append([]byte(nil), raw...), u.gate})
		return
	}
	s.out.ToServer(raw)
	s.written(1)
}

// written is told how many stanzas left. A server that does not count has
// them.
func (s *Session) written(n uint64) {
	if s.smState == smNone {
		s.up.advance(n)
		s.passSafe()
	}
}

// markUp says that the numbers towards the server deviate.
func (s *Session) markUp() { s.up.dirty, s.up.gate = true, s.log.started+1 }

// flushUp sends what waited for the disk.
func (s *Session) flushUp() {
	u := &s.up
	n := 0
	for ; n < len(u.pending) && u.pending[n].gate <= s.log.done; n++ {
		u.bytes -= len(u.pending[n].raw)
		s.out.ToServer(u.pending[n].raw)
	}
	if u.pending = u.pending[n:]; len(u.pending) == 0 {
		u.pending = nil
	}
	s.written(uint64(n))
	s.passSafe()
	if n > 0 && (s.owes > 0 || s.resuming) { // the server was asked about less
		s.askServer()
	}
}

// passSafe counts what was consumed, once that is on disk.
func (s *Session) passSafe() {
	if !s.resumable || s.up.gate <= s.log.done {
		s.up.passConsumed()
	}
}

// askServer asks what the server has.
func (s *Session) askServer() {
	if s.smState == smOn && !s.up.asked && s.server {
		s.up.asked, s.up.askedFor = true, s.sentUp()
		s.out.ToServer(requestAck)
	}
}

// serverAck takes the server's <a/>. A number that cannot be is passed over:
// the client is told less.
func (s *Session) serverAck(h uint32) {
	s.up.asked = false
	n := uint64(h - uint32(s.up.acked))
	if n > s.sentUp()-s.up.acked {
		return
	}
	s.up.advance(n)
	s.passSafe()
	if s.up.askedFor < s.sentUp() && (s.owes > 0 || s.resuming) {
		s.askServer()
	}
}

// answerClient answers the client's <r/> once all it sent is dealt with.
func (s *Session) answerClient(n int64) {
	if s.owes == 0 || s.up.din != s.up.in {
		return
	}
	s.owes = 0
	s.sendAck()
}

// sendAck tells the client what is dealt with.
func (s *Session) sendAck() {
	if s.attached && s.sm {
		s.out.ToClient(ackOf(s.up.din))
	}
}

const (
	// maxRuns is how much the numbers may deviate before the server is asked, so
	// that they are forgotten.
	maxRuns = 16
	// mostRuns is how much they may while the server does not answer.
	mostRuns = 256
)

// Ask sends a stanza of the core's own to the server. The answer, if there is
// one, is for [Session.Skip].
func (s *Session) Ask(now time.Time, p []byte) {
	s.own(p)
	s.settle(now)
}

// own sends a stanza of the core's own to the server.
func (s *Session) own(p []byte) {
	s.toServer(ours, p)
}
