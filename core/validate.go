package core

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"sallyport/core/admin"
	"sallyport/core/upstream"
	"sallyport/tunnel/unit"
)

// defaultUpstreamExpires is asked of a PBX where a domain names no expiry.
const defaultUpstreamExpires = 24 * time.Hour

func seconds(n int) unit.Duration {
	return unit.Duration{Duration: time.Duration(n) * time.Second}
}

// Upstreams returns the SIP URIs of the domain's PBX, none for a stand-alone
// domain. The error says what else was written there.
func (d *DomainConfig) Upstreams() ([]string, error) {
	switch v := d.Upstream.(type) {
	case nil:
		return nil, nil
	case string:
		if v == "" {
			return nil, nil
		}
		return []string{v}, nil
	case []string:
		return v, nil
	case []any:
		var uris []string
		for _, e := range v {
			s, ok := e.(string)
			if !ok {
				return nil, fmt.Errorf("must be a SIP URI or a list of them (got %v)", e)
			}
			uris = append(uris, s)
		}
		return uris, nil
	default:
		return nil, fmt.Errorf("must be a SIP URI or a list of them (got %v)", v)
	}
}

// faults collects what is wrong, each as "section.key: …".
type faults []error

func (f *faults) add(key, format string, args ...any) {
	*f = append(*f, fmt.Errorf("%s: %s", key, fmt.Sprintf(format, args...)))
}

// Validate returns every fault of the config, joined. It opens nothing.
func (c *Config) Validate() error {
	var f faults
	c.validateTunnel(&f)
	c.validateSIP(&f)
	c.validateXMPP(&f)
	c.validateWake(&f)
	c.validatePush(&f)
	if c.Store.Dir == "" && len(c.Store.NATS) == 0 {
		f.add("store.dir", "must name a directory, or store.nats a cluster")
	}
	if c.Store.KeyFile == "" && len(c.Store.NATS) > 0 {
		f.add("store.key_file", "must name the key file that all cores on the cluster share")
	}
	if c.Store.Replicas < 1 || c.Store.Replicas > 5 {
		f.add("store.replicas", "must be 1 to 5 (got %d)", c.Store.Replicas)
	}
	c.validateIM(&f)
	if err := (admin.Config{Listen: c.Admin.Listen, TokenFile: c.Admin.TokenFile, MetricsListen: c.Admin.MetricsListen}).Validate(); err != nil {
		f = append(f, err)
	}
	return errors.Join(f...)
}

// unbuilt names what the config asks for that this version does not do, each as
// "section.key: what happens instead".
func (c *Config) unbuilt() (list []string) {
	for i, a := range c.Push.Apps {
		if senders[a.Provider] == nil {
			list = append(list, fmt.Sprintf("push.app[%d]: devices of provider %s cannot be woken", i, a.Provider))
		}
	}
	return list
}

func (c *Config) validateTunnel(f *faults) {
	if len(c.Tunnel.Edges) == 0 {
		f.add("tunnel.edges", "must name at least one edge as host:port")
	}
	for _, e := range c.Tunnel.Edges {
		if err := hostPort(e); err != nil {
			f.add("tunnel.edges", "%v", err)
		}
	}
	if c.Tunnel.Identity == "" {
		f.add("tunnel.identity", "must name the bundle that `sallyport certs issue --core NAME` wrote")
	}
}

func (c *Config) validateSIP(f *faults) {
	if len(c.SIP.Domains) == 0 && len(c.XMPP.Domains) == 0 {
		f.add("sip.domain", "at least one [[sip.domain]] or [[xmpp.domain]] is needed")
	}
	if len(c.SIP.Listen) == 0 && c.hasUpstream() {
		f.add("sip.listen", "must say where the PBX reaches the core, for example \"tcp:10.0.0.5:5060\"")
	}
	for _, l := range c.SIP.Listen {
		proto, addr, _ := strings.Cut(l, ":")
		if proto != "tcp" && proto != "udp" && proto != "tls" {
			f.add("sip.listen", "%q must begin with tcp:, udp: or tls:", l)
		} else if err := hostPort(addr); err != nil {
			f.add("sip.listen", "%q: %v", l, err)
		}
		if proto == "tls" && c.SIP.Cert == "" {
			f.add("sip.cert", "must name the certificate that %q shows", l)
		}
	}
	if (c.SIP.Cert == "") != (c.SIP.Key == "") {
		f.add("sip.key", "cert and key belong together")
	}
	if p := c.SIP.Probe.Duration; p != 0 && p < 5*time.Second {
		f.add("sip.probe", "must be 0s (never) or at least 5s (got %v)", c.SIP.Probe)
	}
	if c.SIP.Advertise != "" {
		if err := hostPort(c.SIP.Advertise); err != nil {
			f.add("sip.advertise", "%v", err)
		}
	}
	for _, t := range c.SIP.Trusted {
		if _, err := netip.ParsePrefix(t); err != nil {
			f.add("sip.trusted", "%q is no CIDR such as 10.0.0.0/24", t)
		}
	}
	seen := map[string]bool{}
	for i, d := range c.SIP.Domains {
		d.validate(f, fmt.Sprintf("sip.domain[%d]", i))
		if name := strings.ToLower(d.Name); seen[name] {
			f.add(fmt.Sprintf("sip.domain[%d].name", i), "%q is named twice", d.Name)
		} else {
			seen[name] = true
		}
	}
}

func (d *DomainConfig) validate(f *faults, at string) {
	if d.Name == "" {
		f.add(at+".name", "must be the domain of the AORs, such as example.com")
	}
	uris, err := d.Upstreams()
	switch {
	case err != nil:
		f.add(at+".upstream", "%v", err)
	case len(uris) == 0 && d.UsersFile == "":
		f.add(at, "needs upstream (a PBX) or users_file (stand-alone)")
	case len(uris) > 0 && d.UsersFile != "":
		f.add(at, "upstream and users_file exclude each other")
	}
	for _, u := range uris {
		if _, err := upstream.ParseTarget(u); err != nil {
			f.add(at+".upstream", "%v", err)
		}
	}
	if (d.UpstreamCert == "") != (d.UpstreamKey == "") {
		f.add(at+".upstream_key", "upstream_cert and upstream_key belong together")
	}
	if d.UpstreamExpires.Duration < 0 || d.UpstreamExpires.Duration > 0 && d.UpstreamExpires.Duration < time.Minute {
		f.add(at+".upstream_expires", "must be at least 1m (got %v)", d.UpstreamExpires)
	}
}

func (c *Config) hasUpstream() bool {
	for _, d := range c.SIP.Domains {
		if uris, _ := d.Upstreams(); len(uris) > 0 {
			return true
		}
	}
	return false
}

func (c *Config) validateWake(f *faults) {
	w := c.Wake
	if w.Window.Duration < time.Second || w.Window.Duration > time.Minute {
		f.add("wake.window", "must be 1s to 60s (got %v)", w.Window)
	}
	switch w.Ringback {
	case "none", "180", "183":
	default:
		f.add("wake.ringback", "must be none, 180 or 183 (got %q)", w.Ringback)
	}
	if w.RingbackAfter.Duration < 0 {
		f.add("wake.ringback_after", "must not be negative (got %v)", w.RingbackAfter)
	}
	if w.DeviceKeep.Duration <= 0 {
		f.add("wake.device_keep", "must be positive (got %v)", w.DeviceKeep)
	}
	if w.ReconnectGrace.Duration < 0 || w.ReconnectGrace.Duration > time.Minute {
		f.add("wake.reconnect_grace", "must be 0s to 60s (got %v)", w.ReconnectGrace)
	}
}

func hostPort(s string) error {
	_, port, err := net.SplitHostPort(s)
	if err != nil {
		return fmt.Errorf("%q is not host:port", s)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return fmt.Errorf("%q has no valid port", s)
	}
	return nil
}
