package transport

import (
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/edge/alarm"
)

// lot is where a Transport's sockets are parked. Its poller is there while a
// socket is: it begins with the first and ends with the last.
type lot struct {
	// Static after newLot.
	zero  time.Time    // where read deadlines are counted from
	clock *alarm.Clock // of read deadlines
	calls sync.Pool    // of *call

	// Guarded by mu.
	mu     sync.Mutex
	poller *poller
}

func newLot() *lot {
	return &lot{zero: time.Now(), clock: alarm.New(), calls: sync.Pool{New: newCall}}
}

// A poller waits for all parked sockets, with one goroutine that is itself
// parked in the runtime's poller. Sockets are known to the kernel by place and
// generation, never by descriptor or pointer: what the kernel says of a socket
// that is gone meanwhile is about nobody.
type poller struct {
	// Static after newPoller.
	lot   *lot
	epoll *os.File
	raw   syscall.RawConn
	work  chan Task     // to a worker that waits
	over  chan struct{} // closed when the last socket left
	idle  atomic.Int32  // workers that wait

	// Guarded by lot.mu.
	places []place
	free   []int32 // indexes of empty places
	parked int
}

// place is where one socket is, or was.
type place struct {
	socket     *parked
	generation int32
}

const (
	// readiness is asked for once per socket, edge by edge: a socket that is
	// being read is not asked for again, and its event is kept in its state.
	readiness = unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLET
	// lastWords are the conditions after which a read may be short and yet not
	// the last.
	lastWords = unix.EPOLLRDHUP | unix.EPOLLHUP | unix.EPOLLERR
	// maxWaiting workers are kept for what comes next, with their stacks.
	maxWaiting = 64
)

func newPoller(l *lot) (*poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		return nil, os.NewSyscallError("setnonblock", err)
	}
	p := &poller{lot: l, epoll: os.NewFile(uintptr(fd), "epoll"), work: make(chan Task), over: make(chan struct{})}
	if p.raw, err = p.epoll.SyscallConn(); err != nil {
		_ = p.epoll.Close()
		return nil, err
	}
	return p, nil
}

// enter gives s a place and has it watched.
func (l *lot) enter(s *parked) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.poller
	if p == nil {
		var err error
		if p, err = newPoller(l); err != nil {
			return err
		}
		l.poller = p
		go p.watch()
	}
	s.poller, s.place = p, p.take(s)
	event := unix.EpollEvent{Events: readiness, Fd: s.place, Pad: p.places[s.place].generation}
	var failed error
	err := p.raw.Control(func(epoll uintptr) {
		err := s.raw.Control(func(fd uintptr) {
			failed = os.NewSyscallError("epoll_ctl", unix.EpollCtl(int(epoll), unix.EPOLL_CTL_ADD, int(fd), &event))
		})
		if err != nil {
			failed = err
		}
	})
	if err == nil {
		err = failed
	}
	if err != nil {
		l.vacate(s)
	}
	return err
}

// leave gives the place of s up. The kernel forgets the socket when it is
// closed.
func (l *lot) leave(s *parked) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.vacate(s)
}

// vacate is leave while l.mu is held.
func (l *lot) vacate(s *parked) {
	p := s.poller
	p.places[s.place].socket = nil
	p.places[s.place].generation++
	p.free = append(p.free, s.place)
	if p.parked--; p.parked == 0 {
		l.poller = nil
		close(p.over)
		_ = p.epoll.Close()
	}
}

// take finds an empty place. lot.mu is held.
func (p *poller) take(s *parked) int32 {
	p.parked++
	if n := len(p.free); n > 0 {
		i := p.free[n-1]
		p.free = p.free[:n-1]
		p.places[i].socket = s
		return i
	}
	p.places = append(p.places, place{socket: s})
	return int32(len(p.places) - 1)
}

// watch waits for events and has the sockets read that are ready, until the
// epoll is closed.
func (p *poller) watch() {
	events := make([]unix.EpollEvent, 256)
	ready := make([]*parked, 0, len(events))
	var n int
	wait := func(epoll uintptr) bool {
		var err error
		for {
			if n, err = unix.EpollWait(int(epoll), events, 0); !errors.Is(err, unix.EINTR) {
				return n > 0
			}
		}
	}
	for p.raw.Read(wait) == nil {
		ready = p.look(events[:n], ready[:0])
		for i, s := range ready {
			p.hand(s)
			ready[i] = nil
		}
	}
}

// look finds the sockets that events are about and are to be read.
func (p *poller) look(events []unix.EpollEvent, ready []*parked) []*parked {
	p.lot.mu.Lock()
	defer p.lot.mu.Unlock()
	for i := range events {
		e := &events[i]
		at := &p.places[e.Fd]
		if at.socket == nil || at.generation != e.Pad {
			continue
		}
		if at.socket.rouse(e.Events&lastWords != 0) {
			ready = append(ready, at.socket)
		}
	}
	return ready
}

// hand gives t to a worker that waits, or to a new one: a worker may be held
// up by its task for as long as that likes.
func (p *poller) hand(t Task) {
	select {
	case p.work <- t:
	default:
		go p.serve(t)
	}
}

// serve does one task after another while there are some.
func (p *poller) serve(t Task) {
	for {
		t.Run()
		if p.idle.Add(1) > maxWaiting {
			p.idle.Add(-1)
			return
		}
		select {
		case t = <-p.work:
			p.idle.Add(-1)
		case <-p.over:
			return
		}
	}
}
