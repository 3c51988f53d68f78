package core

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"sallyport/certs"
	"sallyport/core/downstream"
	"sallyport/core/im"
	"sallyport/core/jetstream"
	"sallyport/core/location"
	"sallyport/core/presence"
	"sallyport/core/push"
	"sallyport/core/registrar"
	"sallyport/core/sipproxy"
	"sallyport/core/trace"
	"sallyport/core/wake"
	"sallyport/tunnel"
)

// flowTimer is granted to clients that use RFC 5626; the edge waits longer.
const flowTimer = 120

// maxTraces bounds the calls whose trace is kept.
const maxTraces = 10000

// build opens what the config names and gives the rooms to one another. The
// rooms come in the order in which they start; they end in the reverse.
func (s *Server) build(ctx context.Context) ([]room, error) {
	for _, text := range s.cfg.unbuilt() {
		s.log.Warn("this version does not do what the config asks", "what", text)
	}
	bundle, err := certs.LoadBundle(s.cfg.Tunnel.Identity)
	if err != nil {
		return nil, fmt.Errorf("tunnel.identity: %w", err)
	}
	if bundle.Role() != certs.RoleCore {
		return nil, fmt.Errorf("tunnel.identity: %s is the bundle of an %s, not of a core", s.cfg.Tunnel.Identity, bundle.Role())
	}
	s.store, err = jetstream.Open(ctx, jetstream.Config{
		Dir: s.cfg.Store.Dir, NATS: s.cfg.Store.NATS, Replicas: s.cfg.Store.Replicas, Name: bundle.Name(),
	}, s.log)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	s.traces = trace.New(s.store.Traces(), maxTraces, s.log)
	if err := s.openDevices(ctx, bundle.Name()); err != nil {
		return nil, err
	}
	if err := s.traces.Load(ctx); err != nil {
		return nil, fmt.Errorf("trace: %w", err)
	}
	apps, err := s.apps()
	if err != nil {
		return nil, err
	}
	groups, err := s.keys(ctx, "group")
	if err != nil {
		return nil, err
	}
	s.pushes = push.New(s.pushConfig(groups[0]), apps, s.log, s.deps.Registry)
	if err := s.pushes.LoadDND(ctx); err != nil {
		return nil, err
	}
	s.waker = wake.New(wake.Config{
		Window: s.cfg.Wake.Window.Duration, Flow: s.flowOf, Scored: s.scored,
	}, s.pushes, s.log, s.deps.Registry)
	s.messages = im.New(im.Config{
		Keep: s.cfg.IM.Keep.Duration, PerAOR: s.cfg.IM.PerAOR, PerDevice: s.cfg.IM.PerDevice, Sealer: s.vault,
	}, s.store.Messages(), s.log, s.deps.Registry)
	s.published = presence.New(s.cfg.IM.presence(), s.store.Published(), s.vault, s.log)
	if err := s.published.Load(ctx); err != nil {
		return nil, err
	}
	if err := s.buildXMPP(ctx); err != nil {
		return nil, err
	}
	if err := s.buildSIP(ctx, bundle); err != nil {
		return nil, err
	}
	s.warnings = append(s.warnings, func() string {
		return certs.EndWarning(s.cfg.Tunnel.Identity, bundle.NotAfter(), time.Now())
	})
	s.reloads = append(s.reloads, bundle.Reload)
	admin, err := s.admin()
	if err != nil {
		return nil, err
	}
	rooms := []room{
		{name: "store", run: s.loc.Run}, {name: "trace", run: s.traces.Run},
		{name: "identity", run: func(ctx context.Context) error { return bundle.Watch(ctx, s.log) }},
		{name: "push", run: s.pushes.Run}, {name: "wake", run: s.waker.Run},
		{name: "presence", run: s.published.Run},
		{name: "messages", run: s.messages.Run, ready: s.messages.Ready()},
		// Clients come with the tunnel; by then the PBX can be reached, and an
		// operator can see them.
		{name: "upstream", run: s.up.Run, ready: s.up.Ready()}, admin,
	}
	if s.xmpp != nil {
		rooms = append(rooms, room{name: "notifier", run: s.notifier.Run}, room{name: "xmpp", run: s.xmpp.Run, ready: s.xmpp.Ready()})
	}
	rooms = append(rooms, room{name: "flows", run: s.flows.Run}, room{name: "tunnel", run: s.dialer.Run},
		room{name: "sip", run: s.proxy.Run})
	return append(rooms, s.watchers...), nil
}

// buildSIP makes the proxy and both its sides.
func (s *Server) buildSIP(ctx context.Context, bundle *certs.Bundle) error {
	tokenKeys, err := s.keys(ctx, "token")
	if err != nil {
		return err
	}
	domains, upstreams, err := s.domains(ctx)
	if err != nil {
		return err
	}
	ringback, _ := strconv.Atoi(s.cfg.Wake.Ringback) // "none" is 0; validated
	w := s.cfg.Wake
	s.proxy = sipproxy.New(sipproxy.Config{
		Core: bundle.Name(), Advertise: s.advertise(), AdvertiseTLS: s.advertiseTLS(), Domains: domains,
		Window: w.Window.Duration, Ringback: ringback, RingbackAfter: w.RingbackAfter.Duration,
		ReconnectGrace: w.ReconnectGrace.Duration, PushEnabled: s.cfg.Push.Enabled,
		PushInForeground: w.CallPushInForeground, DesktopActive: s.cfg.IM.DesktopActive.Duration, Providers: s.providers(),
		RefuseUnknown: s.cfg.Push.RefuseUnknown, RefreshMargin: s.cfg.Push.RefreshMargin.Duration, VAPID: s.pushes.VAPID,
		TokenKeys: tokenKeys, FlowTimer: seconds(flowTimer).Duration,
	}, sipproxy.Deps{Location: s.loc, Waker: homecoming{s.waker, s}, Traces: s.traces, Log: s.log, Registry: s.deps.Registry, Messages: s.messages,
		Publications: s.published})
	services := map[string]downstream.Handler{"sip": s.proxy}
	if s.xmpp != nil {
		services["xmpp"] = s.xmpp
	}
	s.flows = downstream.New(services, 4, s.log)
	if s.up, err = s.pbxSide(upstreams); err != nil {
		return err
	}
	s.proxy.Attach(s.flows, s.up)
	s.messages.Attach(s.proxy.Courier())
	s.dialer = tunnel.NewDialer(tunnel.DialerConfig{
		Name: bundle.Name(), Edges: s.cfg.Tunnel.Edges, Open: s.flows.Open, Services: s.flows.Services(),
		Dial:  func(ctx context.Context, edge string) (net.Conn, string, error) { return dialEdge(ctx, bundle, edge) },
		Build: s.deps.Version, Log: s.log, Metrics: s.deps.Registry,
	})
	return nil
}

// presence is how the presence of clients that sleep is shown.
func (c IMConfig) presence() presence.Config {
	p := presence.Config{Delay: c.AwayDelay.Duration}
	if p.Delay == 0 {
		p.Delay = -1 // none
	}
	switch c.SuspendedPresence {
	case "keep":
		p.Mode = presence.ModeKeep
	case "unavailable":
		p.Mode = presence.ModeUnavailable
	}
	return p
}

// dialEdge connects to an edge, which must show the certificate of that name.
func dialEdge(ctx context.Context, bundle *certs.Bundle, edge string) (net.Conn, string, error) {
	host, _, err := net.SplitHostPort(edge)
	if err != nil {
		return nil, "", err
	}
	d := tls.Dialer{Config: bundle.ClientConfig(certs.RoleEdge, host)}
	c, err := d.DialContext(ctx, "tcp", edge)
	if err != nil {
		return nil, "", err
	}
	_, name, err := certs.PeerName(c.(*tls.Conn).ConnectionState())
	if err != nil {
		_ = c.Close()
		return nil, "", err
	}
	return c, name, nil
}

// keys returns the newest and the previous key of a kind.
func (s *Server) keys(ctx context.Context, name string) ([][]byte, error) {
	newest, previous, err := s.store.Keys(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	if previous == nil {
		return [][]byte{newest}, nil
	}
	return [][]byte{newest, previous}, nil
}

// domains reads the users files and lists the upstreams.
func (s *Server) domains(ctx context.Context) ([]sipproxy.Domain, map[string][]string, error) {
	nonceKeys, err := s.keys(ctx, "nonce")
	if err != nil {
		return nil, nil, err
	}
	var out []sipproxy.Domain
	upstreams := map[string][]string{}
	for i, d := range s.cfg.SIP.Domains {
		dom := sipproxy.Domain{Name: strings.ToLower(d.Name), UpstreamExpires: d.UpstreamExpires.Duration, Path: d.Path}
		if dom.UpstreamExpires == 0 {
			dom.UpstreamExpires = defaultUpstreamExpires
		}
		if uris, _ := d.Upstreams(); len(uris) > 0 {
			upstreams[dom.Name] = uris
		} else {
			users, err := registrar.LoadUsers(d.UsersFile)
			if err != nil {
				return nil, nil, fmt.Errorf("sip.domain[%d].users_file: %w", i, err)
			}
			dom.Registrar = registrar.New(dom.Name, users, nonceKeys)
			s.watchers = append(s.watchers, room{name: "users " + d.Name, run: func(ctx context.Context) error {
				users.Watch(ctx, s.log)
				return nil
			}})
		}
		out = append(out, dom)
	}
	return out, upstreams, nil
}

// providers lists the providers with at least one app that can be sent to.
func (s *Server) providers() (list []string) {
	for _, a := range s.pushes.Apps() {
		if !slices.Contains(list, a.Provider) {
			list = append(list, a.Provider)
		}
	}
	return list
}

// flowOf tells wake a device's newest live flow.
func (s *Server) flowOf(device string) string {
	id, ok := location.ParseDeviceID(device)
	if !ok {
		return ""
	}
	d, _ := s.loc.Device(id)
	return d.Flow()
}
