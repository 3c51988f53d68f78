package transport

import (
	"net"
	"time"

	"sallyport/edge/alarm"
)

// throttle holds one client to a number of bytes a second, of TLS and all. What
// it may not send yet is not read: it waits in the client, as it does when the
// core has given no credit. Only streams that are not cut and WebSockets of
// XMPP have one: of SIP, the core judges each message.
type throttle struct {
	rate int           // bytes a second
	wake func()        // has a parked socket read
	next time.Duration // since zero: when all that was read had its time; owned by who reads
	zero time.Time

	alarm alarm.Alarm // rings when a parked socket may be read on
}

// throttleBurst is what a client may send at once, in seconds of its rate.
const throttleBurst = 4

// bound has c, which is not read yet, held to the transport's rate for XMPP.
func (t *Transport) bound(c net.Conn) {
	if s, ok := bottom(c).(interface{ hold(th *throttle) }); ok && t.cfg.Rate > 0 {
		s.hold(&throttle{rate: t.cfg.Rate, zero: time.Now()})
	}
}

// Alarm and Ring make it a sleeper.
func (th *throttle) Alarm() *alarm.Alarm { return &th.alarm }

// Ring has the socket read on.
func (th *throttle) Ring() { th.wake() }

// wait is how long nothing more may be read.
func (th *throttle) wait() time.Duration {
	return th.next - time.Since(th.zero) - throttleBurst*time.Second
}

// took notes that n bytes were read.
func (th *throttle) took(n int) {
	th.next = max(th.next, time.Since(th.zero)) + time.Duration(n)*time.Second/time.Duration(th.rate)
}
