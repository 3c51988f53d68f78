package core

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"sallyport/certs"
	"sallyport/core/upstream"
)

// pbxSide makes the connections to the PBXs.
func (s *Server) pbxSide(upstreams map[string][]string) (*upstream.Upstream, error) {
	cfg := upstream.Config{
		Listen: s.cfg.SIP.Listen, Upstreams: upstreams, Probe: s.cfg.SIP.Probe.Duration,
		ClientTLS: map[string]func() *tls.Config{},
	}
	for _, t := range s.cfg.SIP.Trusted {
		cfg.Trusted = append(cfg.Trusted, netip.MustParsePrefix(t)) // validated
	}
	var err error
	if s.cfg.SIP.Cert != "" {
		var pub *certs.Public
		if pub, err = s.pair("sip.cert", s.cfg.SIP.Cert, s.cfg.SIP.Key); err == nil {
			cfg.ServerTLS = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: pub.GetCertificate}
		}
	}
	for i, d := range s.cfg.SIP.Domains {
		if len(upstreams[strings.ToLower(d.Name)]) == 0 {
			continue
		}
		made, e := s.clientTLS(fmt.Sprintf("sip.domain[%d]", i), d)
		err = errors.Join(err, e)
		cfg.ClientTLS[strings.ToLower(d.Name)] = made
	}
	if err != nil {
		return nil, err
	}
	return upstream.New(cfg, s.proxy.Upstream(), s.log, s.deps.Registry), nil
}

// clientTLS is what a domain's servers are met with over TLS, as its files are
// at each new connection.
func (s *Server) clientTLS(at string, d DomainConfig) (func() *tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	roots := func() *x509.CertPool { return nil } // the system's
	if d.UpstreamCA != "" {
		r, err := certs.LoadRoots(d.UpstreamCA)
		if err != nil {
			return nil, fmt.Errorf("%s.upstream_ca: %w", at, err)
		}
		s.reloads = append(s.reloads, r.Reload)
		s.watchers = append(s.watchers, room{name: "CAs of " + d.Name, run: func(ctx context.Context) error { return r.Watch(ctx, s.log) }})
		roots = r.Pool
	}
	if d.UpstreamCert != "" {
		pub, err := s.pair(at+".upstream_cert", d.UpstreamCert, d.UpstreamKey)
		if err != nil {
			return nil, err
		}
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return pub.GetCertificate(&tls.ClientHelloInfo{})
		}
	}
	return func() *tls.Config {
		now := cfg.Clone()
		now.RootCAs = roots()
		return now
	}, nil
}

// pair loads a certificate that is then watched, and warned of before its end.
func (s *Server) pair(at, cert, key string) (*certs.Public, error) {
	pub, err := certs.LoadPublic([]certs.Pair{{Cert: cert, Key: key}})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", at, err)
	}
	s.reloads = append(s.reloads, pub.Reload)
	s.warnings = append(s.warnings, func() string { return certs.EndWarning(cert, pub.NotAfter(), time.Now()) })
	s.watchers = append(s.watchers, room{name: at, run: func(ctx context.Context) error { return pub.Watch(ctx, s.log) }})
	return pub, nil
}

// advertise is what PBXs are told. A core with stand-alone domains alone needs
// no address; the name then only has to be nobody else's.
func (s *Server) advertise() string {
	if a := s.cfg.SIP.Advertise; a != "" {
		return a
	}
	for _, l := range s.cfg.SIP.Listen {
		if _, addr, ok := strings.Cut(l, ":"); ok {
			return addr
		}
	}
	return "core.invalid:5060"
}

// advertiseTLS is what PBXs are told that are met over TLS: the host of
// advertise and the port of the tls: listener. Without one it is the same
// address as over TCP, which leads nowhere, but names our own connection to a
// PBX that uses it both ways (RFC 5923).
func (s *Server) advertiseTLS() string {
	host, _, err := net.SplitHostPort(s.advertise())
	for _, l := range s.cfg.SIP.Listen {
		addr, secure := strings.CutPrefix(l, "tls:")
		if _, port, e := net.SplitHostPort(addr); secure && err == nil && e == nil {
			return net.JoinHostPort(host, port)
		}
	}
	return s.advertise()
}
