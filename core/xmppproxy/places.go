package xmppproxy

import (
	"net/netip"
	"sync"
)

// perAddress is the part of all places that one address may have: an edge lets
// twenty flows a second in from it, and a login takes a second or two.
const perAddress = 8

// places bounds the logins under way, all together and those from one address.
type places struct {
	// Static.
	most, each int

	mu  sync.Mutex
	all int                // guarded by mu
	by  map[netip.Addr]int // guarded by mu
}

func newPlaces(most int) *places {
	return &places{most: most, each: max(most/perAddress, 1), by: make(map[netip.Addr]int)}
}

// network is what counts as one address: of IPv6 a /64.
func network(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return a
}

// take takes a place, if there is one; give gives it back.
func (p *places) take(a netip.Addr) bool {
	a = network(a)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.all >= p.most || p.by[a] >= p.each {
		return false
	}
	p.all++
	p.by[a]++
	return true
}

func (p *places) give(a netip.Addr) {
	a = network(a)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all--
	if p.by[a]--; p.by[a] <= 0 {
		delete(p.by, a)
	}
}

// taken is how many places are.
func (p *places) taken() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.all
}
