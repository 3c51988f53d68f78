package xmppproxy

import (
	"errors"
	"sync"
	"time"

	"sallyport/core/downstream"
	"sallyport/core/stanza"
	"sallyport/tunnel"
)

const (
	// batch is how many bytes are gathered for one message of the tunnel.
	batch = 8 << 10
	// piece is how long a message of the tunnel is at most.
	piece = 16 << 10
	// highWater is how much may wait for a client that reads slowly before its
	// server is not read any more, and lowWater how little before it is again.
	highWater, lowWater = 128 << 10, 32 << 10
	// maxBacklog is how much may wait for a client at all.
	maxBacklog = 2 << 20
	// firstRetry is how soon what found no room is tried again, and lastRetry
	// how late at most.
	firstRetry, lastRetry = 5 * time.Millisecond, 50 * time.Millisecond
)

// outbox sends to a client. What the client does not take waits in order;
// there is a goroutine only meanwhile.
type outbox struct {
	// Static.
	p      *Proxy
	flow   *downstream.Flow
	frames bool

	mu      sync.Mutex
	buf     *[]byte       // guarded by mu: gathered, of bufs
	waiting []part        // guarded by mu: in order
	size    int           // guarded by mu: of waiting
	busy    bool          // guarded by mu: a goroutine sends what waits
	dead    bool          // guarded by mu: nothing is sent any more
	calm    chan struct{} // guarded by mu: closed once size is below lowWater
	quit    chan struct{} // guarded by mu: closed with dead, while busy
}

// part is a message of the tunnel, or a piece of one.
type part struct {
	p    []byte
	last bool
}

var bufs = sync.Pool{New: func() any { b := make([]byte, 0, batch+1024); return &b }}

// send takes one element that is portable; it leaves with flush at the latest.
func (o *outbox) send(p []byte) {
	if o.frames {
		o.frame(stanza.AppendFrame(nil, p))
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.dead {
		return
	}
	if o.buf == nil {
		o.buf = bufs.Get().(*[]byte)
	}
	*o.buf = append(*o.buf, p...)
	if len(*o.buf) >= batch {
		o.flushLocked()
	}
}

// flush sends what was gathered.
func (o *outbox) flush() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.flushLocked()
}

func (o *outbox) flushLocked() {
	if o.buf == nil {
		return
	}
	b := *o.buf
	for len(b) > 0 && !o.dead {
		n := min(len(b), piece)
		o.put(part{b[:n], true})
		b = b[n:]
	}
	if cap(*o.buf) <= 4*batch {
		*o.buf = (*o.buf)[:0]
		bufs.Put(o.buf)
	}
	o.buf = nil
}

// frame sends one message of a WebSocket.
func (o *outbox) frame(p []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for !o.dead {
		n := min(len(p), piece)
		o.put(part{p[:n], n == len(p)})
		if p = p[n:]; len(p) == 0 {
			return
		}
	}
}

// put sends one message, or has it wait. o.mu is held; the bytes are the
// caller's.
func (o *outbox) put(m part) {
	if len(o.waiting) == 0 && !o.busy {
		switch err := o.try(m); {
		case err == nil:
			return
		case !errors.Is(err, tunnel.ErrNoCredit):
			o.broken(err)
			return
		}
	}
	if o.size += len(m.p); o.size > maxBacklog {
		o.kill()
		o.flow.Close(tunnel.CloseSlowConsumer, "the client does not read")
		return
	}
	m.p = append([]byte(nil), m.p...)
	o.waiting = append(o.waiting, m)
	if !o.busy {
		o.busy, o.quit = true, make(chan struct{})
		o.p.work.Go(func() { o.drain(o.quit) })
	}
}

func (o *outbox) try(m part) error {
	if m.last {
		return o.flow.Send(m.p)
	}
	return o.flow.SendPart(m.p)
}

// drain sends what waits, as the client makes room for it.
func (o *outbox) drain(quit <-chan struct{}) {
	pause := time.NewTimer(firstRetry)
	defer pause.Stop()
	wait := firstRetry
	for {
		select {
		case <-quit:
			return
		case <-o.p.life.Done():
			return
		case <-pause.C:
		}
		progress, done := o.again()
		if done {
			return
		}
		if wait = min(2*wait, lastRetry); progress {
			wait = firstRetry
		}
		pause.Reset(wait)
	}
}

// again sends as much of what waits as there is room for.
func (o *outbox) again() (progress, done bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for len(o.waiting) > 0 && !o.dead {
		m := o.waiting[0]
		if err := o.try(m); errors.Is(err, tunnel.ErrNoCredit) {
			return progress, false
		} else if err != nil {
			o.broken(err)
			return true, true
		}
		o.waiting[0].p = nil
		o.waiting, o.size, progress = o.waiting[1:], o.size-len(m.p), true
		if o.size <= lowWater {
			o.calmed()
		}
	}
	o.busy = false
	o.waiting = nil
	return progress, true
}

// calmed lets go whom behind held up. o.mu is held.
func (o *outbox) calmed() {
	if o.calm != nil {
		close(o.calm)
		o.calm = nil
	}
}

// behind returns nil when the client keeps up, else what is closed once it
// does, or is gone.
func (o *outbox) behind(most int) <-chan struct{} {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.dead || o.size <= most {
		return nil
	}
	if o.calm == nil {
		o.calm = make(chan struct{})
	}
	return o.calm
}

// letGo lets go whom behind held up, though the client is behind.
func (o *outbox) letGo() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.calmed()
}

// stop sends nothing any more.
func (o *outbox) stop() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.kill()
}

// broken ends a flow that does not take what is sent: its client would be taken
// for one that listens. o.mu is held.
func (o *outbox) broken(err error) {
	o.kill()
	o.flow.Close(tunnel.ClosePolicy, err.Error())
}

// kill does so under o.mu.
func (o *outbox) kill() {
	if o.dead {
		return
	}
	o.dead, o.waiting, o.size = true, nil, 0
	if o.busy {
		close(o.quit)
	}
	o.calmed()
}
