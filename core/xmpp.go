package core

import (
	"context"
	"crypto/x509"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"sallyport/certs"
	"sallyport/core/admin"
	"sallyport/core/location"
	"sallyport/core/upstream/c2s"
	"sallyport/core/xmppproxy"
	"sallyport/core/xmppproxy/notify"
	"sallyport/core/xmppproxy/session"
)

// unpushable is how long a client is waited for that no push can reach: a
// program that crashed is not shown as a user who is away.
const unpushable = 10 * time.Minute

// presences are what others see of a client that is away.
var presences = map[string]session.Presence{
	"away": session.ShowAway, "keep": session.KeepPresence, "unavailable": session.ShowUnavailable,
}

// buildXMPP makes the proxy of XMPP clients and the ways to their servers, where
// there is a domain of XMPP.
func (s *Server) buildXMPP(ctx context.Context) error {
	if len(s.cfg.XMPP.Domains) == 0 {
		return nil
	}
	m := s.cfg.IM
	cfg := xmppproxy.Config{
		Swap: m.Resume == "swap",
		Policy: session.Policy{
			Stanzas: m.PerSession, Bytes: int(m.PerSessionBytes), Keep: m.Keep.Duration, ResumeMax: m.ResumeMax.Duration, Unpushable: unpushable,
			Presence: presences[m.SuspendedPresence], AwayDelay: m.AwayDelay.Duration,
			Undercount: m.CorrectUndercount,
		},
	}
	metrics := c2s.NewMetrics(s.deps.Registry)
	for i := range s.cfg.XMPP.Domains {
		d, err := s.xmppDomain(&s.cfg.XMPP.Domains[i], metrics)
		if err != nil {
			return fmt.Errorf("xmpp.domain[%d].%w", i, err)
		}
		cfg.Domains = append(cfg.Domains, d)
	}
	store, err := s.store.Sessions(ctx, s.vault)
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	s.notifier = notify.New(notify.Config{DesktopActive: m.DesktopActive.Duration}, notify.Deps{
		Location: s.loc, Waker: s.waker, Apps: s.pushes, Log: s.log, Registry: s.deps.Registry,
	})
	s.xmpp = xmppproxy.New(cfg, xmppproxy.Deps{Store: store, Notifier: s.notifier, Log: s.log, Registry: s.deps.Registry})
	return nil
}

// xmppDomain makes the way to the servers of a domain. The error begins with
// the key that is to blame.
func (s *Server) xmppDomain(d *XMPPDomainConfig, metrics *c2s.Metrics) (xmppproxy.Domain, error) {
	var roots func() *x509.CertPool
	if d.CAFile != "" {
		r, err := certs.LoadRoots(d.CAFile)
		if err != nil {
			return xmppproxy.Domain{}, fmt.Errorf("ca_file: %w", err)
		}
		roots = r.Pool
		s.reloads = append(s.reloads, r.Reload)
	}
	name := strings.ToLower(d.Name)
	way, err := c2s.New(c2s.Config{
		Name: name, Upstream: d.Upstream, Roots: roots, SharedCert: d.SharedCert, Metrics: metrics,
	}, s.log)
	if err != nil {
		return xmppproxy.Domain{}, fmt.Errorf("upstream: %w", err)
	}
	s.xmppServers = append(s.xmppServers, way)
	s.watchers = append(s.watchers, room{name: "xmpp " + name, run: way.Run})
	return xmppproxy.Domain{Name: name, SharedCert: d.SharedCert,
		Open: func(ctx context.Context, client netip.Addr, _ string) (xmppproxy.Stream, error) {
			up, err := way.Open(ctx, client)
			if err != nil {
				return nil, err
			}
			return up, nil
		}}, nil
}

// xmppStatus is how a domain's servers fare.
func xmppStatus(st c2s.Status) admin.Domain {
	return admin.Domain{Name: st.Domain, Upstream: st.Upstream, OK: st.Up, LastError: st.LastError}
}

// xmppState says in the words of the status table where a session stands.
func xmppState(st session.State) string {
	switch st {
	case session.Active:
		return "foreground"
	case session.Silent, session.Inactive:
		return "silent"
	default:
		return "suspended"
	}
}

// xmppClients lists the sessions of a bare JID, all for "", and notes which
// devices these are.
func (s *Server) xmppClients(bare string, seen map[location.DeviceID]bool) (list []admin.Client) {
	if s.xmpp == nil {
		return nil
	}
	for _, r := range s.xmpp.Rows(bare) {
		jid, resource, _ := strings.Cut(r.JID, "/")
		id := location.DeviceID{AOR: "xmpp:" + jid, Instance: resource}
		seen[id] = true
		c := admin.Client{AOR: id.AOR, Instance: id.Instance, State: xmppState(r.State), Held: r.Held, Tokens: []admin.Token{}}
		if f := r.Flow; f != nil {
			c.Flow = &admin.Flow{
				ID: f.ID(), Edge: f.Edge(), Transport: f.Info().Transport, Remote: f.Info().Remote.String(), Since: f.Since(),
			}
		}
		if d, ok := s.loc.Device(id); ok {
			c.LastWake = admin.At(d.LastWake)
			for _, t := range d.Tokens {
				c.Tokens = append(c.Tokens, s.tokenOf(d, t))
			}
		}
		list = append(list, c)
	}
	return list
}
