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
	hops  map[netip.AddrPort]bool // peers that we chose to send to; they do not make room
}

func newSocket(u *Upstream, pc net.PacketConn) *socket {
	return &socket{up: u, pc: pc, local: addrPort(pc.LocalAddr()), peers: make(map[netip.AddrPort]*Conn), hops: make(map[netip.AddrPort]bool)}
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
	c.hear(p)
	m.messages.WithLabelValues("in", udp).Inc()
	s.up.handler.Message(c, append([]byte(nil), p...))
}

// hop is the peer at an address that we send to of our own accord: an upstream,
// or the next hop of a dialog.
func (s *socket) hop(a netip.AddrPort) (*Conn, error) {
	c, err := s.peer(a)
	if err == nil {
		s.mu.Lock()
		s.hops[a] = true
		s.mu.Unlock()
	}
	return c, err
}

// makeRoom ends one peer that is no hop. Called with mu held.
func (s *socket) makeRoom() {
	for a, c := range s.peers {
		if s.hops[a] {
			continue
		}
		delete(s.peers, a)
		s.up.spawn(c.end)
		return
	}
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
		s.makeRoom()
	}
	c := &Conn{
		transport: udp,
		local:     s.local,
		remote:    a,
		trusted:   true,
		up:        s.up,
		packet:    s.pc,
		socket:    s,
		done:      make(chan struct{}),
		closing:   make(chan struct{}),
	}
	if !s.up.admit(c, nil) {
		return nil, ErrClosed
	}
	s.peers[a] = c
	return c, nil
}

// drop ends the connection to one peer. What it sends from now on makes a new
// one.
func (s *socket) drop(c *Conn) {
	s.mu.Lock()
	if s.peers[c.remote] == c {
		delete(s.peers, c.remote)
		delete(s.hops, c.remote)
	}
	s.mu.Unlock()
	c.end()
}

// end closes all peers' connections.
func (s *socket) end() {
	s.mu.Lock()
	conns := slices.Collect(maps.Values(s.peers))
	clear(s.peers)
	clear(s.hops)
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
			return s.hop(a)
		}
	}
	return nil, fmt.Errorf("no udp entry in sip.listen reaches %s", a)
}
