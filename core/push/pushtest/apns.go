// Package pushtest holds the push providers' simulators: servers that keep
// the providers' rules as strictly as the providers do, and that fail on
// demand. They are products, run by `sallyport apns-sim` and by the demo, as
// well as the ground our own tests stand on.
//
// It knows the providers' protocols and nothing of ours.
package pushtest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"
)

// Environments of Apple's. A token and some keys belong to one of them.
const (
	Production = "production"
	Sandbox    = "sandbox"
)

// APNsConfig is how a simulated APNs behaves. The zero value is Apple's
// production service.
type APNsConfig struct {
	Environment    string // Production, the default, or Sandbox
	InitialStreams uint32 // streams allowed before a token was accepted; 0 is Apple's 1
	MaxStreams     uint32 // streams allowed after that; 0 is 1000
	// BadTokenLimit is how many BadDeviceToken answers a connection survives; 0
	// is 10.
	BadTokenLimit int
	// PerIP counts changes of the provider token for each client address rather
	// than for each connection, as Apple was seen to do.
	PerIP bool
	// AnyToken takes each well-formed device token for a registered one.
	AnyToken bool
	// ShortReason spells BadEnvironmentKeyIdInToken as live servers do,
	// BadEnvironmentKeyInToken.
	ShortReason bool
	// RandomStreams allows each connection from 100 to 1500 streams rather than
	// MaxStreams, as Apple was seen to do.
	RandomStreams bool
	// TokenRate is how many pushes a device token takes in a second; more get 429
	// TooManyRequests. 0 is any number: Apple names none.
	TokenRate int
	// ConnRate is how many connections an address may open in a minute; more are
	// a violation. 0 is 60, and below 0 nobody counts.
	ConnRate int
	// IdleTimeout ends a connection on which nothing was pushed for so long; 0
	// never does.
	IdleTimeout time.Duration
	// ClockSkew is how far this service's clock is ahead of the machine's.
	ClockSkew time.Duration
	// CallKey is where the payload of a call has the call's UUID; "" is "uuid".
	CallKey string
	// ReportWithin is how soon an app must report a call that was pushed, with
	// [APNs.Report], or iOS ends it: a violation. 0 asks for no reports.
	ReportWithin time.Duration
	Log          *slog.Logger // nil discards
}

const (
	maxConns      = 1000
	maxPushes     = 10000 // kept by Pushes
	maxViolations = 1000  // kept by Violations
	ioTimeout     = 10 * time.Second
	tokenEvery    = 20 * time.Minute // least time between changes of a provider token
	tokenLife     = time.Hour
	connRate      = 60 // connections a minute, where ConnRate is 0
)

// Push is one request as APNs saw it, accepted or not.
type Push struct {
	At         time.Time
	Token      string // whole; String shows its end
	Topic      string
	PushType   string
	ID         string
	Priority   string
	Expiration string // as sent; "" when absent
	CollapseID string
	Payload    []byte
	Status     int
	Reason     string // "" when accepted
	Conn       int    // number of the connection, from 1
	KeyID      string
	TeamID     string
	Issued     time.Time // of the provider token
	Bearer     string    // the provider token
	Call       string    // UUID of the call, "" in any other push
}

// String is one line without the token and without the payload.
func (p Push) String() string {
	out := fmt.Sprintf("%s %s topic=%s token=%s id=%s status=%d", p.At.Format("15:04:05.000"),
		p.PushType, p.Topic, tail(p.Token), p.ID, p.Status)
	if p.Reason != "" {
		out += " reason=" + p.Reason
	}
	return out
}

// tail shows the end of a token.
func tail(token string) string {
	if len(token) < 12 {
		return "…"
	}
	return "…" + token[len(token)-6:]
}

// APNs is a simulated APNs. Its methods are safe for concurrent use.
type APNs struct {
	// OnPush is called for each accepted push, from the connection's goroutine,
	// after the answer was sent. Set it before Serve.
	OnPush func(Push)
	// OnAnswer is OnPush for every push, refused ones included.
	OnAnswer func(Push)
	// OnDeliver is called for each push that reaches its device, which is later
	// than OnPush for a device that was offline.
	OnDeliver func(Push)

	// Static after NewAPNs.
	cfg APNsConfig
	log *slog.Logger
	pki *pki
	err error // of making the CA; Serve returns it

	keys    keyring // has its own lock
	tokens  tokens  // has its own lock
	faults  faults  // has its own lock
	devices devices // has its own lock
	rates   rates   // has its own lock

	mu         sync.Mutex
	addr       net.Addr            // guarded by mu
	ready      chan struct{}       // closed when addr is set
	conns      map[*conn]struct{}  // guarded by mu
	opened     int                 // guarded by mu
	pings      int                 // guarded by mu
	early      int                 // guarded by mu
	refused    int                 // guarded by mu
	pushes     []Push              // guarded by mu
	violations []string            // guarded by mu
	warnings   []string            // guarded by mu
	byIP       map[string]*updates // guarded by mu
}

// NewAPNs makes a simulator with a CA of its own. It serves when told to.
func NewAPNs(cfg APNsConfig) *APNs {
	if cfg.Environment == "" {
		cfg.Environment = Production
	}
	if cfg.InitialStreams == 0 {
		cfg.InitialStreams = 1
	}
	if cfg.MaxStreams == 0 {
		cfg.MaxStreams = 1000
	}
	if cfg.BadTokenLimit == 0 {
		cfg.BadTokenLimit = 10
	}
	if cfg.ConnRate == 0 {
		cfg.ConnRate = connRate
	}
	if cfg.CallKey == "" {
		cfg.CallKey = "uuid"
	}
	s := &APNs{
		cfg:   cfg,
		log:   cfg.Log,
		ready: make(chan struct{}),
		conns: make(map[*conn]struct{}),
		byIP:  make(map[string]*updates),
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.pki, s.err = newPKI("api.push.apple.com", "api.sandbox.push.apple.com")
	return s
}

// Serve accepts connections on l until ctx ends, and closes l. It returns nil
// then, with nothing left behind. A simulator serves once.
func (s *APNs) Serve(ctx context.Context, l net.Listener) error {
	if s.err != nil {
		_ = l.Close()
		return s.err
	}
	s.mu.Lock()
	s.addr = l.Addr()
	close(s.ready)
	s.mu.Unlock()

	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { _ = l.Close() })()
	config := &tls.Config{
		GetCertificate: s.pki.certificate,
		NextProtos:     []string{"h2"},
		MinVersion:     tls.VersionTLS12,
	}
	for {
		raw, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return nil
			}
			return fmt.Errorf("apns simulator: %w", err)
		}
		c := s.admit(raw, config)
		if c == nil {
			_ = raw.Close()
			continue
		}
		if s.rates.connection(hostOf(raw.RemoteAddr()), s.cfg.ConnRate, time.Now()) {
			s.violate(c.id, "more than %d connections within a minute: Apple takes that for an attack", s.cfg.ConnRate)
		}
		wg.Go(func() {
			defer s.forget(c)
			c.serve(ctx)
		})
	}
}

func (s *APNs) admit(raw net.Conn, config *tls.Config) *conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.conns) >= maxConns {
		return nil
	}
	s.opened++
	c := newConn(s, s.opened, tls.Server(raw, config))
	s.conns[c] = struct{}{}
	return c
}

func (s *APNs) forget(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}

// Ready is closed when Serve has begun and URL is known.
func (s *APNs) Ready() <-chan struct{} { return s.ready }

// Addr is the address served, nil before Serve.
func (s *APNs) Addr() net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.addr
}

// URL is the base URL for an `endpoint`, "" before Serve.
func (s *APNs) URL() string {
	addr := s.Addr()
	if addr == nil {
		return ""
	}
	return "https://" + addr.String()
}

// CA returns the certificate in PEM that a client must trust.
func (s *APNs) CA() []byte {
	if s.pki == nil {
		return nil
	}
	return slices.Clone(s.pki.ca)
}

// Pushes returns what was pushed, oldest first, refused pushes included. The
// last ten thousand are kept.
func (s *APNs) Pushes() []Push {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.pushes)
}

// Accepted returns the pushes that were answered with 200.
func (s *APNs) Accepted() []Push {
	return slices.DeleteFunc(s.Pushes(), func(p Push) bool { return p.Status != 200 })
}

// Violations returns what a client, or an app, did that Apple forbids, whether
// or not Apple answers it with an error. A good one has none.
func (s *APNs) Violations() []string {
	for _, p := range s.devices.unreported(s.cfg.ReportWithin, time.Now()) {
		s.violate(p.Conn, "call %s was pushed to %s and not reported within %v: iOS ends the app, and then pushes it no more",
			p.Call, tail(p.Token), s.cfg.ReportWithin)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.violations)
}

// Warnings returns what a client did that Apple advises against.
func (s *APNs) Warnings() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.warnings)
}

// Stats counts what has no record of its own.
type Stats struct {
	Connections int `json:"connections"` // opened so far
	Open        int `json:"open"`        // open now
	Refused     int `json:"refused"`     // streams above the allowed number
	Pings       int `json:"pings"`
	EarlyPings  int `json:"early_pings"` // of them, on connections that were idle for less than an hour
	Duplicates  int `json:"duplicates"`  // calls that reached a device once more under the same id
}

// Stats returns the counts so far.
func (s *APNs) Stats() Stats {
	doubles := s.devices.doubles()
	s.mu.Lock()
	defer s.mu.Unlock()
	return Stats{
		Connections: s.opened, Open: len(s.conns), Refused: s.refused,
		Pings: s.pings, EarlyPings: s.early, Duplicates: doubles,
	}
}

func (s *APNs) violate(conn int, format string, a ...any) {
	v := fmt.Sprintf("connection %d: ", conn) + fmt.Sprintf(format, a...)
	s.log.Warn("apns rule violated", "violation", v)
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.violations) < maxViolations {
		s.violations = append(s.violations, v)
	}
}

func (s *APNs) warn(conn int, format string, a ...any) {
	w := fmt.Sprintf("connection %d: ", conn) + fmt.Sprintf(format, a...)
	s.log.Warn("apns advice not followed", "warning", w)
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.warnings) < maxViolations {
		s.warnings = append(s.warnings, w)
	}
}

// now is the time by this service's clock.
func (s *APNs) now() time.Time { return time.Now().Add(s.cfg.ClockSkew) }

func (s *APNs) record(p Push) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.pushes) >= maxPushes {
		s.pushes = slices.Delete(s.pushes, 0, maxPushes/10)
	}
	s.pushes = append(s.pushes, p)
}
