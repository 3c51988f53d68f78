package upstream

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// defaultPort is SIP's over TCP and UDP.
const defaultPort = 5060

// maxAddrs bounds the addresses tried for one target.
const maxAddrs = 16

// resolve turns a target into addresses in the order they are to be tried:
// SRV records when the target names no port and is no address (RFC 3263
// §4.2), else the host's addresses.
func (u *Upstream) resolve(ctx context.Context, t Target) ([]netip.AddrPort, error) {
	if a, err := netip.ParseAddr(t.Host); err == nil {
		return []netip.AddrPort{netip.AddrPortFrom(a.Unmap(), portOr(t.Port))}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, u.cfg.DialTimeout)
	defer cancel()
	if t.Port == 0 {
		if addrs := u.resolveSRV(ctx, t); len(addrs) > 0 {
			return addrs, nil
		}
	}
	return u.resolveHost(ctx, t.Host, portOr(t.Port))
}

// resolveSRV returns nothing where there are no records: the caller falls
// back to the host itself.
func (u *Upstream) resolveSRV(ctx context.Context, t Target) []netip.AddrPort {
	_, records, err := u.cfg.Resolver.LookupSRV(ctx, "sip", strings.ToLower(t.Transport), t.Host)
	if err != nil {
		return nil
	}
	var out []netip.AddrPort
	for _, r := range records {
		addrs, err := u.resolveHost(ctx, strings.TrimSuffix(r.Target, "."), r.Port)
		if err != nil {
			continue
		}
		if out = append(out, addrs...); len(out) >= maxAddrs {
			return out[:maxAddrs]
		}
	}
	return out
}

func (u *Upstream) resolveHost(ctx context.Context, host string, port uint16) ([]netip.AddrPort, error) {
	addrs, err := u.cfg.Resolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, fmt.Errorf("resolve %s: %w", host, err)
	}
	if len(addrs) == 0 {
		return nil, fmt.Errorf("resolve %s: no addresses", host)
	}
	var out []netip.AddrPort
	for _, a := range addrs[:min(len(addrs), maxAddrs)] {
		out = append(out, netip.AddrPortFrom(a.Unmap(), port))
	}
	return out, nil
}

func portOr(p uint16) uint16 {
	if p == 0 {
		return defaultPort
	}
	return p
}

// Trusted reports whether requests from a are answered: a is in the
// configured networks, or where none are configured, an upstream's address.
func (u *Upstream) Trusted(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	if len(u.cfg.Trusted) > 0 {
		for _, p := range u.cfg.Trusted {
			if p.Contains(a) {
				return true
			}
		}
		return false
	}
	peers := u.peers.Load()
	return peers != nil && (*peers)[a]
}

// watchPeers resolves the upstreams now and then, so that a server that moves
// is still known when it calls.
func (u *Upstream) watchPeers(ctx context.Context) {
	tick := time.NewTicker(u.cfg.ResolveEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			u.resolvePeers(ctx)
		}
	}
}

// resolvePeers renews the addresses of all upstreams. A name that does not
// resolve keeps the addresses it had.
func (u *Upstream) resolvePeers(ctx context.Context) {
	if len(u.cfg.Trusted) > 0 {
		return
	}
	peers := make(map[netip.Addr]bool)
	for _, d := range u.domains {
		for _, t := range d.targets {
			addrs, err := u.resolve(ctx, t)
			if err != nil {
				if ctx.Err() == nil {
					u.log.Warn("upstream does not resolve", "upstream", t.URI, "err", err)
				}
				addrs = u.lastPeers[t]
			}
			u.lastPeers[t] = addrs
			for _, a := range addrs {
				peers[a.Addr()] = true
			}
		}
	}
	u.peers.Store(&peers)
}

// splitHop reads "10.0.0.7:5060", with "tcp:" or "udp:" before it or not.
func splitHop(hostport string) (Target, error) {
	t := Target{URI: hostport, Transport: tcp}
	rest := hostport
	if s, ok := strings.CutPrefix(rest, "udp:"); ok {
		t.Transport, rest = udp, s
	} else {
		rest = strings.TrimPrefix(rest, "tcp:")
	}
	host, port, err := splitPort(rest)
	if err != nil {
		return Target{}, fmt.Errorf("next hop %q: %w", hostport, err)
	}
	t.Host, t.Port = host, port
	return t, nil
}

func splitPort(s string) (string, uint16, error) {
	if a, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		return a.String(), defaultPort, nil
	}
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return s, defaultPort, nil
	}
	port, err := strconv.ParseUint(s[i+1:], 10, 16)
	if err != nil || port == 0 || i == 0 {
		return "", 0, fmt.Errorf("want HOST:PORT")
	}
	return strings.Trim(s[:i], "[]"), uint16(port), nil
}
