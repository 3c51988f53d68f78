package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
)

// maxAddrs bounds the addresses of one target.
const maxAddrs = 16

// resolveAll resolves every domain.
func (u *Upstream) resolveAll(ctx context.Context) map[*domain][]place {
	found := make(map[*domain][]place)
	for _, d := range u.domains {
		found[d] = d.resolve(ctx)
	}
	return found
}

// resolve finds the servers of the domain. A name that does not resolve leaves
// its target the servers that it had.
func (d *domain) resolve(ctx context.Context) (found []place) {
	var failed []error
	tier := 0
	for _, t := range d.targets {
		some, err := d.up.resolve(ctx, t)
		if err != nil {
			if ctx.Err() == nil {
				d.up.log.Warn("upstream does not resolve", "upstream", t.URI, "err", err)
			}
			failed = append(failed, err)
			some = d.known(t)
		}
		next := tier
		for _, p := range some {
			if len(found) >= maxServers {
				break
			}
			p.tier += tier
			next = max(next, p.tier+1)
			found = append(found, p)
		}
		tier = next
	}
	d.mu.Lock()
	d.lookup = errors.Join(failed...)
	d.mu.Unlock()
	return found
}

// known are the places that a target led to before.
func (d *domain) known(t Target) (places []place) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, s := range d.servers {
		if s.target.URI == t.URI {
			places = append(places, place{target: s.target, at: s.at, weight: s.weight})
		}
	}
	return places
}

// resolve turns a target into places (RFC 3263 §4): NAPTR records where the URI
// names neither transport nor port, then SRV where it names no port, else the
// host's addresses, which share the load.
func (u *Upstream) resolve(ctx context.Context, t Target) ([]place, error) {
	if a, err := netip.ParseAddr(t.Host); err == nil {
		return []place{{target: t, at: netip.AddrPortFrom(a.Unmap(), t.port()), weight: 1}}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, u.cfg.DialTimeout)
	defer cancel()
	if t.Port == 0 {
		if t.Open {
			if found := u.resolveNAPTR(ctx, t); len(found) > 0 {
				return found, nil
			}
		}
		service, proto := serviceOf(t.Transport)
		if _, records, err := u.cfg.Resolver.LookupSRV(ctx, service, proto, t.Host); err == nil {
			if found := u.resolveSRV(ctx, t, records); len(found) > 0 {
				return found, nil
			}
		}
	}
	addrs, err := u.resolveHost(ctx, t.Host, t.port())
	if err != nil {
		return nil, err
	}
	var found []place
	for _, a := range addrs {
		found = append(found, place{target: t, at: a, weight: 1})
	}
	return found, nil
}

// serviceOf names a transport in SRV (RFC 3263 §4.2).
func serviceOf(transport string) (service, proto string) {
	switch transport {
	case tlsTransport:
		return "sips", "tcp"
	case udp:
		return "sip", "udp"
	}
	return "sip", "tcp"
}

// resolveSRV returns nothing where no record leads to an address: the caller
// falls back to the host itself.
func (u *Upstream) resolveSRV(ctx context.Context, t Target, records []*net.SRV) (found []place) {
	tiers := make(map[uint16]int) // records come by priority
	for _, r := range records {
		if r.Target == "." { // RFC 2782: not offered
			continue
		}
		addrs, err := u.resolveHost(ctx, strings.TrimSuffix(r.Target, "."), r.Port)
		if err != nil {
			continue
		}
		tier, known := tiers[r.Priority]
		if !known {
			tier = len(tiers)
			tiers[r.Priority] = tier
		}
		for _, a := range addrs {
			found = append(found, place{target: t, at: a, tier: tier, weight: float64(r.Weight) / float64(len(addrs))})
		}
		if len(found) >= maxAddrs {
			return found[:maxAddrs]
		}
	}
	return found
}

func (u *Upstream) resolveHost(ctx context.Context, host string, port uint16) ([]netip.AddrPort, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.AddrPort{netip.AddrPortFrom(a.Unmap(), port)}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, u.cfg.DialTimeout)
	defer cancel()
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

// trust renews the addresses that are trusted by default: those just found, and
// of the other domains those that are known.
func (u *Upstream) trust(found map[*domain][]place) {
	u.trustMu.Lock()
	defer u.trustMu.Unlock()
	peers := make(map[netip.Addr]bool)
	for _, d := range u.domains {
		for _, p := range found[d] {
			peers[p.at.Addr()] = true
		}
		if _, fresh := found[d]; fresh {
			continue
		}
		d.mu.Lock()
		for _, s := range d.servers {
			peers[s.at.Addr()] = true
		}
		d.mu.Unlock()
	}
	u.peers.Store(&peers)
}

// over says whether Run has not begun or is over.
func (u *Upstream) over() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.ctx == nil || u.ctx.Err() != nil
}
