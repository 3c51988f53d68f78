package upstream

import "sync"

// outbox is what waits to be written to one connection. Its bytes are bounded,
// by [Config.QueueBytes], and not its messages: a crowd's are many and small.
type outbox struct {
	more chan struct{} // holds one token when there is something to take

	mu   sync.Mutex
	msgs [][]byte // guarded by mu
	size int      // of msgs, and of what was taken and is not written; guarded by mu
}

func newOutbox() *outbox { return &outbox{more: make(chan struct{}, 1)} }

// put reports whether there was room for p within limit bytes.
func (o *outbox) put(p []byte, limit int) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.size+len(p) > limit {
		return false
	}
	o.msgs, o.size = append(o.msgs, p), o.size+len(p)
	select {
	case o.more <- struct{}{}:
	default:
	}
	return true
}

// take returns all that waits, oldest first. Each is to be told as written.
func (o *outbox) take() [][]byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	msgs := o.msgs
	o.msgs = nil
	return msgs
}

func (o *outbox) written(p []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.size -= len(p)
}
