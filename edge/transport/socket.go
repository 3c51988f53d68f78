package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"
)

// Accept takes connections from l until it is closed, and hands each to serve,
// which must not block. An error of accept, most likely too many open files,
// is waited out: 5 ms, doubled up to a second. The error returned is that of
// a closed listener, which is none, so nil.
func (t *Transport) Accept(ctx context.Context, l net.Listener, serve func(net.Conn)) error {
	const shortest, longest = 5 * time.Millisecond, time.Second
	wait := shortest
	for {
		c, err := l.Accept()
		switch {
		case err == nil:
			wait = shortest
			serve(c)
			continue
		case errors.Is(err, net.ErrClosed) || ctx.Err() != nil:
			return nil
		}
		t.cfg.Log.Warn("accept failed, trying again", "listener", l.Addr().String(), "err", err, "wait", wait)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil
		}
		wait = min(2*wait, longest)
	}
}

// sendBuffer is what the kernel holds for a client, in bytes. Left to itself it
// takes up to 4 MiB from a client that does not read, and nobody here would
// notice that it is stuck. A message fits.
const sendBuffer = 64 << 10

// Handshake ends TLS on c within timeout. On error c is closed. Every write to
// what it returns has Config.WriteTimeout to make progress, record by record.
func (t *Transport) Handshake(ctx context.Context, c net.Conn, cfg *tls.Config, timeout time.Duration) (*tls.Conn, error) {
	p := t.paced(c)
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetWriteBuffer(sendBuffer)
	}
	_ = p.SetDeadline(time.Now().Add(timeout))
	conn := tls.Server(p, cfg)
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = c.Close()
		return nil, fmt.Errorf("tls handshake: %w", err)
	}
	_ = p.SetDeadline(time.Time{})
	return conn, nil
}

// Tune sets what a client's socket needs beside Go's defaults: no Nagle, and
// the time after which unacknowledged bytes mean that the client is gone. A
// connection that is not TCP is left as it is.
func Tune(c net.Conn, userTimeout time.Duration) error {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return nil
	}
	if err := tcp.SetNoDelay(true); err != nil {
		return err
	}
	return setUserTimeout(tcp, userTimeout)
}

// KeepAlive is the probing of idle sockets: rare, since each probe wakes a
// phone's radio, and later than any client's own keep-alive (RFC 5626 §4.4.1:
// up to 840 s).
func KeepAlive() net.KeepAliveConfig {
	return net.KeepAliveConfig{Enable: true, Idle: 15 * time.Minute, Interval: 30 * time.Second, Count: 4}
}

// RemoteOf is the client's address and port, invalid where c has none.
func RemoteOf(c net.Conn) netip.AddrPort {
	if a, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		ap := a.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	ap, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil {
		return netip.AddrPort{}
	}
	return ap
}

// Remote is a client's address as logs show it: enough to tell networks apart,
// not enough to tell people.
type Remote netip.Addr

// LogValue is the address without its last octet, or of IPv6 the /48.
func (r Remote) LogValue() slog.Value {
	switch a := netip.Addr(r).Unmap(); {
	case a.Is4():
		b := a.As4()
		return slog.StringValue(fmt.Sprintf("%d.%d.%d.x", b[0], b[1], b[2]))
	case a.Is6():
		p, _ := a.WithZone("").Prefix(48)
		return slog.StringValue(p.String())
	default:
		return slog.StringValue("unknown")
	}
}

// Reveal is the whole address, for loggers that are told to show it.
func (r Remote) Reveal() string { return netip.Addr(r).String() }
