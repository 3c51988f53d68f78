package main

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"sallyport/certs"
	"sallyport/core"
	"sallyport/core/registrar"
	"sallyport/core/upstream"
)

// core checks a core's config and what it names.
func (k *checker) core(path string) {
	cfg, ok := load(k, path, core.DefaultConfig)
	if !ok {
		return
	}
	bundle := k.identity(cfg.Tunnel.Identity, certs.RoleCore)
	for _, edge := range cfg.Tunnel.Edges {
		k.tunnelTo(bundle, edge)
	}
	for _, l := range cfg.SIP.Listen {
		proto, addr, _ := strings.Cut(l, ":")
		if proto == "tls" {
			proto = "tcp"
		}
		k.opens("sip.listen", proto, addr)
	}
	for i := range cfg.SIP.Domains {
		k.domain(&cfg.SIP.Domains[i])
	}
	for i := range cfg.XMPP.Domains {
		k.xmppDomain(&cfg.XMPP.Domains[i])
	}
	k.pushApps(cfg.Push)
	k.store(cfg.Store)
	if cfg.Admin.Listen != "" {
		k.opens("admin.listen", "tcp", cfg.Admin.Listen)
	}
	if f := cfg.Admin.TokenFile; f != "" {
		if _, err := os.Stat(f); err != nil {
			k.fail("admin.token_file", "make one: openssl rand -hex 32 > "+f, "%v", err)
		} else {
			k.private("admin.token_file", f)
		}
	}
}

// tunnelTo dials an edge and shakes hands as the core would.
func (k *checker) tunnelTo(bundle *certs.Bundle, edge string) {
	const what = "tunnel.edges"
	host, _, _ := net.SplitHostPort(edge)
	if !k.resolves(what, host, "correct the name, or add it to DNS or /etc/hosts") {
		return
	}
	conn, ok := k.reaches(what, edge, "let the firewall pass connections from here to the edge's [tunnel] listen; is the edge running?")
	if !ok {
		return
	}
	defer conn.Close()
	if bundle == nil || bundle.Role() != certs.RoleCore {
		k.remark(what, "", "%s can be reached; without a good bundle, no handshake was tried", edge)
		return
	}
	_ = conn.SetDeadline(time.Now().Add(lookWithin))
	tlsConn := tls.Client(conn, bundle.ClientConfig(certs.RoleEdge, host))
	if err := tlsConn.HandshakeContext(k.ctx); err != nil {
		k.fail(what, tunnelRemedies[certs.Reason(err)], "%s: %v", edge, err)
		return
	}
	// An edge that refuses this core says so after the client's part of a TLS
	// 1.3 handshake is done; one that takes it waits or says hello.
	_ = conn.SetDeadline(time.Now().Add(time.Second))
	_, err := tlsConn.Read(make([]byte, 1))
	if timeout, ok := errors.AsType[net.Error](err); err != nil && (!ok || !timeout.Timeout()) {
		k.fail(what, "is this core's bundle from the same CA as the edge's, and this host within the edge's tunnel.allow?", "%s refuses this core: %v", edge, err)
		return
	}
	k.ok(what, "%s is the edge it should be, and takes this core", edge)
}

// tunnelRemedies are by the reason of a failed handshake.
var tunnelRemedies = map[string]string{
	"foreign_ca": "issue both bundles from one CA directory",
	"wrong_name": "issue the edge's bundle for the very host that tunnel.edges names: sallyport certs issue --dir DIR --edge HOST",
	"wrong_role": "the edge must have a bundle made with --edge, not --core",
	"expired":    "issue the edge's bundle again, and look at both clocks",
	"other":      "is that the edge's [tunnel] listen, and not another port of it?",
}

func (k *checker) domain(d *core.DomainConfig) {
	what := "sip.domain " + d.Name
	if d.UsersFile != "" {
		if _, err := registrar.LoadUsers(d.UsersFile); err != nil {
			k.fail(what, "sallyport users add --file "+d.UsersFile+" --domain "+d.Name+" --password-stdin USER", "%v", err)
		} else {
			k.ok(what, "%s is good", d.UsersFile)
			k.private(what, d.UsersFile)
		}
		return
	}
	uris, _ := d.Upstreams() // validated
	secure := k.upstreamTLS(what, d)
	for _, uri := range uris {
		k.upstream(what, uri, secure)
	}
}

// upstreamTLS reads the files by which a domain's PBX is met over TLS.
func (k *checker) upstreamTLS(what string, d *core.DomainConfig) *tls.Config {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if d.UpstreamCA != "" {
		roots, err := certs.LoadRoots(d.UpstreamCA)
		if err != nil {
			k.fail(what, "upstream_ca is the CA of the PBX's certificate, in PEM", "%v", err)
		} else {
			cfg.RootCAs = roots.Pool()
		}
	}
	if d.UpstreamCert != "" {
		pair, err := tls.LoadX509KeyPair(d.UpstreamCert, d.UpstreamKey)
		if err != nil {
			k.fail(what, "upstream_cert and upstream_key are a chain and its key, in PEM", "%v", err)
		} else {
			cfg.Certificates = []tls.Certificate{pair}
			k.private(what, d.UpstreamKey)
		}
	}
	return cfg
}

func (k *checker) upstream(what, uri string, secure *tls.Config) {
	t, err := upstream.ParseTarget(uri)
	if err != nil {
		k.fail(what, "", "%v", err)
		return
	}
	addr := net.JoinHostPort(t.Host, strconv.Itoa(int(t.Port)))
	if t.Port == 0 {
		addr = k.located(t)
	}
	host, _, _ := net.SplitHostPort(addr)
	if !k.resolves(what, host, "correct the upstream's name, or write its address") {
		return
	}
	if t.Transport == "UDP" {
		k.remark(what, "", "%s is UDP, which cannot be tried without a request", addr)
		return
	}
	conn, ok := k.reaches(what, addr, "does the PBX listen on TCP there? A SIP PBX often does so only when told: Kamailio listen=tcp:…, Asterisk transport protocol=tcp")
	if !ok {
		return
	}
	defer conn.Close()
	if t.Transport != "TLS" {
		k.ok(what, "%s takes connections", addr)
		return
	}
	secure = secure.Clone()
	secure.ServerName = t.Host
	_ = conn.SetDeadline(time.Now().Add(lookWithin))
	if err := tls.Client(conn, secure).HandshakeContext(k.ctx); err != nil {
		k.fail(what, "name the PBX as its certificate does, and its CA in upstream_ca if that is your own", "%s: %v", addr, err)
		return
	}
	k.ok(what, "%s is %s, as its certificate shows", addr, t.Host)
}

// located finds the host and port of a target without one (RFC 3263 §4.2).
func (k *checker) located(t upstream.Target) string {
	ctx, cancel := context.WithTimeout(k.ctx, lookWithin)
	defer cancel()
	service, proto, port := "sip", strings.ToLower(t.Transport), "5060"
	if t.Transport == "TLS" {
		service, proto, port = "sips", "tcp", "5061"
	}
	if found, err := k.net.LookupSRV(ctx, service, proto, t.Host); err == nil && len(found) > 0 {
		return net.JoinHostPort(strings.TrimSuffix(found[0].Target, "."), strconv.Itoa(int(found[0].Port)))
	}
	return net.JoinHostPort(t.Host, port)
}

func (k *checker) store(cfg core.StoreConfig) {
	if len(cfg.NATS) > 0 {
		for _, s := range cfg.NATS {
			k.natsServer(s)
		}
		return
	}
	dir := cfg.Dir
	info, err := os.Stat(dir)
	if errors.Is(err, os.ErrNotExist) {
		if info, err = os.Stat(filepath.Dir(dir)); err == nil && info.IsDir() {
			k.ok("store.dir", "%s will be made", dir)
			return
		}
	}
	switch {
	case err != nil:
		k.fail("store.dir", "make the directory and give it to the user that the core runs as", "%v", err)
	case !info.IsDir():
		k.fail("store.dir", "name a directory", "%s is a file", dir)
	default:
		k.ok("store.dir", "%s is there", dir)
		k.private("store.dir", dir)
	}
}

func (k *checker) natsServer(server string) {
	u, err := url.Parse(server)
	if err != nil || u.Host == "" {
		k.fail("store.nats", "write it like nats://nats1.example.com:4222", "%q is no URL", server)
		return
	}
	addr := u.Host
	if u.Port() == "" {
		addr = net.JoinHostPort(u.Hostname(), "4222")
	}
	if conn, ok := k.reaches("store.nats", addr, "is the cluster running, and does the firewall pass it?"); ok {
		conn.Close()
		k.ok("store.nats", "%s takes connections", addr)
	}
}
