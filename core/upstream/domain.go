package upstream

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// maxServers bounds the servers of one domain.
const maxServers = 32

// domain is all servers of one SIP domain, in the order in which they are to
// be tried: as the config lists them, then by SRV priority. Servers of one rank
// share the load by their weights, key by key.
type domain struct {
	// Static after construction.
	up      *Upstream
	name    string
	targets []Target
	tls     func() *tls.Config // for each connection; nil for the system's roots
	kick    chan struct{}      // holds a token when names should be resolved again

	mu sync.Mutex
	// Guarded by mu.
	servers []*server // by tier
	changed chan struct{}
	lookup  error // why a name of it did not resolve, nil if all did
	looked  time.Time
	looking bool // somebody waits for names to resolve
	told    bool // that it is unreachable
	since   time.Time
}

// place is one address of a domain, with its rank.
type place struct {
	target Target // Transport as DNS had it
	at     netip.AddrPort
	tier   int     // lower is tried first
	weight float64 // among those of its tier
}

// live returns the best connection that is up, or nil.
func (d *domain) live(key string, tried []*Conn) *Conn {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.best(key, tried, time.Now())
}

// best chooses among the servers that are up: the lowest tier, and in it by
// weighted rendezvous, which moves nobody but the keys of a server that goes or
// comes. Callers hold mu.
func (d *domain) best(key string, tried []*Conn, now time.Time) *Conn {
	var found *server
	var score float64
	for _, s := range d.servers {
		if found != nil && s.tier > found.tier {
			break
		}
		if !s.usable(now) || s.among(tried) {
			continue
		}
		mine := 0.0
		if len(d.servers) > 1 {
			mine = rendezvous(key, s.label, s.weight)
		}
		if found == nil || mine > score {
			found, score = s, mine
		}
	}
	if found == nil {
		return nil
	}
	return found.conn
}

// await is live, but waits for a server that may be up soon.
func (d *domain) await(ctx context.Context, key string, tried []*Conn) (*Conn, error) {
	var limit <-chan time.Time
	for first := true; ; first = false {
		d.mu.Lock()
		now := time.Now()
		if c := d.best(key, tried, now); c != nil {
			d.mu.Unlock()
			return c, nil
		}
		pending, known := d.pending(tried, now, first)
		changed, err := d.changed, d.whyNot(now)
		d.mu.Unlock()
		if !pending {
			return nil, err
		}
		if known && limit == nil { // it was down before: no use to wait long
			t := time.NewTimer(pauseMin)
			defer t.Stop()
			limit = t.C
		}
		select {
		case <-changed:
		case <-limit:
			return nil, err
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// pending says whether a server that was not tried is being dialled, or is
// about to be since poke may bring that about; known, that all of those have
// failed before. Callers hold mu.
func (d *domain) pending(tried []*Conn, now time.Time, poke bool) (pending, known bool) {
	known = true
	for _, s := range d.servers {
		if s.among(tried) || now.Before(s.away) || s.usable(now) {
			continue
		}
		if s.dialling || poke && s.prod(now) {
			pending, known = true, known && s.err != nil
		}
	}
	switch {
	case pending:
		return true, known
	case len(d.servers) == 0 && (d.looking || poke && now.Sub(d.looked) >= pauseMin):
		d.looking = true
		signal(d.kick)
		return true, true
	}
	return false, true
}

// whyNot makes the error that says why no server can be reached. Callers hold
// mu.
func (d *domain) whyNot(now time.Time) error {
	errs := []error{d.lookup}
	e := &UnreachableError{Domain: d.name}
	for _, s := range d.servers {
		if now.Before(s.away) && s.conn != nil {
			if left := s.away.Sub(now); e.Retry == 0 || left < e.Retry {
				e.Retry = left
			}
			errs = append(errs, errors.New(s.label+" asks to be left alone"))
			continue
		}
		errs = append(errs, s.err)
	}
	if e.Err = errors.Join(errs...); e.Err == nil {
		e.Err = errors.New("no server of it is left to try")
	}
	return e
}

// wake tells those who wait that a server has changed. Callers hold mu.
func (d *domain) wake() {
	close(d.changed)
	d.changed = make(chan struct{})
}

// tell tells the handler when the domain as a whole has changed: it is
// unreachable when each server's last attempt has failed. Callers hold mu.
func (d *domain) tell() {
	reach, open := false, false
	for _, s := range d.servers {
		reach = reach || s.reach
		open = open || !s.attempted
	}
	down := !reach && !open
	if down == d.told && !d.since.IsZero() || open && !reach {
		return
	}
	changed := down != d.told
	d.told, d.since = down, time.Now()
	if changed && !d.up.over() {
		d.up.handler.Reachable(d.name, !down)
	}
	if down {
		signal(d.kick)
	}
}

// at is the server at an address, or nil.
func (d *domain) at(transport string, a netip.AddrPort) *server {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, s := range d.servers {
		if s.target.Transport == transport && s.at == a {
			return s
		}
	}
	return nil
}

func (d *domain) has(a netip.Addr) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.ContainsFunc(d.servers, func(s *server) bool { return s.at.Addr() == a })
}

func (d *domain) several() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.targets) > 1 || len(d.servers) > 1 || len(d.targets) == 1 && d.targets[0].Port == 0 && !d.targets[0].literal()
}

// kickEvery is how often the names of a domain that is unreachable are resolved
// again at most.
const kickEvery = time.Second

// follow resolves the domain's names now and then, and sooner while no server
// of it can be reached.
func (d *domain) follow(ctx context.Context) {
	tick := time.NewTicker(d.up.cfg.ResolveEvery)
	defer tick.Stop()
	last := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-d.kick:
			if !sleep(ctx, time.Until(last.Add(kickEvery))) {
				return
			}
		}
		last = time.Now()
		found := map[*domain][]place{d: d.resolve(ctx)}
		if ctx.Err() != nil {
			return
		}
		d.take(ctx, found[d])
		d.up.trust(found)
	}
}

// take makes found the servers of the domain. Those that stay keep what is
// known of them; those that go are let go of gently.
func (d *domain) take(ctx context.Context, found []place) {
	d.mu.Lock()
	defer d.mu.Unlock()
	old := d.servers
	d.servers, d.looked, d.looking = nil, time.Now(), false
	for _, p := range found {
		i := slices.IndexFunc(old, func(s *server) bool { return s.target == p.target && s.at == p.at })
		var s *server
		if i >= 0 {
			s = old[i]
			old = slices.Delete(old, i, i+1)
		} else {
			s = newServer(d, p)
			sctx, stop := context.WithCancel(ctx)
			s.stop = stop
			d.up.spawn(func() { s.keep(sctx) })
		}
		s.tier, s.weight = p.tier, p.weight
		d.servers = append(d.servers, s)
	}
	slices.SortStableFunc(d.servers, func(a, b *server) int { return cmp.Compare(a.tier, b.tier) })
	for _, s := range old {
		s.stop()
	}
	d.wake()
	if len(d.servers) > 0 || len(found) == 0 {
		d.tell()
	}
}
