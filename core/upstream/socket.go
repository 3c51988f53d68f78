package upstream

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
)

// maxPeers bounds the peers remembered for one UDP socket.
const maxPeers = 1024

// minDatagram is shorter than any SIP message and longer than any keep-alive.
const minDatagram = 16

// socket is one UDP listener. Each datagram is one message, and what goes out
// to a peer leaves from the socket that heard it.
type socket struct {
	// Static after construction.
	up    *Upstream
	pc    net.PacketConn
	local netip.AddrPort

	// Guarded by mu.
	mu    sync.Mutex
	peers map[netip.AddrPort]*Conn
}

func newSocket(u *Upstream, pc net.PacketConn) *socket {
	return &socket{up: u, pc: pc, local: addrPort(pc.LocalAddr()), peers: make(map[netip.AddrPort]*Conn)}
}

// read hands over datagrams until the socket is closed.
func (s *socket) read() {
	defer s.end()
	buf := make([]byte, 64<<10)
	for {
		n, from, err := s.pc.ReadFrom(buf)
		if err != nil {
			if s.over() {
				return
			}
			continue // an ICMP error of an earlier write
		}
		s.datagram(buf[:n], addrPort(from))
	}
}

func (s *socket) over() bool {
	s.up.mu.Lock()
	defer s.up.mu.Unlock()
	return s.up.ctx == nil || s.up.ctx.Err() != nil
}

func (s *socket) datagram(p []byte, from netip.AddrPort) {
	m := s.up.metrics
	switch {
	case !s.up.Trusted(from.Addr()):
		m.dropped.WithLabelValues("untrusted").Inc()
		return
	case len(p) > s.up.cfg.MaxMessage:
		m.dropped.WithLabelValues("too_big").Inc()
		return
	case len(p) < minDatagram:
		if string(p) == "\r\n\r\n" {
			_, _ = s.pc.WriteTo([]byte("\r\n"), net.UDPAddrFromAddrPort(from))
		}
		return
	}
	c, err := s.peer(from)
	if err != nil {
		return
	}
	m.messages.WithLabelValues("in", udp).Inc()
	s.up.handler.Message(c, append([]byte(nil), p...))
}

// peer is the connection that stands for an address. When there are too many,
// another makes room.
func (s *socket) peer(a netip.AddrPort) (*Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.peers[a]; c != nil {
		return c, nil
	}
	if len(s.peers) >= maxPeers {
		for old, c := range s.peers {
			delete(s.peers, old)
			s.up.spawn(c.end)
			break
		}
	}
	c := &Conn{
		transport: udp,
		local:     s.local,
		remote:    a,
		trusted:   true,
		up:        s.up,
		packet:    s.pc,
		done:      make(chan struct{}),
		closing:   make(chan struct{}),
	}
	if !s.up.admit(c, nil) {
		return nil, ErrClosed
	}
	s.peers[a] = c
	return c, nil
}

// end closes all peers' connections.
func (s *socket) end() {
	s.mu.Lock()
	conns := slices.Collect(maps.Values(s.peers))
	clear(s.peers)
	s.mu.Unlock()
	for _, c := range conns {
		c.end()
	}
}

// packetConn is a connection to a over the first UDP socket of its family.
func (u *Upstream) packetConn(a netip.AddrPort) (*Conn, error) {
	for _, s := range u.sockets {
		ip := s.local.Addr()
		if !ip.IsValid() || ip.Is4() == a.Addr().Is4() || ip == netip.IPv6Unspecified() {
			return s.peer(a)
		}
	}
	return nil, fmt.Errorf("no udp entry in sip.listen reaches %s", a)
}
