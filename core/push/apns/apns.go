// Package apns sends pushes to Apple. It owns the connections to APNs, the
// provider tokens on them, and what each answer of Apple's means.
//
// It does not know who is pushed to or why: core/push chooses token, channel
// and payload.
package apns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sideshow/apns2"

	"sallyport/core/push"
)

// Environments of Apple's.
const (
	Production = "production"
	Sandbox    = "sandbox"
)

// hosts are Apple's, by environment.
var hosts = map[string]string{
	Production: apns2.HostProduction,
	Sandbox:    apns2.HostDevelopment,
}

// Config is one app at Apple, as a [[push.app]] of the configuration says.
type Config struct {
	BundleID string // id of the app; the topics are it and it with .voip
	TeamID   string
	// KeyFile is the .p8 file, read again when it changes. KeyID may be empty
	// where the file, or what it is a link to, has the name that Apple gave it,
	// AuthKey_KEYID.p8; then another key takes over when the link leads to it.
	KeyFile     string
	KeyID       string
	Environment string // Production, the default, or Sandbox
	// Endpoint is another base URL for both environments, https://HOST:PORT.
	Endpoint string
	CAFile   string // PEM that replaces the system's roots
	Proxy    string // http://USER:PASSWORD@HOST:PORT; "" connects directly
	// NoProxy are hosts, .suffixes, addresses and prefixes reached without Proxy.
	NoProxy []string
	// Dial opens the TCP connections; nil uses the network.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// Client sends the pushes of one app. It implements [push.Sender]. Calls and
// other pushes have connections of their own, in each environment.
type Client struct {
	// Static after New.
	cfg       Config
	log       *slog.Logger
	metrics   *metrics
	proxy     proxyFunc
	endpoints map[bool]*endpoint // by Token.Sandbox; both the same where there is one host

	keyMu sync.Mutex
	key   key // guarded by keyMu; what KeyFile held

	astray astray       // has its own lock
	open   atomic.Int64 // connections

	state, file push.Health // what the last push and the key file say; each has its own lock
}

var _ push.Sender = (*Client)(nil)

// endpoint is one host of Apple's.
type endpoint struct {
	host         string // base URL
	calls, notes *lane
	proven       atomic.Bool  // a push was accepted here
	breaker      push.Breaker // has its own lock
}

func (e *endpoint) lane(urgent bool) *lane {
	if urgent {
		return e.calls
	}
	return e.notes
}

var errClosed = errors.New("shutting down")

// New makes a client and reads the key and the CA. It connects when it first
// sends. log and reg may be nil; clients may share reg.
func New(cfg Config, log *slog.Logger, reg prometheus.Registerer) (*Client, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if cfg.Dial == nil {
		cfg.Dial = new(net.Dialer).DialContext
	}
	if err := cfg.check(); err != nil {
		return nil, err
	}
	trust, err := push.Trust(cfg.CAFile)
	if err != nil {
		return nil, fmt.Errorf("push app %q: %w", cfg.BundleID, err)
	}
	proxy, err := push.ProxyFunc(cfg.Proxy, cfg.NoProxy)
	if err != nil {
		return nil, err
	}
	c := &Client{
		cfg:     cfg,
		log:     log.With("room", "apns", "app", cfg.BundleID),
		metrics: newMetrics(reg),
		proxy:   proxy,
	}
	if c.key, err = c.readKey(); err != nil {
		return nil, err
	}
	if name := keyIDOf(c.key.file); name != "" && name != c.key.signer.keyID {
		c.log.Warn("key_id is not the one in the name of key_file", "key_id", c.key.signer.keyID, "file", c.key.file)
	}
	way := way{trust: trust, proxy: proxy, dial: cfg.Dial, opened: c.opened, closed: func() { c.open.Add(-1) }}
	c.endpoints = cfg.endpoints(c.key.signer, func(host string) func(bearer) *line {
		return func(b bearer) *line { return newLine(host, way, b) }
	})
	return c, nil
}

// opened counts a connection.
func (c *Client) opened() {
	c.open.Add(1)
	c.metrics.connections.Inc()
}

// check reports every fault of the configuration that needs no file to see.
func (cfg *Config) check() error {
	var faults []error
	fault := func(bad bool, format string, a ...any) {
		if bad {
			faults = append(faults, fmt.Errorf("push app %q: "+format, append([]any{cfg.BundleID}, a...)...))
		}
	}
	if cfg.Environment == "" {
		cfg.Environment = Production
	}
	fault(cfg.BundleID == "", "id: must be the app's bundle id")
	fault(cfg.TeamID == "", "team_id: must be the ten characters of Apple's team id")
	fault(cfg.KeyFile == "", "key_file: must name the .p8 file")
	_, known := hosts[cfg.Environment]
	fault(!known, "environment: must be %q or %q (got %q)", Production, Sandbox, cfg.Environment)
	if cfg.Endpoint != "" {
		u, err := url.Parse(cfg.Endpoint)
		bad := err != nil || u.Scheme != "https" || u.Host == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.User != nil
		fault(bad, "endpoint: must be https://HOST:PORT (got %q)", cfg.Endpoint)
		cfg.Endpoint = strings.TrimRight(cfg.Endpoint, "/")
	}
	return errors.Join(faults...)
}

// endpoints makes the hosts that tokens of either kind go to.
func (cfg *Config) endpoints(s *signer, lines func(host string) func(bearer) *line) map[bool]*endpoint {
	one := func(host string) *endpoint {
		return &endpoint{
			host:  host,
			calls: &lane{make: lines(host), signer: s, apart: callsApart},
			notes: &lane{make: lines(host), signer: s, apart: notesApart},
		}
	}
	if cfg.Endpoint != "" {
		e := one(cfg.Endpoint)
		return map[bool]*endpoint{false: e, true: e}
	}
	sandbox := one(hosts[Sandbox])
	if cfg.Environment == Sandbox {
		return map[bool]*endpoint{false: sandbox, true: sandbox}
	}
	return map[bool]*endpoint{false: one(hosts[Production]), true: sandbox}
}
