// Package admission says who may try: how many clients at once, how many of
// them from one address, and how fast new ones may come. It knows addresses
// and counts, and nothing of what clients say.
package admission

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Reason says why a client was refused. It is the label of the metric
// sallyport_edge_refused_total.
type Reason string

// Why clients are refused.
const (
	MaxFlows      Reason = "max_flows"         // the edge is full
	FlowsPerIP    Reason = "flows_per_ip"      // this address has enough
	NewFlows      Reason = "new_flows"         // too many newcomers, whoever they are
	NewFlowsIP    Reason = "new_flows_per_ip"  // too many newcomers from this address
	Handshake     Reason = "handshake"         // TLS failed
	NoCertificate Reason = "no_certificate"    // there is none to show yet
	TooSlow       Reason = "handshake_timeout" // no TLS or no HTTP request in time
	HTTP          Reason = "http"              // no HTTP, or no WebSocket upgrade
	NotFound      Reason = "not_found"         // a path that is not served
	Origin        Reason = "origin"            // a web page from elsewhere
	Subprotocol   Reason = "subprotocol"       // WebSocket, but for neither SIP nor XMPP
	NoCore        Reason = "no_core"           // nobody inside to talk to
	NoService     Reason = "no_service"        // somebody, but none that speaks XMPP
	ShuttingDown  Reason = "shutting_down"     // the door is being closed
)

// ipBurst is how many times its rate per second one address may spend at once:
// an office behind NAT comes back as a whole after a power cut.
const ipBurst = 10

// Limits bound the clients of one edge. All are positive.
type Limits struct {
	MaxFlows          int     // clients at once
	FlowsPerIP        int     // of these, from one IPv4 address or IPv6 /64
	NewPerSecond      float64 // new clients, with a burst of one second's worth
	NewPerIPPerSecond float64 // from one address, with a burst of ten seconds' worth
}

// Gate counts clients in and out. It may be used by several goroutines.
type Gate struct {
	// Static after New.
	limits  Limits
	refused *prometheus.CounterVec

	// Guarded by mu.
	mu    sync.Mutex
	flows int
	all   bucket
	byIP  map[netip.Prefix]*visitor
}

// visitor is what is remembered of one address: while it has clients, and
// until it could spend its whole burst again.
type visitor struct {
	flows int
	rate  bucket
}

// Pass is one client's right to be here. It is given back by Leave.
type Pass struct {
	gate *Gate
	key  netip.Prefix
	left atomic.Bool
}

// New returns an empty gate. Refusals are counted in reg unless it is nil.
func New(l Limits, reg prometheus.Registerer) *Gate {
	g := &Gate{
		limits: l,
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sallyport_edge_refused_total",
			Help: "Clients refused, by reason.",
		}, []string{"reason"}),
		byIP: make(map[netip.Prefix]*visitor),
		all:  bucket{tokens: l.NewPerSecond, last: time.Now()},
	}
	if reg != nil {
		reg.MustRegister(g.refused)
	}
	return g
}

// Enter lets a client from a in, or says why not and counts it. One address
// that comes too fast uses up its own share only, never that of all.
func (g *Gate) Enter(a netip.Addr) (*Pass, Reason) {
	key := share(a)
	if r := g.enter(key, time.Now()); r != "" {
		g.Refuse(r)
		return nil, r
	}
	return &Pass{gate: g, key: key}, ""
}

func (g *Gate) enter(key netip.Prefix, now time.Time) Reason {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.forget(now)
	v, known := g.byIP[key]
	if !known {
		v = &visitor{rate: bucket{tokens: g.limits.NewPerIPPerSecond * ipBurst, last: now}}
	}
	switch {
	case v.flows >= g.limits.FlowsPerIP:
		return FlowsPerIP
	case !v.rate.has(now, g.limits.NewPerIPPerSecond, ipBurst):
		return NewFlowsIP
	case g.flows >= g.limits.MaxFlows:
		return MaxFlows
	case !g.all.has(now, g.limits.NewPerSecond, 1):
		return NewFlows
	}
	v.rate.tokens--
	g.all.tokens--
	v.flows++
	g.flows++
	if !known {
		g.byIP[key] = v
	}
	return ""
}

// forget drops a few addresses that have no clients and a full burst again. A
// map starts its iteration anywhere, so that every entry has its turn; as more
// are looked at than can be added, what is remembered stays near what is live.
func (g *Gate) forget(now time.Time) {
	const look = 4
	seen := 0
	for key, v := range g.byIP {
		if v.flows == 0 && v.rate.full(now, g.limits.NewPerIPPerSecond, ipBurst) {
			delete(g.byIP, key)
		}
		if seen++; seen == look {
			return
		}
	}
}

// Refuse counts a client that was refused for a reason found later.
func (g *Gate) Refuse(r Reason) { g.refused.WithLabelValues(string(r)).Inc() }

// Flows is the number of clients that are in.
func (g *Gate) Flows() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.flows
}

// Leave gives the pass back; only its first call does.
func (p *Pass) Leave() {
	if p.left.Swap(true) {
		return
	}
	g := p.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	g.flows--
	g.byIP[p.key].flows--
}

// share is what an address is counted under: an IPv4 address itself, of IPv6
// the /64, since a single host has all of it.
func share(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := a.BitLen()
	if a.Is6() {
		bits = 64
	}
	p, err := a.Prefix(bits)
	if err != nil { // no address at all: counted together
		return netip.Prefix{}
	}
	return p
}

// bucket is a token bucket; the one who asks knows its rate and its burst, in
// seconds of the rate.
type bucket struct {
	tokens float64
	last   time.Time
}

func (b *bucket) refill(now time.Time, rate, burst float64) {
	b.tokens = min(rate*burst, b.tokens+rate*now.Sub(b.last).Seconds())
	b.last = now
}

func (b *bucket) has(now time.Time, rate, burst float64) bool {
	b.refill(now, rate, burst)
	return b.tokens >= 1
}

func (b *bucket) full(now time.Time, rate, burst float64) bool {
	return b.tokens+rate*now.Sub(b.last).Seconds() >= rate*burst
}
