package transport

import (
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/edge/alarm"
)

// parked is a TCP socket that can be parked. Until begin it is read as any
// other. From then on its Read never waits, it is read by one worker at a time,
// and while there is nothing to read nobody holds it:
//
//	          event, alarm or Close               nothing left to read
//	parked ───────────────────────▶ being read ──────────────────────▶ parked
//	                                    └──▶ ended
//
// Its writes go through the runtime's poller as before. It is closed only by
// the runtime, and read only while the runtime holds it open for that, so that
// a descriptor that was given to another connection is never touched.
type parked struct {
	paced // Conn is the *net.TCPConn

	// Static after begin.
	t      *Transport
	raw    syscall.RawConn
	poller *poller
	place  int32
	reader reader

	state atomic.Uint32

	// Owned by who has it read.
	dry bool // the last read was short, and no event has come since

	alarm    alarm.Alarm
	deadline atomic.Int64 // of reading, as time since lot.zero; 0: none
}

// The state of a parked socket.
const (
	begun uint32 = 1 << iota // it may be parked
	busy                     // it is being read
	again                    // and something has come since
	last                     // the client ended its side, or the socket broke
)

func (t *Transport) paced(c net.Conn) net.Conn {
	if tcp, ok := c.(*net.TCPConn); ok {
		if raw, err := tcp.SyscallConn(); err == nil {
			return &parked{paced: paced{Conn: c, timeout: t.cfg.WriteTimeout}, t: t, raw: raw}
		}
	}
	return &paced{Conn: c, timeout: t.cfg.WriteTimeout}
}

// parkable reports whether park may work on c.
func parkable(c net.Conn) bool {
	_, ok := bottom(c).(*parked)
	return ok
}

// park has r read from the socket at the bottom of c, and reports whether that
// can be done.
func (t *Transport) park(c net.Conn, r reader) bool {
	s, ok := bottom(c).(*parked)
	if !ok {
		return false
	}
	s.reader = r
	s.state.Store(begun | busy)
	if err := t.lot.enter(s); err != nil {
		s.state.Store(0)
		if !errors.Is(err, net.ErrClosed) {
			t.cfg.Log.Warn("a connection cannot be parked and takes a goroutine", "err", err)
		}
		return false
	}
	s.poller.hand(s)
	return true
}

// Run reads until there is nothing left, and parks, or until the end.
func (s *parked) Run() {
	for {
		s.dry = false
		err := s.reader.read(false)
		if !errors.Is(err, errIdle) {
			s.t.lot.clock.Stop(s)
			if s.throttle != nil {
				s.t.lot.clock.Stop(s.throttle)
			}
			s.t.lot.leave(s)
			s.reader.over(err)
			return
		}
		if s.rest() {
			return
		}
	}
}

// rouse notes that there is something to read or to find out, and reports
// whether it is for the caller to have it read: nobody is at it.
func (s *parked) rouse(end bool) bool {
	for {
		old := s.state.Load()
		next := old | busy
		if old&busy != 0 {
			next |= again
		}
		if end {
			next |= last
		}
		if s.state.CompareAndSwap(old, next) {
			return old&busy == 0
		}
	}
}

// rest parks the socket, unless something came while it was read.
func (s *parked) rest() bool {
	for {
		old := s.state.Load()
		next, parked := old&^busy, true
		if old&again != 0 {
			next, parked = old&^again, false
		}
		if s.state.CompareAndSwap(old, next) {
			return parked
		}
	}
}

func (s *parked) begun() bool { return s.state.Load()&begun != 0 }

// pool has workers for c's tasks; nil where it has none.
func pool(c net.Conn) interface{ hand(Task) } {
	if s, ok := bottom(c).(*parked); ok && s.begun() {
		return s.poller
	}
	return nil
}

// wake has the socket looked at, whatever it waits for.
func (s *parked) wake() {
	if s.begun() && s.rouse(false) {
		s.poller.hand(s)
	}
}

// Alarm and Ring make it a sleeper: its alarm is its read deadline.
func (s *parked) Alarm() *alarm.Alarm { return &s.alarm }

// Ring has the deadline found out by the next read.
func (s *parked) Ring() { s.wake() }

// hold has the socket read no faster than th allows.
func (s *parked) hold(th *throttle) {
	th.wake = s.wake
	s.throttle = th
}

// Read reads what is there. It fails with errIdle where it would have to wait.
func (s *parked) Read(p []byte) (int, error) {
	if !s.begun() {
		return s.paced.Read(p)
	}
	if d := s.deadline.Load(); d != 0 && time.Since(s.t.lot.zero) >= time.Duration(d) {
		return 0, os.ErrDeadlineExceeded
	}
	if s.throttle != nil {
		if wait := s.throttle.wait(); wait > 0 {
			s.t.lot.clock.Set(s.throttle, time.Now().Add(wait))
			return 0, errIdle
		}
	}
	if s.dry && s.state.Load()&last == 0 {
		return 0, errIdle
	}
	n, err := s.t.lot.syscall(s.raw, readCall, p)
	switch {
	case errors.Is(err, unix.EAGAIN):
		return 0, errIdle
	case err != nil:
		return 0, &net.OpError{Op: "read", Net: "tcp", Source: s.LocalAddr(), Addr: s.RemoteAddr(), Err: err}
	case n == 0 && len(p) > 0:
		return 0, io.EOF
	}
	if s.throttle != nil {
		s.throttle.took(n)
	}
	s.dry = n < len(p)
	return n, nil
}

// Write writes what the socket takes at once, and waits for the rest, with a
// deadline.
func (s *parked) Write(p []byte) (int, error) {
	if s.bounded() {
		return s.paced.Write(p)
	}
	n, err := s.t.lot.syscall(s.raw, writeCall, p)
	if err != nil {
		n = 0 // EAGAIN is waited out; any other error is told again
	}
	if n == len(p) {
		return n, nil
	}
	more, err := s.paced.Write(p[n:])
	return n + more, err
}

// SetReadDeadline is the clock's business once the socket is parked: no timer
// of its own.
func (s *parked) SetReadDeadline(at time.Time) error {
	switch {
	case !s.begun():
		return s.Conn.SetReadDeadline(at)
	case at.IsZero():
		s.deadline.Store(0)
		s.t.lot.clock.Stop(s)
	default:
		s.deadline.Store(max(int64(at.Sub(s.t.lot.zero)), 1))
		s.t.lot.clock.Set(s, at)
	}
	return nil
}

func (s *parked) SetDeadline(at time.Time) error {
	return errors.Join(s.SetReadDeadline(at), s.SetWriteDeadline(at))
}

// Close closes the socket and has the reader hear of it.
func (s *parked) Close() error {
	err := s.Conn.Close()
	s.wake()
	return err
}

// call is one system call on a socket that is held open meanwhile. Calls are
// pooled, so that none of them allocates.
type call struct {
	do  func(fd uintptr)
	fn  func(fd int, p []byte) (int, error)
	p   []byte
	n   int
	err error
}

var (
	readCall  = unix.Read
	writeCall = unix.Write
)

func newCall() any {
	c := new(call)
	c.do = func(fd uintptr) {
		for {
			if c.n, c.err = c.fn(int(fd), c.p); !errors.Is(c.err, unix.EINTR) {
				return
			}
		}
	}
	return c
}

// syscall does fn on the socket, without waiting.
func (l *lot) syscall(raw syscall.RawConn, fn func(int, []byte) (int, error), p []byte) (int, error) {
	c := l.calls.Get().(*call)
	c.fn, c.p = fn, p
	err := raw.Control(c.do)
	if err == nil {
		err = c.err
	}
	n := c.n
	c.fn, c.p, c.err, c.n = nil, nil, nil, 0
	l.calls.Put(c)
	return n, err
}
