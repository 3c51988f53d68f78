package core

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sallyport/core/downstream"
	"sallyport/core/im"
	"sallyport/core/jetstream"
	"sallyport/core/location"
	"sallyport/core/presence"
	"sallyport/core/push"
	"sallyport/core/sipproxy"
	"sallyport/core/trace"
	"sallyport/core/upstream"
	"sallyport/core/upstream/c2s"
	"sallyport/core/vault"
	"sallyport/core/wake"
	"sallyport/core/xmppproxy"
	"sallyport/core/xmppproxy/notify"
	"sallyport/tunnel"
)

// Deps are what a process gives the core.
type Deps struct {
	Log      *slog.Logger
	Registry *prometheus.Registry
	Version  string
}

// Server is the core. It owns its rooms and nothing else.
type Server struct {
	cfg  Config
	deps Deps
	log  *slog.Logger
	at   time.Time

	built   atomic.Bool // all rooms run
	drain   chan struct{}
	drained sync.Once

	// Set by Run before built, static after.
	store     *jetstream.Store
	vault     *vault.Vault // seals what the store holds
	loc       *location.Location
	pushes    *push.Service
	waker     *wake.Waker
	traces    *trace.Recorder
	messages  *im.Service
	published *presence.Book // what clients say of themselves
	proxy     *sipproxy.Proxy
	flows     *downstream.Flows
	xmpp      *xmppproxy.Proxy // nil without a domain of XMPP
	up        *upstream.Upstream
	dialer    *tunnel.Dialer
	warnings  []func() string // of certificates; "" for none
	reloads   []func() error
	watchers  []room

	xmppServers []*c2s.Domain
	notifier    *notify.Notifier
}

// New returns a core for a config that is valid; it opens nothing yet.
func New(cfg Config, deps Deps) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	if deps.Registry == nil {
		deps.Registry = prometheus.NewRegistry()
	}
	return &Server{cfg: cfg, deps: deps, log: deps.Log, at: time.Now(), drain: make(chan struct{})}, nil
}

// A room is one long-lived part. run blocks until its context ends and leaves
// nothing behind.
type room struct {
	name string
	run  func(context.Context) error
	// ready is closed when the rooms that come later may start; nil: at once.
	ready <-chan struct{}
}

// started is a room that runs. err is set before done is closed.
type started struct {
	room
	cancel context.CancelFunc
	done   chan struct{}
	err    error
}

func start(r room, failed chan<- *started) *started {
	ctx, cancel := context.WithCancel(context.Background())
	st := &started{room: r, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(st.done)
		if st.err = r.run(ctx); ctx.Err() == nil {
			failed <- st
		}
	}()
	return st
}

// stop ends the room and waits for it.
func (st *started) stop() error {
	st.cancel()
	<-st.done
	if st.err == nil || errors.Is(st.err, context.Canceled) {
		return nil
	}
	return fmt.Errorf("%s: %w", st.name, st.err)
}

// Run serves until ctx ends or a room fails. The rooms end in the order in
// which guests would leave: calls that are being set up are answered while the
// PBX and the tunnel can still hear it, then those are hung up, then what they
// told us is written down.
func (s *Server) Run(ctx context.Context) (err error) {
	rooms, err := s.build(ctx)
	if s.store != nil {
		defer func() { err = errors.Join(err, s.store.Close()) }()
	}
	if err != nil {
		return err
	}
	failed := make(chan *started, len(rooms))
	var running []*started
	for _, r := range rooms {
		st := start(r, failed)
		running = append(running, st)
		if r.ready == nil {
			continue
		}
		select {
		case <-r.ready:
		case <-st.done:
		case <-ctx.Done():
		}
	}
	s.built.Store(true)
	var saying sync.WaitGroup
	defer saying.Wait()
	say, quiet := context.WithCancel(ctx)
	defer quiet()
	saying.Go(func() { s.sayReady(say) })
	select {
	case <-ctx.Done():
	case <-s.drain:
	case st := <-failed:
		if st.err == nil {
			st.err = errors.New("ended by itself")
		}
		s.log.Error("a room failed", "room", st.name, "err", st.err)
	}
	s.built.Store(false)
	for i := len(running) - 1; i >= 0; i-- {
		err = errors.Join(err, running[i].stop())
	}
	return err
}

// sayReady logs, once, that a tunnel is up: the core serves from then on.
func (s *Server) sayReady(ctx context.Context) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !s.Ready() {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
	s.log.Info("ready", "version", s.deps.Version)
}

// Ready says whether a tunnel to at least one edge is up.
func (s *Server) Ready() bool { return s.built.Load() && s.dialer.Ready() }

// drainTime bounds the time in which clients are sent to other cores. It is
// less than a service manager waits for a stop.
const drainTime = 75 * time.Second

// Drain begins the graceful stop and returns when [Server.Run] is about to
// end: the edges are asked for no new flows, and where an edge has another
// core, this one's clients are sent there little by little. All others keep
// their connections to the edge, which gives them to the core that comes next.
func (s *Server) Drain() {
	if s.built.Load() {
		ctx, cancel := context.WithTimeout(context.Background(), drainTime)
		defer cancel()
		if err := s.dialer.Drain(ctx); err != nil {
			s.log.Info("drain not heard by every edge", "err", err)
		}
		s.dialer.Release(ctx)
	}
	s.drained.Do(func() { close(s.drain) })
}

// Reload takes a new config on SIGHUP and reads the identity again. What needs
// a restart is named in the error; certificates, keys and users files are
// watched anyway.
func (s *Server) Reload(cfg Config) error {
	if !s.built.Load() {
		return nil
	}
	var errs []error
	for _, f := range s.reloads {
		errs = append(errs, f())
	}
	if !reflect.DeepEqual(cfg, s.cfg) {
		errs = append(errs, errors.New("the config file has changed: restart the core to use it; until then the old one holds"))
	}
	return errors.Join(errs...)
}
