package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/netip"
	"strings"
	"time"

	"sallyport/certs"
	"sallyport/core"
	"sallyport/core/upstream/c2s"
)

// xmppDomain opens a stream to a domain's server as the core would, up to where
// a login would begin.
func (k *checker) xmppDomain(d *core.XMPPDomainConfig) {
	what := "xmpp.domain " + d.Name
	cfg := c2s.Config{
		Name: d.Name, Upstream: d.Upstream, SharedCert: d.SharedCert,
		OpenTimeout: 2 * lookWithin, DialTimeout: lookWithin, Resolver: checkResolver{k.net}, Dial: k.net.Dial,
	}
	if d.CAFile != "" {
		roots, err := certs.LoadRoots(d.CAFile)
		if err != nil {
			k.fail(what, "ca_file is the CA of the XMPP server's certificate, in PEM", "%v", err)
			return
		}
		cfg.Roots = func() *x509.CertPool { return roots.Pool() }
	}
	domain, err := c2s.New(cfg, nil)
	if err != nil {
		k.fail(what, "", "%v", err)
		return
	}
	begun := time.Now()
	s, err := domain.Open(k.ctx, netip.Addr{})
	if err != nil {
		remedy := ""
		if e, ok := errors.AsType[*c2s.Error](err); ok {
			remedy, e.Remedy = e.Remedy, ""
			err = e
		}
		k.fail(what, remedy, "%v", err)
		return
	}
	s.Close(true)
	st := domain.Status()
	how := "in plain"
	if cs := s.TLS(); cs != nil {
		how = "over " + tls.VersionName(cs.Version) + " as " + strings.Join(cs.PeerCertificates[0].DNSNames, ", ")
	}
	k.ok(what, "%s takes clients %s, in %v", st.Server, how, time.Since(begun).Round(time.Millisecond))
	k.ok(what, "to log in with: %s", strings.Join(st.Mechanisms, ", "))
	if st.SM == "" {
		k.remark(what, "have Prosody's smacks or ejabberd's mod_stream_mgmt enabled: sessions survive a restart of the core by it",
			"whether it offers stream management (XEP-0198) shows only after a login")
	}
}

// checkResolver asks the world that is checked.
type checkResolver struct{ network }

func (r checkResolver) LookupNetIP(ctx context.Context, _, host string) (addrs []netip.Addr, err error) {
	found, err := r.LookupHost(ctx, host)
	for _, text := range found {
		if a, err := netip.ParseAddr(text); err == nil {
			addrs = append(addrs, a)
		}
	}
	return addrs, err
}

func (r checkResolver) LookupSRV(ctx context.Context, service, proto, name string) (string, []*net.SRV, error) {
	found, err := r.network.LookupSRV(ctx, service, proto, name)
	return "", found, err
}
