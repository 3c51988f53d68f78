package core

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sallyport/core/admin"
	"sallyport/core/location"
	"sallyport/core/sipmsg"
	"sallyport/core/trace"
	"sallyport/core/upstream"
)

// admin makes the status API over what the rooms say of themselves.
func (s *Server) admin() (room, error) {
	s.observe()
	a, err := admin.New(s.adminConfig(), admin.Sources{
		Status: s.status, Clients: s.clients, Traces: s.tracesOf, PushTest: s.pushTest, Ready: s.Ready,
		DND: s.dnd, SetDND: s.setDND,
	}, s.log, s.deps.Registry)
	if err != nil {
		return room{}, err
	}
	return room{name: "admin", run: a.Run, ready: a.Opened()}, nil
}

func (s *Server) adminConfig() admin.Config {
	return admin.Config{Listen: s.cfg.Admin.Listen, TokenFile: s.cfg.Admin.TokenFile, MetricsListen: s.cfg.Admin.MetricsListen}
}

// observe registers the gauges that no room counts for itself.
func (s *Server) observe() {
	gauge := func(name, help string, f func() float64) {
		s.deps.Registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, f))
	}
	gauge("sallyport_core_flows", "Clients connected through any edge.", func() float64 { return float64(s.flows.Len()) })
	gauge("sallyport_core_devices", "Devices that are known, asleep or awake.", func() float64 {
		devices, _ := s.loc.Count()
		return float64(devices)
	})
	gauge("sallyport_core_registered", "Devices that are registered on a live flow.", func() float64 {
		_, live := s.loc.Count()
		return float64(live)
	})
}

func (s *Server) status() admin.Status {
	st := admin.Status{
		Version: s.deps.Version, Started: s.at, Uptime: int64(time.Since(s.at).Seconds()), Ready: s.Ready(),
		Push: admin.Push{Enabled: s.cfg.Push.Enabled}, Store: admin.Store{Kind: "embedded", OK: s.store.Ready()},
		Warnings: s.warningsNow(),
	}
	if len(s.cfg.Store.NATS) > 0 {
		st.Store.Kind = "cluster"
	}
	if !st.Store.OK {
		st.Store.LastError = "not connected"
	}
	for _, t := range s.dialer.Sessions() {
		st.Tunnels = append(st.Tunnels, admin.Tunnel{
			Edge: t.Edge, Up: t.Up, Since: admin.At(t.Since), Flows: t.Flows, LastError: t.LastError, Notices: t.Notices,
		})
	}
	for _, u := range s.up.Status() {
		st.Domains = append(st.Domains, domainStatus(u))
	}
	for _, d := range s.cfg.SIP.Domains {
		if d.UsersFile != "" {
			st.Domains = append(st.Domains, admin.Domain{Name: d.Name, OK: true})
		}
	}
	for _, d := range s.xmppServers {
		st.Domains = append(st.Domains, xmppStatus(d.Status()))
	}
	for _, a := range s.pushes.Apps() {
		st.Push.Apps = append(st.Push.Apps, admin.App{ID: a.ID, Provider: a.Provider, OK: a.OK, LastError: a.LastError})
	}
	return st
}

// domainStatus is how a PBX fares, server by server.
func domainStatus(u upstream.Status) admin.Domain {
	d := admin.Domain{Name: u.Domain, Upstream: u.Upstream, OK: u.Up, LastError: u.LastError}
	for _, s := range u.Servers {
		one := admin.Server{Server: s.Server, OK: s.Up, Since: admin.At(s.Since), LastError: s.LastError}
		if !s.Away.IsZero() {
			one.LastError = "asks to be left alone until " + s.Away.Format(time.RFC3339)
		}
		d.Servers = append(d.Servers, one)
	}
	return d
}

// warningsNow are what an operator should see to, each with its remedy.
func (s *Server) warningsNow() (list []string) {
	for _, w := range s.warnings {
		if text := w(); text != "" {
			list = append(list, text)
		}
	}
	list = append(list, s.waker.Alarms()...)
	if text := s.deaf(); text != "" {
		list = append(list, text)
	}
	for domain, grant := range s.proxy.ShortGrants() {
		list = append(list, domain+": the PBX grants "+grant.String()+" where upstream_expires asks for more, so phones that sleep longer "+
			"cannot be called: raise its maximum registration expiry")
	}
	for domain, status := range s.proxy.Unpublished() {
		list = append(list, fmt.Sprintf("%s: the PBX answers %d to what the core publishes for phones that sleep, so they are not shown as away: "+
			"let it take PUBLISH from the core's address without credentials", domain, status))
	}
	for _, domain := range s.proxy.Pathless() {
		list = append(list, domain+": the PBX does not confirm Path, so its calls may miss the phones: let it support Path, or set path = false")
	}
	for reason := range s.misfits() {
		list = append(list, reason)
	}
	list = append(list, s.pushes.Alarms()...)
	slices.Sort(list)
	return list
}

// misfits are the reasons why devices with tokens cannot be pushed to.
func (s *Server) misfits() map[string]bool {
	out := make(map[string]bool)
	s.loc.All(func(d location.Device) bool {
		for _, t := range d.Tokens {
			if _, reason, ok := s.pushes.Fit(pushToken(t)); !ok && len(out) < 16 {
				out["a device brings a push token that no [[push.app]] fits: "+reason] = true
			}
		}
		return true
	})
	return out
}

// aorOf reads an address as people write it: with or without "sip:".
func aorOf(s string) string {
	if s == "" {
		return ""
	}
	if !strings.Contains(s, ":") {
		s = "sip:" + s
	}
	u, err := sipmsg.ParseURI(s)
	if err != nil {
		return s
	}
	return u.AOR()
}

func (s *Server) clients(aor string) []admin.Client {
	list := []admin.Client{}
	_, bare, _ := strings.Cut(aorOf(aor), ":")
	seen := make(map[location.DeviceID]bool)
	if aor == "" || bare != "" {
		list = append(list, s.xmppClients(bare, seen)...)
	}
	add := func(d location.Device) bool {
		if !seen[d.ID] {
			list = append(list, s.client(d))
		}
		return true
	}
	if aor == "" {
		s.loc.All(add)
		return list
	}
	for _, who := range slices.Compact([]string{aorOf(aor), "xmpp:" + bare}) {
		for _, d := range s.loc.Lookup(who) {
			add(d)
		}
	}
	return list
}

func (s *Server) client(d location.Device) admin.Client {
	c := admin.Client{
		AOR: d.ID.AOR, Instance: d.ID.Instance, State: s.proxy.State(d).String(),
		Tokens: []admin.Token{}, LastWake: admin.At(d.LastWake), Held: s.messages.Held(d.ID.String()),
	}
	if f := s.flows.Get(d.Flow()); f != nil {
		c.Flow = &admin.Flow{
			ID: f.ID(), Edge: f.Edge(), Transport: f.Info().Transport, Remote: f.Info().Remote.String(), Since: f.Since(),
		}
	}
	for _, t := range d.Tokens {
		c.Tokens = append(c.Tokens, s.tokenOf(d, t))
	}
	var last time.Time
	for _, b := range d.Bindings {
		if b.Expires.After(last) {
			last = b.Expires
		}
	}
	c.Expires = admin.At(last)
	return c
}

func (s *Server) tracesOf(aor string) []trace.Trace { return s.traces.ByAOR(aorOf(aor)) }
