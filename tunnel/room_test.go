package tunnel_test

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"testing"
	"time"
)

// A room is a network in memory with one place to listen, for use in synctest
// bubbles.
type room struct {
	calls  chan net.Conn
	closed chan struct{}
	once   sync.Once
	rate   int        // bytes a second, each way; 0 is any
	fuse   func() int // bytes after which the next cable is cut; nil or 0: never

	mu     sync.Mutex
	cables []*cable
	dials  int
	down   bool // new calls get no connection
}

func newRoom(t testing.TB) *room {
	r := &room{calls: make(chan net.Conn), closed: make(chan struct{})}
	t.Cleanup(func() {
		for _, c := range r.cables {
			c.cut()
		}
	})
	return r
}

func (r *room) Accept() (net.Conn, error) {
	select {
	case c := <-r.calls:
		return c, nil
	case <-r.closed:
		return nil, net.ErrClosed
	}
}
func (r *room) Close() error   { r.once.Do(func() { close(r.closed) }); return nil }
func (r *room) Addr() net.Addr { return &net.UnixAddr{Name: "room"} }

// dial connects to whoever listens.
func (r *room) dial(ctx context.Context) (net.Conn, error) {
	r.mu.Lock()
	r.dials++
	down, fuse := r.down, 0
	if r.fuse != nil {
		fuse = r.fuse()
	}
	r.mu.Unlock()
	if down {
		return nil, errors.New("no route to the edge")
	}
	c, near, far := newCable(r.rate, fuse)
	select {
	case r.calls <- far:
		r.mu.Lock()
		r.cables = append(r.cables, c)
		r.mu.Unlock()
		return near, nil
	case <-r.closed:
		c.cut()
		return nil, errors.New("nobody listens")
	case <-ctx.Done():
		c.cut()
		return nil, ctx.Err()
	}
}

// last is the newest cable.
func (r *room) last() *cable {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.cables[len(r.cables)-1]
}

func (r *room) count() int { r.mu.Lock(); defer r.mu.Unlock(); return r.dials }

func (r *room) setDown(down bool) { r.mu.Lock(); r.down = down; r.mu.Unlock() }

// all are the cables there were.
func (r *room) all() []*cable {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.cables)
}

// A cable joins two pipes and can be cut, or fall silent, each way.
type cable struct {
	ends  [4]net.Conn
	rate  int
	mu    sync.Mutex
	fuse  int              // bytes after which it is cut; 0: never
	open  [2]chan struct{} // closed while bytes pass: from the core, and to it
	ended chan struct{}
	once  sync.Once
}

func newCable(rate, fuse int) (*cable, net.Conn, net.Conn) {
	c := &cable{rate: rate, fuse: fuse, open: [2]chan struct{}{make(chan struct{}), make(chan struct{})}, ended: make(chan struct{})}
	close(c.open[0])
	close(c.open[1])
	c.ends[0], c.ends[1] = net.Pipe()
	c.ends[2], c.ends[3] = net.Pipe()
	go c.carry(0, c.ends[1], c.ends[2])
	go c.carry(1, c.ends[2], c.ends[1])
	return c, c.ends[0], c.ends[3]
}

func (c *cable) carry(way int, from, to net.Conn) {
	defer c.cut()
	b := make([]byte, 16<<10)
	for {
		n, err := from.Read(b)
		if c.rate > 0 {
			select {
			case <-time.After(time.Duration(n) * time.Second / time.Duration(c.rate)):
			case <-c.ended:
			}
		}
		c.mu.Lock()
		open, last := c.open[way], false
		if c.fuse > 0 {
			n = min(n, c.fuse)
			c.fuse -= n
			last = c.fuse == 0
		}
		c.mu.Unlock()
		select {
		case <-open:
		case <-c.ended:
			return
		}
		if n > 0 {
			if _, err := to.Write(b[:n]); err != nil {
				return
			}
		}
		if err != nil || last {
			return
		}
	}
}

// freeze lets no byte through, and tells nobody.
func (c *cable) freeze() { c.freezeWay(0); c.freezeWay(1) }

// freezeWay lets no byte through one way: 0 from the core, 1 to it.
func (c *cable) freezeWay(way int) { c.mu.Lock(); c.open[way] = make(chan struct{}); c.mu.Unlock() }

// cut hangs up both ends.
func (c *cable) cut() {
	c.once.Do(func() { close(c.ended) })
	c.ends[1].Close()
	c.ends[2].Close()
}
