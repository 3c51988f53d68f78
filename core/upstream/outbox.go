package upstream

import "sync"

// outbox is what waits to be written to one connection, end to end, so that
// what gathers while one write is under way leaves with the next. Its bytes are
// bounded, by [Config.QueueBytes], and not its messages: a crowd's are many and
// small.
type outbox struct {
	more chan struct{} // holds one token when there is something to take

	mu    sync.Mutex
	bytes []byte // guarded by mu
	msgs  int    // in bytes; guarded by mu
	spare []byte // memory of what was written before; guarded by mu
	size  int    // of bytes, and of what was taken and is not written; guarded by mu
}

// keptSpare bounds the memory that an outbox holds on to while it is empty.
const keptSpare = 16 << 10

func newOutbox() *outbox { return &outbox{more: make(chan struct{}, 1)} }

// put copies p, and reports whether there was room for it within limit bytes.
func (o *outbox) put(p []byte, limit int) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.size+len(p) > limit {
		return false
	}
	if o.bytes == nil {
		o.bytes, o.spare = o.spare, nil
	}
	o.bytes, o.size = append(o.bytes, p...), o.size+len(p)
	if len(p) >= minDatagram { // a keep-alive is none
		o.msgs++
	}
	select {
	case o.more <- struct{}{}:
	default:
	}
	return true
}

// take returns all that waits, oldest first, and how many messages it is. It is
// to be told as written.
func (o *outbox) take() (bytes []byte, msgs int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	bytes, msgs = o.bytes, o.msgs
	o.bytes, o.msgs = nil, 0
	return bytes, msgs
}

// written makes room, and takes the memory back.
func (o *outbox) written(bytes []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.size -= len(bytes)
	if cap(bytes) <= keptSpare {
		o.spare = bytes[:0]
	}
}
