package main

import (
	"cmp"
	"crypto/tls"
	"errors"
	"io/fs"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"golang.org/x/crypto/acme/autocert"

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
	if cfg.TLS.ACME && cfg.TLS.Cert == "" {
		k.acme(cfg)
	}
	covered := false
	for _, pair := range pairs {
		covered = k.publicCert(pair, cfg.Public.Hostname) || covered
	}
	if !covered && len(pairs) > 0 && (!cfg.TLS.ACME || cfg.TLS.Cert != "") {
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

// acme checks what fetching a certificate needs, as far as it can be seen from
// here: the authority answers, it is called back on a port of ours, and what it
// gives can be kept. It orders nothing.
func (k *checker) acme(cfg edge.Config) {
	_, https, _ := net.SplitHostPort(cfg.Public.HTTPS)
	_, http, _ := net.SplitHostPort(cfg.Public.HTTP)
	if https != "443" && http != "80" {
		k.remark("tls.acme", "listen on :443 or :80, or see that one of them is forwarded here", "the authority calls %s on port 443 or 80, and neither is listened on", cfg.Public.Hostname)
	} else {
		k.ok("tls.acme", "a certificate for %s is fetched and renewed; from the internet, its port must lead here", cfg.Public.Hostname)
	}
	k.acmeStore(cfg)
	k.authority(cfg.TLS.ACMEDirectory)
}

// acmeStore checks the directory without making it.
func (k *checker) acmeStore(cfg edge.Config) {
	const what = "tls.acme_dir"
	dir := cfg.TLS.ACMEDir
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		k.remark(what, "well under the systemd unit, which makes it; else: install -d -m 700 -o sallyport "+dir, "%s does not exist", dir)
		return
	}
	cert, err := certs.StoredCertificate(certs.ACMEConfig{Name: cfg.Public.Hostname, Directory: cfg.TLS.ACMEDirectory, Dir: dir})
	switch {
	case err != nil:
		k.fail(what, "", "%v", err)
	case cert == nil:
		k.ok(what, "%s is its owner's alone, and holds no certificate yet", dir)
	default:
		end := cert.Leaf.NotAfter
		if end.Sub(k.now) < 14*24*time.Hour {
			k.remark(what, "see why in the log: journalctl -u sallyport-edge", "the certificate for %s ends on %s, and was not renewed", cfg.Public.Hostname, end.Format(time.DateOnly))
			return
		}
		k.ok(what, "%s holds a certificate until %s", dir, end.Format(time.DateOnly))
	}
}

// authority checks that it can be dialled. Behind an egress proxy it cannot,
// and need not.
func (k *checker) authority(directory string) {
	const what = "tls.acme_directory"
	u, err := url.Parse(cmp.Or(directory, autocert.DefaultACMEDirectory))
	if err != nil {
		return // the config's check has said so
	}
	addr := net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), "443"))
	for _, v := range k.env {
		if name, value, _ := strings.Cut(v, "="); strings.EqualFold(name, "HTTPS_PROXY") && value != "" {
			k.ok(what, "%s is asked through HTTPS_PROXY, and not tried from here", addr)
			return
		}
	}
	if conn, ok := k.reaches(what, addr, "let this host reach it on that port, or set HTTPS_PROXY in /etc/sallyport/edge.env"); ok {
		conn.Close()
		k.ok(what, "%s takes connections", addr)
	}
}
