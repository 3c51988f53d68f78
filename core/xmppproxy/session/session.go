package session

import (
	"time"
)

// What the protocol and good manners set.
const (
	// answerWithin is how long a client may leave <r/> unanswered and say
	// nothing at all before it counts as silent.
	answerWithin = 2 * time.Second
	// askWithin is how long the server may take to acknowledge what a client
	// asks about; then it is told less.
	askWithin = time.Second
	// resumeWithin is how long the server may take to acknowledge what a
	// returning client sent before.
	resumeWithin = 5 * time.Second
	// settleWithin is how long what a listening client did not acknowledge may
	// stay off the disk, and settleCount how much of it may.
	settleWithin = 2 * time.Second
	settleCount  = 64
	// retryAfter is the pause after the store failed.
	retryAfter = time.Second
	// iqWithin is how long a request waits for a client that is away.
	iqWithin = 30 * time.Second
	// maxAsks is how many do.
	maxAsks = 64
	// maxPresence is how long a presence may be to be kept, and changed.
	maxPresence = 16 << 10
	// maxPending is how much from the client may wait for the disk.
	maxPending = 1 << 20
	// windowBytes is how much of what waited is under way to a client.
	windowBytes = 256 << 10
)

// Session is one client's IM session. It starts nothing and has no lock: its
// caller calls one method at a time, with times that do not run backwards.
type Session struct {
	policy *Policy
	out    Out
	cfg    Config
	epoch  uint32 // how many logins it has seen

	shown State // as told by Changed

	// The client's leg.
	attached  bool  // there is a flow
	sm        bool  // it counts (XEP-0198)
	resumable bool  // and was promised that it can resume
	enabling  bool  // <enable/> is to be answered
	wantsBack bool  // it asked for resumption
	inactive  bool  // XEP-0352
	silent    bool  // it does not answer
	resuming  bool  // <resumed/> is to be sent
	heard     int64 // last sign of life
	asked     int64 // when <r/> was sent, 0: none is out
	askedFor  uint64
	owes      int64 // until when the client's own <r/> has to be answered, 0: none
	limit     int64 // until when resuming has to be over
	since     int64 // when the flow was lost or the session became what it is
	down      down

	// The server's leg.
	server  bool   // there is a stream
	smState smUp   // whether it counts
	previd  string // the server's
	keeps   int64  // how long the server keeps a lost stream, in ns
	uIn     uint64 // stanzas from it
	uSafe   uint64 // of them the client's or on disk
	uTold   uint64 // of them acknowledged
	uAsked  uint64 // it asked about
	up      up

	// Presence.
	presence []byte // the client's last, as it came
	awayAt   int64  // when to show away, 0: not now
	away     bool   // it is shown

	asks []ask // requests that wait for the client, oldest first

	retired, retiring, ended bool
	swapping                 bool // SwapReady is to be said or was
	swapAsked                bool // SwapReady was said
	swapH                    uint32
	restored                 bool // numbers are those of the journal

	quirk  quirk
	copies copies
	log    journal
}

type smUp uint8

const (
	smNone smUp = iota
	smAsked
	smOn
)

// ask is a request from somebody that waits.
type ask struct {
	u        uint64
	due      int64
	from, id string
}

// New begins a session whose JID was just bound. It asks the server to count.
func New(now time.Time, c Config, p *Policy, out Out) *Session {
	s := &Session{policy: p, out: out}
	s.begin(now, c)
	return s
}

// begin is the start of a login's numbers.
func (s *Session) begin(now time.Time, c Config) {
	s.cfg = c
	s.attached, s.server = true, true
	s.sm, s.resumable, s.enabling, s.inactive, s.silent, s.resuming = false, false, false, false, false, false
	s.heard, s.since = now.UnixNano(), now.UnixNano()
	s.asked, s.owes, s.askedFor, s.keeps = 0, 0, 0, 0
	s.smState, s.previd = smNone, ""
	s.uIn, s.uSafe, s.uTold, s.uAsked = 0, 0, 0, 0
	s.up = up{}
	s.presence, s.awayAt, s.away, s.asks = nil, 0, false, nil
	s.retired, s.retiring, s.swapping, s.restored = false, false, false, false
	s.quirk, s.copies, s.log.enableOp = quirk{}, copies{}, 0
	if c.ServerSM {
		s.smState = smAsked
		s.out.ToServer(enableServer)
	}
}

// ID returns the client's previd.
func (s *Session) ID() string { return s.cfg.ID }

// JID returns the full JID.
func (s *Session) JID() string { return s.cfg.JID }

// Handled returns how many of the client's stanzas were dealt with, modulo 2^32:
// the h of a <failed/> (XEP-0198 §5).
func (s *Session) Handled() uint32 { return uint32(s.up.din) }

// Held returns how many stanzas wait for the client, or for its
// acknowledgement.
func (s *Session) Held() int { return len(s.down.q) + len(s.down.waiting) }

// HeldBytes returns how long they are.
func (s *Session) HeldBytes() int { return s.down.bytes }

// Since returns when the session came, or its client was lost.
func (s *Session) Since() time.Time { return time.Unix(0, s.since) }

// Resumable reports whether the client can resume, by Resume or by a swap.
func (s *Session) Resumable() bool {
	return s.resumable && !s.enabling && !s.retired && !s.retiring && !s.ended
}

// Saved reports whether all that waits is on disk.
func (s *Session) Saved() bool { return s.ended || s.idle() && !s.log.putDue }

// Drop ends the session at once. The server keeps what it was not told is
// safe; what waits here is lost.
func (s *Session) Drop(now time.Time) {
	if !s.ended {
		s.breakOff()
		s.settle(now)
	}
}

// State returns where the session stands.
func (s *Session) State() State {
	switch {
	case s.ended:
		return Ended
	case s.retired && s.idle():
		return Retired
	case !s.server:
		return Orphan
	case !s.attached || s.resuming:
		return Away
	case s.inactive:
		return Inactive
	case s.silent:
		return Silent
	default:
		return Active
	}
}

// listening reports whether the client takes stanzas now.
func (s *Session) listening() bool {
	return s.attached && !s.resuming && !s.enabling && !s.inactive && !s.silent
}

// settle does what follows from what was told. It ends each input.
func (s *Session) settle(now time.Time) {
	if s.ended {
		s.tell()
		return
	}
	n := now.UnixNano()
	s.finishEnable()
	s.finishResume()
	s.pump(n)
	s.kick(n)
	s.ackServer()
	s.answerClient(n)
	s.finishSwap()
	s.finishRetire(n)
	s.kick(n) // what these ask for
	s.tell()
}

// tell says that the state changed.
func (s *Session) tell() {
	if st := s.State(); st != s.shown {
		s.shown = st
		s.out.Changed(st)
	}
}

// Next returns when [Session.Tick] is due, zero when nothing is.
func (s *Session) Next() time.Time {
	var first int64
	for _, at := range [...]int64{
		s.silentAt(), s.settleAt(), s.log.retryAt, s.log.noFetch, s.awayAt, s.askAt(), s.owes, s.limit, s.overAt(),
	} {
		if at > 0 && (first == 0 || at < first) {
			first = at
		}
	}
	if first == 0 || s.ended {
		return time.Time{}
	}
	return time.Unix(0, first)
}

// Tick does what is due.
func (s *Session) Tick(now time.Time) {
	if s.ended {
		return
	}
	n := now.UnixNano()
	due := func(at int64) bool { return at > 0 && n >= at }
	if due(s.silentAt()) {
		s.fallSilent(n)
	}
	if due(s.awayAt) {
		s.showAway(now)
	}
	s.answerAsks(n)
	if due(s.owes) {
		s.owes = 0
		s.sendAck()
	}
	if due(s.limit) { // the server does not answer
		s.limit = 0
		s.out.CloseServer(false)
		s.serverLost(n)
	}
	if due(s.overAt()) {
		s.over(n)
	}
	s.settle(now)
}

// overAt is when waiting for the client is over.
func (s *Session) overAt() int64 {
	wait := int64(s.policy.ResumeMax)
	switch {
	case s.retired:
		return s.since + int64(s.policy.Keep)
	case s.attached:
		return 0
	}
	if !s.server && s.keeps > 0 {
		wait = min(wait, s.keeps)
	}
	if most := int64(s.policy.Unpushable); !s.cfg.Pushable && most > 0 {
		wait = min(wait, most)
	}
	return s.since + wait
}

// over ends the wait: what the server was told is safe waits on for a new
// login, the rest is the server's.
func (s *Session) over(n int64) {
	if s.retired {
		s.end()
		return
	}
	if s.server {
		s.lastAck()
		s.out.CloseServer(false)
		s.server = false
		s.out.Alert(Relogin)
	}
	s.retire(n)
}

// end is the end of all.
func (s *Session) end() {
	s.ended = true
	s.down = down{}
	s.up = up{}
	s.asks, s.presence = nil, nil
	s.out.Remove()
}
