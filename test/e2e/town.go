// Package e2e tells whole-system stories: a real edge and a real core in one
// process, joined by a real tunnel over TLS, with scripted phones on real
// sockets, a PBX where one is wanted, and Apple's push service simulated. The
// demo of the operator's tool is one of these stories. Nothing here is part of
// either service.
package e2e

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/pelletier/go-toml/v2"
	"github.com/prometheus/client_golang/prometheus"

	"sallyport/certs"
	"sallyport/certs/ca"
	"sallyport/core"
	"sallyport/core/push/pushtest"
	"sallyport/core/registrar"
	"sallyport/edge"
	"sallyport/test/phone"
	"sallyport/tunnel"
	"sallyport/tunnel/unit"
)

// App is the bundle id of the app that the town's phones run.
const App = "org.example.phone"

// Domain is the stand-alone domain of the town.
const Domain = "demo.example"

// PBXDomain is the domain of the town's PBX, if it has one.
const PBXDomain = "example.com"

// Config says what a town is made of.
type Config struct {
	// Dir is an empty directory for keys, certificates and the store.
	Dir string
	// Users of both domains; the password of each is Password(user).
	Users []string
	// PBX adds a domain with a PBX behind it.
	PBX bool
	// FCM adds Google's push service, and the app at it.
	FCM bool
	// WebPush adds a push service of a browser's maker, and the app by it.
	WebPush bool
	// Core and Edge change the configs before use; nil changes nothing.
	Core func(*core.Config)
	Edge func(*edge.Config)
	// OnPush hears each push that Apple accepts; it must not block.
	OnPush func(pushtest.Push)
	Log    *slog.Logger
}

// Password is the SIP password of a user of the town.
func Password(user string) string { return "secret-" + user }

// Town is a company with a DMZ, as small as it gets.
type Town struct {
	APNs *pushtest.APNs
	FCM  *pushtest.FCM // nil without one, and before Start
	PBX  *phone.PBX    // nil without one

	WebPush *pushtest.WebPush // nil without one, and before Start
	VAPID   string            // the key that pages subscribe with, if they are pushed to

	// SIPS and HTTPS are the public addresses, Admin is that of the core's API.
	SIPS, HTTPS, Admin string
	// CoreSIP is where the PBX reaches the core.
	CoreSIP string
	// PBXSIP is where desk phones reach the PBX, "" without one.
	PBXSIP string
	// TeamID is the Apple team of the app, KeyID and KeyFile are its push key.
	TeamID, KeyID, KeyFile string
	// EdgeMetrics is the registry of the edge that runs now.
	EdgeMetrics *prometheus.Registry

	cfg    Config
	roots  *x509.CertPool
	edge   edge.Config
	core   core.Config
	apnsAt net.Listener
	pbxAt  net.Listener
	held   []net.Listener

	parts   sync.WaitGroup
	errs    chan error
	mu      sync.Mutex
	running map[string]part // guarded by mu
	coreNow *core.Server    // guarded by mu
	edgeNow *edge.Server    // guarded by mu
}

type part struct {
	stop context.CancelFunc
	done chan struct{}
}

// New writes what a town needs into cfg.Dir and opens the listeners of the
// outside world. Nothing runs yet.
func New(cfg Config) (*Town, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	t := &Town{cfg: cfg, running: make(map[string]part), errs: make(chan error, 16)}
	if err := t.listen(); err != nil {
		return nil, err
	}
	if err := t.writeKeys(); err != nil {
		return nil, err
	}
	return t, t.configure()
}

// listen finds the addresses. Those of edge and core are held until they start.
func (t *Town) listen() (err error) {
	if t.apnsAt, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return err
	}
	if t.cfg.PBX {
		if t.pbxAt, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			return err
		}
		t.PBXSIP = t.pbxAt.Addr().String()
	}
	for _, a := range []*string{&t.SIPS, &t.HTTPS, &t.Admin, &t.CoreSIP, &t.edge.Tunnel.Listen} {
		l, err := freeAddr()
		if err != nil {
			return err
		}
		t.held, *a = append(t.held, l), l.Addr().String()
	}
	return nil
}

// release gives back the ports of edge and core, just before they start.
func (t *Town) release() {
	for _, l := range t.held {
		_ = l.Close()
	}
	t.held = nil
}

func (t *Town) writeKeys() (err error) {
	dir := filepath.Join(t.cfg.Dir, "ca")
	if err := ca.Init(dir); err != nil {
		return err
	}
	edgeBundle, err := ca.Issue(dir, certs.RoleEdge, "127.0.0.1", 90)
	if err != nil {
		return err
	}
	coreBundle, err := ca.Issue(dir, certs.RoleCore, "core1", 90)
	if err != nil {
		return err
	}
	listen := t.edge.Tunnel.Listen
	t.edge, t.core = edge.DefaultConfig(), core.DefaultConfig()
	t.edge.Tunnel = edge.Tunnel{Listen: listen, Identity: edgeBundle}
	t.core.Tunnel = core.TunnelConfig{Edges: []string{listen}, Identity: coreBundle}
	if t.edge.TLS.Cert, t.edge.TLS.Key, t.roots, err = publicCertificate(t.cfg.Dir); err != nil {
		return err
	}
	t.APNs = pushtest.NewAPNs(pushtest.APNsConfig{AnyToken: true})
	t.APNs.OnPush = t.cfg.OnPush
	var caFile string
	if caFile, t.KeyFile, t.KeyID, t.TeamID, err = t.APNs.WriteFiles(t.cfg.Dir); err != nil {
		return err
	}
	t.core.Push.Apps = []core.AppConfig{{
		ID: App, Provider: "apns", TeamID: t.TeamID, KeyID: t.KeyID, KeyFile: t.KeyFile,
		Endpoint: "https://" + t.apnsAt.Addr().String(), CAFile: caFile,
	}}
	for _, u := range t.cfg.Users {
		if err := registrar.AddUser(filepath.Join(t.cfg.Dir, "users"), Domain, u, Password(u)); err != nil {
			return err
		}
	}
	return nil
}

func (t *Town) configure() error {
	t.edge.Public.Hostname = "localhost"
	t.edge.Public.HTTPS, t.edge.Public.SIPS, t.edge.Public.XMPPS = t.HTTPS, t.SIPS, ""
	t.edge.TLS.ACME = false
	t.edge.Admin.Listen = ""
	t.core.SIP = core.SIPConfig{
		Listen: []string{"tcp:" + t.CoreSIP}, Advertise: t.CoreSIP,
		Domains: []core.DomainConfig{{Name: Domain, UsersFile: filepath.Join(t.cfg.Dir, "users")}},
	}
	if t.cfg.PBX {
		passwords := make(map[string]string)
		for _, u := range t.cfg.Users {
			passwords[u] = Password(u)
		}
		t.PBX = phone.NewPBX(PBXDomain, passwords, t.cfg.Log)
		t.core.SIP.Domains = append(t.core.SIP.Domains, core.DomainConfig{
			Name: PBXDomain, Upstream: "sip:" + t.pbxAt.Addr().String() + ";transport=tcp",
			UpstreamExpires: unit.Duration{Duration: 24 * time.Hour},
		})
	}
	t.core.Store.Dir = filepath.Join(t.cfg.Dir, "store")
	t.core.Admin.Listen = t.Admin
	if t.cfg.Core != nil {
		t.cfg.Core(&t.core)
	}
	if t.cfg.Edge != nil {
		t.cfg.Edge(&t.edge)
	}
	return nil
}

// Start starts everything and returns when a client can register.
func (t *Town) Start(ctx context.Context) error {
	t.run("apns", func(ctx context.Context) error { return t.APNs.Serve(ctx, t.apnsAt) })
	if t.cfg.FCM {
		if err := t.startFCM(ctx); err != nil {
			return err
		}
	}
	if t.cfg.WebPush {
		if err := t.startWebPush(ctx); err != nil {
			return err
		}
	}
	if t.PBX != nil {
		t.run("pbx", func(ctx context.Context) error { return t.PBX.Serve(ctx, t.pbxAt) })
	}
	t.release()
	if err := t.StartEdge(); err != nil {
		return err
	}
	if err := t.StartCore(); err != nil {
		return err
	}
	return t.Ready(ctx)
}

// StartEdge starts the edge, again if it was stopped.
func (t *Town) StartEdge() error {
	registry := prometheus.NewRegistry()
	e, err := edge.New(t.edge, edge.Deps{Log: t.cfg.Log.With("half", "edge"), Registry: registry, Version: "test"})
	if err != nil {
		return err
	}
	t.mu.Lock()
	t.edgeNow, t.EdgeMetrics = e, registry
	t.mu.Unlock()
	t.run("edge", e.Run)
	return nil
}

// StartCore starts the core, again if it was stopped.
func (t *Town) StartCore() error {
	c, err := core.New(t.core, core.Deps{Log: t.cfg.Log.With("half", "core"), Registry: prometheus.NewRegistry(), Version: "test"})
	if err != nil {
		return err
	}
	t.mu.Lock()
	t.coreNow = c
	t.mu.Unlock()
	t.run("core", c.Run)
	return nil
}

// WriteCoreConfig writes the core's config as a file, for a core in a process
// of its own, and returns its path.
func (t *Town) WriteCoreConfig() (string, error) { return t.write("core.toml", t.core) }

// WriteEdgeConfig is the same for the edge.
func (t *Town) WriteEdgeConfig() (string, error) { return t.write("edge.toml", t.edge) }

func (t *Town) write(name string, config any) (string, error) {
	text, err := toml.Marshal(config)
	if err != nil {
		return "", err
	}
	path := filepath.Join(t.cfg.Dir, name)
	return path, os.WriteFile(path, text, 0o600)
}

// Ready waits until the core has a tunnel to the edge, and the edge to it.
func (t *Town) Ready(ctx context.Context) error {
	return t.until(ctx, func() bool { return t.coreNow.Ready() && t.edgeNow.Ready() && t.tunnelled() })
}

// tunnelled says whether the edge has a core. t.mu is held.
func (t *Town) tunnelled() bool {
	return slices.ContainsFunc(t.edgeNow.Sessions(), func(s tunnel.SessionStatus) bool { return s.Up })
}

func (t *Town) until(ctx context.Context, so func() bool) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		t.mu.Lock()
		done := so()
		t.mu.Unlock()
		if done {
			return nil
		}
		select {
		case err := <-t.errs:
			return err
		case <-ctx.Done():
			return errors.New("the town is not ready in time")
		case <-tick.C:
		}
	}
}

func (t *Town) run(name string, f func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	p := part{stop: cancel, done: make(chan struct{})}
	t.mu.Lock()
	t.running[name] = p
	t.mu.Unlock()
	t.parts.Go(func() {
		defer close(p.done)
		if err := f(ctx); err != nil && ctx.Err() == nil {
			t.errs <- fmt.Errorf("%s: %w", name, err)
		}
	})
}

// Stop ends one part and waits for it: "edge", "core", "pbx" or "apns".
func (t *Town) Stop(name string) {
	t.mu.Lock()
	p, ok := t.running[name]
	delete(t.running, name)
	t.mu.Unlock()
	if !ok {
		return
	}
	p.stop()
	<-p.done
	if name == "core" { // the edge has to have noticed, or Ready would be told of the old one
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = t.until(ctx, func() bool { return t.edgeNow == nil || !t.tunnelled() })
	}
}

// Close ends everything, the inside first.
func (t *Town) Close() {
	t.release()
	for _, name := range []string{"core", "edge", "pbx", "apns", "fcm", "webpush"} {
		t.Stop(name)
	}
	t.parts.Wait()
}

// Phone makes a phone of user at domain, set to the edge's public name.
func (t *Town) Phone(user, domain string, transport phone.Transport) *phone.Phone {
	return phone.New(t.PhoneConfig(user, domain, transport))
}

// PhoneConfig is what Phone sets.
func (t *Town) PhoneConfig(user, domain string, transport phone.Transport) phone.Config {
	addr := t.SIPS
	if transport == phone.WSS {
		addr = t.HTTPS
	}
	_, port, _ := net.SplitHostPort(addr)
	return phone.Config{
		AOR: "sip:" + user + "@" + domain, Password: Password(user), Transport: transport,
		Addr: addr, Public: "localhost:" + port,
		TLS: &tls.Config{RootCAs: t.roots, ServerName: "localhost", MinVersion: tls.VersionTLS12},
		Log: t.cfg.Log,
	}
}

// PushOf is the pair of push tokens of a user's phone.
func (t *Town) PushOf(user string) phone.Push {
	return phone.Linphone(t.TeamID+"."+App, Token(user, "voip"), Token(user, "alert"), false)
}

// Token is one of the tokens of [Town.PushOf], "voip" or "alert".
func Token(user, kind string) string {
	sum := sha256.Sum256([]byte(user + kind))
	return hex.EncodeToString(sum[:])
}

// RootsFile writes the certificate that clients must trust and returns its path.
func (t *Town) RootsFile() string { return filepath.Join(t.cfg.Dir, "public.pem") }

// Remove deletes what New wrote.
func (t *Town) Remove() error { return os.RemoveAll(t.cfg.Dir) }
