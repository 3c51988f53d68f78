package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"
)

// open opens all listeners or none.
func (u *Upstream) open(ctx context.Context) ([]net.Listener, error) {
	var listeners []net.Listener
	fail := func(entry string, err error) ([]net.Listener, error) {
		for _, l := range listeners {
			l.Close()
		}
		for _, s := range u.sockets {
			s.pc.Close()
		}
		return nil, fmt.Errorf("sip.listen %s: %w", entry, err)
	}
	for _, entry := range u.cfg.Listen {
		transport, address, err := splitListen(entry)
		if err != nil {
			return fail(entry, err)
		}
		var addr net.Addr
		if transport == udp {
			pc, err := u.cfg.ListenUDP(ctx, address)
			if err != nil {
				return fail(entry, err)
			}
			u.sockets = append(u.sockets, newSocket(u, pc))
			addr = pc.LocalAddr()
		} else {
			l, err := u.cfg.ListenTCP(ctx, address)
			if err != nil {
				return fail(entry, err)
			}
			addr = l.Addr()
			if transport == tlsTransport {
				l = u.secureListener(l)
			}
			listeners = append(listeners, l)
		}
		u.mu.Lock()
		u.addrs = append(u.addrs, addr)
		u.mu.Unlock()
	}
	return listeners, nil
}

// accept takes connections until the listener is closed.
func (u *Upstream) accept(ctx context.Context, l net.Listener) {
	for {
		nc, err := l.Accept()
		if errors.Is(err, net.ErrClosed) || ctx.Err() != nil {
			if err == nil {
				nc.Close()
			}
			return
		}
		if err != nil { // out of descriptors, most likely
			u.log.Warn("upstream accept failed", "err", err)
			if !sleep(ctx, 100*time.Millisecond) {
				return
			}
			continue
		}
		transport := tcp
		if _, secure := nc.(*tls.Conn); secure {
			transport = tlsTransport
		}
		c := u.newStream(nc, transport, addrPort(nc.RemoteAddr()), false)
		if u.full(c.trusted) || !u.admit(c, c.serve) {
			u.metrics.dropped.WithLabelValues("too_many").Inc()
			nc.Close()
		}
	}
}

// full keeps three quarters of the connections for trusted peers.
func (u *Upstream) full(trusted bool) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if trusted {
		return u.accepted >= u.cfg.MaxConns
	}
	return u.accepted >= u.cfg.MaxConns/4
}

func (u *Upstream) newStream(nc net.Conn, transport string, remote netip.AddrPort, dialled bool) *Conn {
	return &Conn{
		transport: transport,
		local:     addrPort(nc.LocalAddr()),
		remote:    remote,
		trusted:   dialled || u.Trusted(remote.Addr()),
		dialled:   dialled,
		up:        u,
		stream:    nc,
		done:      make(chan struct{}),
		closing:   make(chan struct{}),
		queue:     newOutbox(),
	}
}

// addrPort is a's IP and port, zero when it has none.
func addrPort(a net.Addr) netip.AddrPort {
	if a == nil {
		return netip.AddrPort{}
	}
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port())
}
