package upstream

import (
	"maps"
	"net/netip"
	"slices"
	"time"
)

// Status is how one domain's upstream fares.
type Status struct {
	Domain string
	// Upstream is the URI in use, or the first configured.
	Upstream string
	// Remote and Transport tell the live connection; zero without one. Of
	// several servers that share the load it is the first.
	Remote    netip.AddrPort
	Transport string
	// Up: requests can be sent to one of the servers at least.
	Up bool
	// Since is when it was last found reachable, or unreachable; zero before
	// the first attempt ended.
	Since time.Time
	// LastError is why no server can be reached, or "" when Up.
	LastError string
	// Servers are all of them, in the order in which they are tried.
	Servers []ServerStatus
}

// ServerStatus is how one server fares.
type ServerStatus struct {
	Server    string // "tcp:10.0.0.9:5060"
	Up        bool
	Since     time.Time
	Away      time.Time // until when it asked to be left alone; zero if it did not
	LastError string
}

// Status tells how each domain's upstream fares, sorted by domain.
func (u *Upstream) Status() []Status {
	var out []Status
	for _, name := range slices.Sorted(maps.Keys(u.domains)) {
		out = append(out, u.domains[name].status())
	}
	return out
}

func (d *domain) status() Status {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	st := Status{Domain: d.name, Since: d.since}
	if len(d.targets) > 0 {
		st.Upstream = d.targets[0].URI
	}
	for _, s := range d.servers {
		one := ServerStatus{Server: s.label, Up: s.usable(now), Since: s.since}
		if now.Before(s.away) {
			one.Away = s.away
		}
		if s.err != nil {
			one.LastError = s.err.Error()
		}
		st.Servers = append(st.Servers, one)
		if one.Up && !st.Up {
			st.Up, st.Upstream, st.Remote, st.Transport = true, s.target.URI, s.at, s.target.Transport
		}
	}
	if !st.Up && (!d.since.IsZero() || d.lookup != nil) {
		st.LastError = d.whyNot(now).Error()
	}
	return st
}
