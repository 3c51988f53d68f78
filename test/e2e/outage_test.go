package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"sallyport/certs"
	"sallyport/certs/ca"
	"sallyport/edge"
	"sallyport/test/phone"
)

func (s *scene) connected(p *phone.Phone) {
	s.t.Helper()
	select {
	case <-p.Gone():
		s.t.Fatalf("%s lost the connection", p.AOR())
	default:
	}
}

func (s *scene) loses(p *phone.Phone) {
	s.t.Helper()
	select {
	case <-p.Gone():
	case <-s.ctx.Done():
		s.t.Fatalf("%s is still connected", p.AOR())
	}
}

// wakesFor has a phone called, pushed, woken and answering: everything works.
func (s *scene) wakesFor(alice, bob *phone.Phone, user string, pushes int) {
	s.t.Helper()
	call := s.call(alice, "bob")
	if p := s.pushed(pushes); p.CallID != call.CallID() {
		s.t.Errorf("pushed %+v, want call %s", p, call.CallID())
	}
	s.registers(bob, user)
	s.talks(bob, call)
	ok(s.t, call.Bye(s.ctx))
}

func TestTheEdgeRestarts(t *testing.T) {
	everywhere(t, Config{}, func(s *scene) {
		alice, bob := s.caller("alice"), s.online("bob")
		s.Stop("edge")
		s.loses(alice)
		s.loses(bob)
		ok(s.t, s.StartEdge())
		ok(s.t, s.Ready(s.ctx))
		s.registers(alice, "alice")
		s.wakesFor(alice, bob, "bob", 1)
	})
}

func TestTheEdgeDrainsAndSaysGoodbye(t *testing.T) {
	everywhere(t, Config{}, func(s *scene) {
		var said syncBuffer
		log := slog.New(slog.NewTextHandler(&said, &slog.HandlerOptions{Level: slog.LevelDebug}))
		bob := s.online("bob", func(c *phone.Config) { c.Log = log })
		s.edgeNow.Drain()
		s.loses(bob)
		if s.transport == phone.WSS && !strings.Contains(said.String(), "StatusServiceRestart") {
			s.t.Errorf("bob was not told to come back: %s", said.String())
		}
		if err := bob.Connect(s.ctx); err == nil {
			s.t.Error("an edge that leaves let a phone in")
		}
	})
}

// A syncBuffer is what a log wrote.
type syncBuffer struct {
	mu   sync.Mutex
	text strings.Builder // guarded by mu
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *syncBuffer) String() string { b.mu.Lock(); defer b.mu.Unlock(); return b.text.String() }

func TestB21TheCoreRestartsWithACallHeld(t *testing.T) {
	everywhere(t, Config{}, func(s *scene) {
		alice, bob := s.caller("alice"), s.asleep("bob")
		call := s.call(alice, "bob")
		s.pushed(1)
		s.Stop("core")
		if _, err := call.Wait(s.ctx, 200); phone.Status(err) < 480 {
			s.t.Errorf("the caller hears %v, want a refusal", err)
		}
		ok(s.t, s.StartCore())
		ok(s.t, s.Ready(s.ctx))
		s.connected(alice)
		s.wakesFor(alice, bob, "bob", 2)
	})
}

func TestB21TheCoreRestartsUnderACall(t *testing.T) {
	everywhere(t, Config{}, func(s *scene) {
		alice, bob := s.caller("alice"), s.online("bob")
		call := s.call(alice, "bob")
		theirs := s.talks(bob, call)
		s.Stop("core")
		ok(s.t, s.StartCore())
		ok(s.t, s.Ready(s.ctx))
		must[*phone.Message](s.t)(call.Reinvite(s.ctx))
		ok(s.t, theirs.Bye(s.ctx))
		ok(s.t, call.WaitBye(s.ctx))
		s.connected(alice)
		s.connected(bob)
	})
}

func TestB22TheTunnelIsAFewConnectionsAndIsCut(t *testing.T) {
	for _, domain := range []string{PBXDomain, Domain} {
		var cfg Config
		t.Run(domain, func(t *testing.T) {
			line := lay(t, &cfg)
			cfg.PBX = domain == PBXDomain
			town, ctx := inTown(t, cfg)
			s := &scene{Town: town, t: t, ctx: ctx, domain: domain, transport: phone.TLS}
			alice, bob, carol := s.caller("alice"), s.asleep("bob"), s.online("carol")
			links := s.edgeNow.Sessions()[0].Links
			s.until("all links are up", func() bool { return s.edgeNow.Sessions()[0].LinksUp == links })
			if n := line.count(); n != links || n > 4 {
				t.Errorf("the core opened %d connections to the edge, want %d for three clients", n, links)
			}
			line.cut()
			s.until("the edge has noticed", func() bool { return !s.edgeNow.Sessions()[0].Up || line.count() > links })
			call := s.call(alice, "carol") // into the gap, or just after it
			s.talks(carol, call)
			ok(t, call.Bye(ctx))
			line.cut()
			s.until("the core dials again", func() bool { return line.count() > 2*links })
			ok(t, s.Ready(ctx))
			s.wakesFor(alice, bob, "bob", 2)
			s.connected(alice)
			s.connected(carol)
		})
	}
}

func TestB26CertificatesChangeUnderLiveFlows(t *testing.T) {
	everywhere(t, Config{}, func(s *scene) {
		alice, bob := s.caller("alice"), s.online("bob")
		call := s.call(alice, "bob")
		s.talks(bob, call)
		since := s.edgeNow.Sessions()[0].Since

		cert, key, roots, err := publicCertificate(s.t.TempDir())
		ok(s.t, err)
		ok(s.t, os.Rename(key, s.edge.TLS.Key))
		ok(s.t, os.Rename(cert, s.edge.TLS.Cert))
		renew(s.t, s.cfg.Dir, certs.RoleEdge, "127.0.0.1")
		renew(s.t, s.cfg.Dir, certs.RoleCore, "core1")
		ok(s.t, s.edgeNow.Reload())
		ok(s.t, s.coreNow.Reload(s.core))

		must[*phone.Message](s.t)(call.Reinvite(s.ctx))
		ok(s.t, call.Bye(s.ctx))
		s.connected(alice)
		s.connected(bob)
		if now := s.edgeNow.Sessions()[0].Since; now != since {
			s.t.Error("the tunnel's session did not survive")
		}
		if err := s.new("carol").Connect(s.ctx); err == nil {
			s.t.Error("a new connection still sees the old certificate")
		}
		carol := s.online("carol", func(c *phone.Config) { c.TLS = trusting(roots) })
		call = s.call(alice, "carol")
		s.talks(carol, call)
	})
}

// renew issues a bundle of the tunnel again.
func renew(t *testing.T, dir string, role certs.Role, name string) {
	t.Helper()
	must[string](t)(ca.Issue(filepath.Join(dir, "ca"), role, name, 90))
}

func trusting(roots *x509.CertPool) *tls.Config {
	return &tls.Config{RootCAs: roots, ServerName: "localhost", MinVersion: tls.VersionTLS12}
}

// unlimited lets one address play all clients.
func unlimited(c *edge.Config) {
	c.Limits.NewFlowsPerSecond, c.Limits.NewFlowsPerIPPerSecond = 1e6, 1e6
}
