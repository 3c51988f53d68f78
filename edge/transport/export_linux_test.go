package transport

import "net"

func parkedState(c Conn) (has, read bool) {
	s, ok := bottom(connOf(c)).(*parked)
	if !ok {
		return false, false
	}
	state := s.state.Load()
	return state&begun != 0, state&busy != 0
}

func connOf(c Conn) net.Conn {
	switch c := c.(type) {
	case *stream:
		return c.conn
	case *raw:
		return c.conn
	case *framed:
		return c.conn
	default:
		return nil
	}
}

// Waiting is how many sockets are parked, and whether a poller is there.
func Waiting(t *Transport) (sockets int, poller bool) {
	t.lot.mu.Lock()
	defer t.lot.mu.Unlock()
	if t.lot.poller == nil {
		return 0, false
	}
	return t.lot.poller.parked, true
}

// MaxWaiting is how many goroutines may wait for sockets to read.
const MaxWaiting = maxWaiting
