package transport

import (
	"net"
	"time"
)

// patience is how long a client may be waited for: its first message is due in
// FirstMessage, and any other in WholeMessage from its first byte, however the
// rest trickles in. Between messages it may say nothing for as long as it
// likes. It belongs to who reads.
type patience struct{ phase phase }

type phase uint8

const (
	unasked   phase = iota // nothing is expected yet
	expecting              // the first message is awaited, or has begun
	quiet                  // between messages
	speaking               // a later message has begun
)

// greet starts the clock of the first message, once.
func (p *patience) greet(cfg *Config, c net.Conn) {
	if p.phase == unasked {
		p.enter(c, expecting, cfg.FirstMessage)
	}
}

// turn sets the clock after what was read: whole says that a message ended,
// and between that none has begun.
func (p *patience) turn(cfg *Config, c net.Conn, whole, between bool) {
	switch {
	case !whole && !p.spoke(): // the clock of the first message goes on
	case between:
		p.enter(c, quiet, 0)
	case whole || p.phase != speaking:
		p.phase = quiet
		p.enter(c, speaking, cfg.WholeMessage)
	}
}

// spoke reports whether a whole message has come.
func (p *patience) spoke() bool { return p.phase > expecting }

// enter begins a phase of so much time; 0: any.
func (p *patience) enter(c net.Conn, next phase, d time.Duration) {
	if p.phase == next {
		return
	}
	p.phase = next
	var until time.Time
	if d > 0 {
		until = time.Now().Add(d)
	}
	_ = c.SetReadDeadline(until)
}
