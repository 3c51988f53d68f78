package edge

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sallyport/certs"
	"sallyport/edge/admission"
	"sallyport/edge/flow"
	"sallyport/edge/relay"
	"sallyport/edge/transport"
	"sallyport/tunnel"
)

// goodbyeSpread is the time over which clients are sent away on a drain: 2 % of
// them a second, or ten where they are few.
const goodbyeSpread = 50 * time.Second

// tunnelUserTimeout is how long bytes to a core may stay unacknowledged before
// the kernel gives the connection up.
const tunnelUserTimeout = 8 * time.Second

// Deps is what the surroundings hand in. Nil fields have working defaults.
type Deps struct {
	Log      *slog.Logger
	Registry *prometheus.Registry
	Version  string
	// Listen opens listeners; nil: TCP sockets.
	Listen func(network, addr string) (net.Listener, error)
	// ACME asks the certificate authority; nil: a client that goes through
	// HTTPS_PROXY where that is set.
	ACME *http.Client
}

// Server is one edge.
type Server struct {
	// Static after New.
	cfg       Config
	deps      Deps
	log       *slog.Logger
	identity  *certs.Bundle
	public    *certs.Public
	fetched   *certs.ACME // nil: all certificates come from files
	gate      *admission.Gate
	transport *transport.Transport
	flows     *flow.Table
	relay     *relay.Relay
	acceptor  *tunnel.Acceptor

	ready     atomic.Bool
	drain     chan struct{} // closed by Drain
	drainOnce sync.Once
	unserved  sync.Map // services of which it was said that no core carries them

	// Guarded by mu.
	mu    sync.Mutex
	addrs map[string]net.Addr
}

// New makes an edge of its config. It reads the certificates, opens nothing
// and starts nothing.
func New(cfg Config, deps Deps) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	if deps.Listen == nil {
		deps.Listen = func(network, addr string) (net.Listener, error) {
			lc := net.ListenConfig{KeepAliveConfig: transport.KeepAlive()}
			return lc.Listen(context.Background(), network, addr)
		}
	}
	public, fetched, err := loadPublic(cfg, deps)
	if err != nil {
		return nil, err
	}
	identity, err := certs.LoadBundle(cfg.Tunnel.Identity)
	if err != nil {
		return nil, fmt.Errorf("tunnel.identity: %w", err)
	}
	if identity.Role() != certs.RoleEdge {
		return nil, fmt.Errorf("tunnel.identity: %s is the bundle of a %s, not of an edge", cfg.Tunnel.Identity, identity.Role())
	}
	s := &Server{
		cfg: cfg, deps: deps, log: deps.Log, identity: identity, public: public, fetched: fetched,
		drain: make(chan struct{}), addrs: make(map[string]net.Addr),
	}
	s.compose()
	return s, nil
}

// compose makes the rooms and connects them.
func (s *Server) compose() {
	var reg prometheus.Registerer
	if s.deps.Registry != nil {
		reg = s.deps.Registry
	}
	l, p := s.cfg.Limits, s.cfg.Public
	s.gate = admission.New(admission.Limits{
		MaxFlows: l.MaxFlows, FlowsPerIP: l.FlowsPerIP,
		NewPerSecond: float64(l.NewFlowsPerSecond), NewPerIPPerSecond: float64(l.NewFlowsPerIPPerSecond),
	}, reg)
	s.transport = transport.New(transport.Config{
		MaxMessage: int(l.MaxMessage), FirstMessage: l.FirstMessageTimeout.Duration, Rate: int(l.XMPPRate), Log: s.room("transport"),
	})
	s.flows = flow.NewTable(flow.Config{
		WSPing: p.WSPing.Duration, PongTimeout: p.PongTimeout.Duration, FlowTimer: p.FlowTimer.Duration, Metrics: reg,
	})
	s.acceptor = tunnel.NewAcceptor(tunnel.AcceptorConfig{
		Name: s.identity.Name(), Handshake: s.authenticate, Build: s.deps.Version, Log: s.room("tunnel"), Metrics: reg,
	})
	if reg != nil {
		reg.MustRegister(certificateMetrics{s})
	}
	s.relay = relay.New(relay.Config{Tunnel: s.acceptor, Flows: s.flows, Log: s.room("relay")})
}

func (s *Server) room(name string) *slog.Logger { return s.log.With("room", name) }

// authenticate ends TLS on a connection from a core.
func (s *Server) authenticate(ctx context.Context, c net.Conn) (net.Conn, string, error) {
	if err := transport.Tune(c, tunnelUserTimeout); err != nil {
		return nil, "", err
	}
	t := tls.Server(c, s.identity.ServerConfig(certs.RoleCore))
	if err := t.HandshakeContext(ctx); err != nil {
		return nil, "", err
	}
	_, name, err := certs.PeerName(t.ConnectionState())
	return t, name, err
}

// Ready reports whether clients can be served: the listeners are open, and
// there is a certificate to show.
func (s *Server) Ready() bool { return s.ready.Load() }

// Addr is the address listened on as https, sips, xmpps, http or tunnel; nil before
// the edge is ready, and where that listener is off.
func (s *Server) Addr(listener string) net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.addrs[listener]
}

// Sessions are the cores that are connected, and those whose flows wait.
func (s *Server) Sessions() []tunnel.SessionStatus { return s.acceptor.Sessions() }

// Reload reads the certificates again, and has one that could not be fetched
// tried again at once. Connections live on; what is broken keeps its old
// version, and the error names it.
func (s *Server) Reload() error {
	if s.fetched != nil {
		s.fetched.Retry()
	}
	return errors.Join(s.public.Reload(), s.identity.Reload())
}

// Drain has Run end, with time for the clients to leave one after another.
func (s *Server) Drain() { s.drainOnce.Do(func() { close(s.drain) }) }

// Run serves until ctx ends, Drain is called or the tunnel's listener fails,
// then leaves in the order guests would want: close the door, say goodbye on
// every flow, hang up the tunnel. A drain spreads the goodbyes; when ctx ends,
// those left are said at once.
func (s *Server) Run(ctx context.Context) error {
	doors, inner, err := s.open()
	if err != nil {
		return err
	}
	inside, hangUp := context.WithCancel(context.WithoutCancel(ctx))
	defer hangUp()
	tunnelled := make(chan error, 1)
	go func() { tunnelled <- s.acceptor.Serve(inside, inner) }()
	var watches sync.WaitGroup
	s.watchCertificates(inside, &watches)
	closeDoor := s.welcome(inside, doors)
	failure := s.stay(ctx, tunnelled)
	s.ready.Store(false)
	closeDoor()
	_ = s.acceptor.Drain(ctx)
	s.flows.Goodbye(ctx, goodbyeSpread)
	hangUp()
	watches.Wait()
	return errors.Join(failure, <-tunnelled)
}

// stay waits until it is time to leave. Meanwhile it says when clients can be
// served.
func (s *Server) stay(ctx context.Context, tunnelled chan error) error {
	certified := s.certified()
	select {
	case <-certified:
	default:
		s.log.Warn("listeners open, but clients are refused until there is a certificate", "name", s.fetched.Name())
	}
	for {
		select {
		case <-certified:
			certified = nil
			s.ready.Store(true)
			s.log.Info("ready", "name", s.identity.Name(), "version", s.deps.Version)
		case <-ctx.Done():
			return nil
		case <-s.drain:
			return nil
		case err := <-tunnelled:
			tunnelled <- nil
			return err
		}
	}
}

// retryAfter is what a client is told to wait for a core: long enough for one
// to come back, and not the same for all.
func retryAfter() time.Duration { return 5*time.Second + rand.N(25*time.Second) }
