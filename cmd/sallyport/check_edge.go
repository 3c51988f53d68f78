package main

import (
	"crypto/tls"
	"net"
	"os"

	"sallyport/certs"
	"sallyport/edge"
)

// edge checks an edge's config and what it names.
func (k *checker) edge(path string) {
	cfg, ok := load(k, path, edge.DefaultConfig)
	if !ok {
		return
	}
	k.identity(cfg.Tunnel.Identity, certs.RoleEdge)
	k.resolves("public.hostname", cfg.Public.Hostname, "clients dial this name: give it an A or AAAA record that leads to this edge")
	k.publicCerts(cfg)
	for _, l := range []struct{ what, addr string }{
		{"public.https", cfg.Public.HTTPS}, {"public.sips", cfg.Public.SIPS}, {"public.http", cfg.Public.HTTP},
		{"public.xmpps", cfg.Public.XMPPS}, {"tunnel.listen", cfg.Tunnel.Listen}, {"admin.listen", cfg.Admin.Listen},
	} {
		if l.addr != "" {
			k.opens(l.what, "tcp", l.addr)
		}
	}
	if host, _, err := net.SplitHostPort(cfg.Tunnel.Listen); err == nil && len(cfg.Tunnel.Allow) == 0 {
		if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
			k.remark("tunnel.listen", "listen on the inner interface's address, or name the cores' networks in tunnel.allow", "%s takes connections on every interface, the internet's too", cfg.Tunnel.Listen)
		}
	}
}

// identity checks a bundle.
func (k *checker) identity(path string, role certs.Role) *certs.Bundle {
	const what = "tunnel.identity"
	b, err := certs.LoadBundle(path)
	if err != nil {
		k.fail(what, "on the CA's host: sallyport certs issue --dir DIR --"+string(role)+" NAME, then copy DIR/NAME.pem here", "%v", err)
		return nil
	}
	renew := "sallyport certs issue --dir DIR --" + string(role) + " " + b.Name() + ", then copy the bundle here; it is reloaded without a restart"
	switch text := certs.EndWarning(path, b.NotAfter(), k.now); {
	case b.Role() != role:
		k.fail(what, "sallyport certs issue --dir DIR --"+string(role)+" NAME", "%s is the bundle of %s %s; here one of role %s is needed", path, b.Role(), b.Name(), role)
	case text != "":
		k.remark(what, renew, "%s", text)
	default:
		k.ok(what, "%s is %s %s, valid until %s", path, role, b.Name(), b.NotAfter().Format("2006-01-02"))
	}
	k.private(what, path)
	return b
}

// private remarks on a key file that others on this host can read.
func (k *checker) private(what, path string) {
	if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o007 != 0 {
		k.remark(what, "chmod o= "+path, "%s holds a secret, and every user of this host may use it", path)
	}
}

// publicCerts checks the certificates that clients see, or that ACME can
// fetch one.
func (k *checker) publicCerts(cfg edge.Config) {
	var pairs []certs.Pair
	if cfg.TLS.Cert != "" {
		pairs = append(pairs, certs.Pair{Cert: cfg.TLS.Cert, Key: cfg.TLS.Key})
	}
	for _, c := range cfg.TLS.Certificates {
		pairs = append(pairs, certs.Pair{Cert: c.Cert, Key: c.Key, Names: c.Names})
	}
	if len(pairs) == 0 {
		k.acme(cfg)
		return
	}
	covered := false
	for _, pair := range pairs {
		covered = k.publicCert(pair, cfg.Public.Hostname) || covered
	}
	if !covered {
		k.fail("tls.cert", "get a certificate for that name, or correct public.hostname", "no certificate that could be loaded names %s: clients will refuse it", cfg.Public.Hostname)
	}
}

// publicCert checks one pair; covers reports whether it names the host.
func (k *checker) publicCert(pair certs.Pair, host string) (covers bool) {
	p, err := certs.LoadPublic([]certs.Pair{pair})
	if err != nil {
		k.fail("tls.cert", "name the certificate chain (leaf first) and its private key, both in PEM", "%v", err)
		return false
	}
	k.private("tls.key", pair.Key)
	if warnings := p.Warnings(k.now); len(warnings) > 0 {
		if p.NotAfter().Before(k.now) {
			k.fail("tls.cert", "renew it in place; it is reloaded without a restart", "%s", warnings[0])
		} else {
			k.remark("tls.cert", "renew it in place; it is reloaded without a restart", "%s", warnings[0])
		}
	} else {
		k.ok("tls.cert", "%s is valid until %s", pair.Cert, p.NotAfter().Format("2006-01-02"))
	}
	cert, err := p.GetCertificate(&tls.ClientHelloInfo{ServerName: host})
	return err == nil && cert.Leaf.VerifyHostname(host) == nil
}

func (k *checker) acme(cfg edge.Config) {
	_, https, _ := net.SplitHostPort(cfg.Public.HTTPS)
	_, http, _ := net.SplitHostPort(cfg.Public.HTTP)
	switch {
	case net.ParseIP(cfg.Public.Hostname) != nil:
		k.fail("tls.acme", "use a DNS name, or certificate files", "public.hostname %s is an address, for which ACME gives no certificate", cfg.Public.Hostname)
	case https != "443" && http != "80":
		k.remark("tls.acme", "listen on :443 or :80, or see that one of them is forwarded here", "ACME must reach this edge on port 443 or 80, and neither is listened on")
	default:
		k.ok("tls.acme", "a certificate for %s will be fetched at the start", cfg.Public.Hostname)
	}
}
