// Package webpush sends pushes to browsers and to Android without Google, by
// Web Push (RFC 8030, RFC 8291, RFC 8292), which UnifiedPush speaks too. It owns
// the connections to push services, what may be connected to at all, our key,
// and what each answer means.
//
// A token is a URL that a client chose: whatever it names is a stranger. A push
// service that is slow, hostile or inside our own network must neither be of use
// to whoever named it nor be felt by the others.
//
// It does not know who is pushed to or why: core/push chooses token, channel
// and payload.
package webpush

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"sallyport/core/push"
)

// Config is one app, as a [[push.app]] of the configuration says.
type Config struct {
	App     string // id of the app, for log and errors
	KeyFile string // P-256 key in PEM, from [GenerateKey]; read again when it changes
	Subject string // who answers for the pushes: a mailto: or https: URL (RFC 8292 §2.1)
	// Allow are the push services that may be pushed to: HOST, HOST:PORT, .SUFFIX
	// or .SUFFIX:PORT, where no port is 443. Empty allows each with a public
	// address. A HOST of the list may have an address inside.
	Allow   []string
	CAFile  string // PEM that replaces the system's roots
	Proxy   string // http://USER:PASSWORD@HOST:PORT; "" connects directly
	NoProxy []string
	// Dial opens the TCP connections, always to an address; nil uses the network.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Resolve finds the addresses of a host; nil asks the system.
	Resolve func(ctx context.Context, host string) ([]netip.Addr, error)
}

// Client sends the pushes of one app. It implements [push.Sender]. Each push
// service has connections of its own, for calls and for other pushes.
type Client struct {
	// Static after New.
	cfg     Config
	log     *slog.Logger
	metrics *metrics
	policy  policy
	trust   *tls.Config
	proxy   func(*http.Request) (*url.URL, error) // nil without a proxy
	dialer  dialer

	origins   origins       // has its own lock
	strangers chan struct{} // a place for each note to a push service that never answered

	keyMu sync.Mutex
	key   *vapidKey // guarded by keyMu

	text []byte // owned by Run; what KeyFile held

	keyHealth, proxyHealth push.Health // have their own locks
}

var _ push.Sender = (*Client)(nil)

var errClosed = errors.New("shutting down")

// New makes a client and reads the key and the CA. It connects when it first
// sends. log and reg may be nil; clients may share reg.
func New(cfg Config, log *slog.Logger, reg prometheus.Registerer) (*Client, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	policy, err := cfg.check()
	if err != nil {
		return nil, err
	}
	trust, err := push.Trust(cfg.CAFile)
	if err != nil {
		return nil, fmt.Errorf("push app %q: %w", cfg.App, err)
	}
	proxy, err := push.ProxyFunc(cfg.Proxy, cfg.NoProxy)
	if err != nil {
		return nil, err
	}
	text, key, err := readKey(cfg.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("push app %q: vapid_key: %w", cfg.App, err)
	}
	c := &Client{
		cfg:       cfg,
		log:       log.With("room", "webpush", "app", cfg.App),
		metrics:   newMetrics(reg),
		policy:    policy,
		trust:     trust,
		proxy:     proxy,
		dialer:    newDialer(cfg.Dial, cfg.Resolve),
		strangers: make(chan struct{}, maxStrangers),
		key:       key,
		text:      text,
	}
	c.origins.make = c.newOrigin
	return c, nil
}

// check reports every fault of the configuration that needs no file to see.
func (cfg *Config) check() (policy, error) {
	var faults []error
	fault := func(bad bool, format string, a ...any) {
		if bad {
			faults = append(faults, fmt.Errorf("push app %q: "+format, append([]any{cfg.App}, a...)...))
		}
	}
	fault(cfg.KeyFile == "", "vapid_key: must name the key file: make one with `sallyport push vapid`")
	err := CheckSubject(cfg.Subject)
	fault(err != nil, "subject: %w", err)
	p, err := newPolicy(cfg.Allow)
	fault(err != nil, "allow: %w", err)
	return p, errors.Join(faults...)
}

// CheckAllow reports what is wrong with an entry of [Config.Allow].
func CheckAllow(entry string) error {
	_, err := newPolicy([]string{entry})
	return err
}

// CheckSubject reports what is wrong with a [Config.Subject].
func CheckSubject(s string) error {
	u, err := url.Parse(s)
	if err == nil && (u.Scheme == "mailto" && strings.Contains(u.Opaque, "@") || u.Scheme == "https" && u.Host != "") {
		return nil
	}
	return fmt.Errorf("must be a mailto: or https: URL that push services may turn to (got %q)", s)
}

// Health reports whether pushes can be expected to be accepted, and if not the
// last error with what to do about it.
func (c *Client) Health() (ok bool, lastError string) { return c.Condition().Trouble.Health() }

// Close closes all connections. Send sends no more. It may be called without
// Run, and more than once.
func (c *Client) Close() { c.origins.close() }
