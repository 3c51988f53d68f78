// Package fcm sends pushes to Google, for Android devices. It owns the
// connections to FCM's HTTP v1 interface, the access tokens for it and the
// service account behind them, and what each answer of Google's means.
//
// It does not know who is pushed to or why: core/push chooses token, channel
// and payload, and decides when a push that failed is sent again.
package fcm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"

	firebase "firebase.google.com/go/v4"
	"firebase.google.com/go/v4/messaging"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/api/option"

	"sallyport/core/push"
)

// googleEndpoint is where FCM takes pushes.
const googleEndpoint = "https://fcm.googleapis.com"

// Config is one app at Google, as a [[push.app]] of the configuration says.
type Config struct {
	Package        string // the Android package, for errors and logs
	ServiceAccount string // JSON file of the service account, read again when it changes
	Project        string // id of the Firebase project; "" is that of the service account
	// Endpoint is another base URL than Google's, https://HOST:PORT.
	Endpoint string
	CAFile   string   // PEM that replaces the system's roots, for FCM and its OAuth alike
	Proxy    string   // http://USER:PASSWORD@HOST:PORT; "" connects directly
	NoProxy  []string // hosts that are reached without it; see [push.ProxyFunc]
	// Dial opens the TCP connections; nil uses the network.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// Client sends the pushes of one app. It implements [push.Sender]. Calls and
// other pushes have connections of their own.
type Client struct {
	// Static after New.
	cfg          Config
	project      string
	proxy        func(*http.Request) (*url.URL, error) // nil: none
	log          *slog.Logger
	metrics      *metrics
	sdk          *messaging.Client
	calls, notes *lane
	end          context.CancelFunc // of connections that are being opened

	keeper  *keeper      // has its own lock
	breaker push.Breaker // has its own lock
	probes  pacer        // has its own lock

	file, oauth, sending, clock push.Health  // what the status page shows; each has its own lock
	open                        atomic.Int64 // connections

	fileMu sync.Mutex
	text   []byte // guarded by fileMu; what ServiceAccount held
}

var _ push.Sender = (*Client)(nil)

var errClosed = errors.New("shutting down")

// New makes a client and reads the service account and the CA. It connects
// when Run fetches the first access token, or when it first sends. log and reg
// may be nil; clients may share reg.
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
		return nil, fmt.Errorf("push app %q: %w", cfg.Package, err)
	}
	proxy, err := push.ProxyFunc(cfg.Proxy, cfg.NoProxy)
	if err != nil {
		return nil, err
	}
	account, text, err := readAccount(cfg.ServiceAccount)
	if err != nil {
		return nil, fmt.Errorf("push app %q: service_account: %w", cfg.Package, err)
	}
	c := &Client{cfg: cfg, project: cfg.Project, log: log.With("room", "fcm", "app", cfg.Package), metrics: newMetrics(reg), text: text}
	if c.project == "" {
		c.project = account.project
	}
	ended, end := context.WithCancel(context.Background())
	c.end = end
	way := way{trust: trust, proxy: proxy, dial: cfg.Dial, ended: ended}
	c.proxy = proxy
	c.calls = &lane{make: func() *line { return newLine(way, c.opened) }}
	c.notes = &lane{make: func() *line { return newLine(way, c.opened) }}
	c.keeper = newKeeper(account, way.once(), c.fetched)
	if c.sdk, err = newSDK(cfg.Endpoint, c.project); err != nil {
		return nil, fmt.Errorf("push app %q: %w", cfg.Package, err)
	}
	return c, nil
}

// newSDK makes Google's client. All that leaves it passes [wire], which is told
// by the context where to; credentials, connections and retries are ours.
func newSDK(endpoint, project string) (*messaging.Client, error) {
	ctx := context.Background() // starts nothing
	app, err := firebase.NewApp(ctx, &firebase.Config{ProjectID: project},
		option.WithEndpoint(endpoint+"/v1"),
		option.WithHTTPClient(&http.Client{
			Transport:     wire{},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}))
	if err != nil {
		return nil, err
	}
	return app.Messaging(ctx)
}

// Project is the id of the Firebase project that pushes go through, which a
// client names in pn-param.
func (c *Client) Project() string { return c.project }

// opened counts a connection to FCM, and returns what to do when it is closed.
func (c *Client) opened() (closed func()) {
	c.metrics.connections.Inc()
	c.open.Add(1)
	return func() { c.open.Add(-1) }
}

// check reports every fault of the configuration that needs no file to see.
func (cfg *Config) check() error {
	var faults []error
	fault := func(bad bool, format string, a ...any) {
		if bad {
			faults = append(faults, fmt.Errorf("push app %q: "+format, append([]any{cfg.Package}, a...)...))
		}
	}
	fault(cfg.Package == "", "id: must be the app's package")
	fault(cfg.ServiceAccount == "", "service_account: must name the JSON file of a service account")
	fault(cfg.Project != "" && !isProject(cfg.Project), "project: must be the id of a Firebase project (got %q)", cfg.Project)
	if cfg.Endpoint == "" {
		cfg.Endpoint = googleEndpoint
	}
	u, err := url.Parse(cfg.Endpoint)
	bad := err != nil || u.Scheme != "https" || u.Host == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.User != nil
	fault(bad, "endpoint: must be https://HOST:PORT (got %q)", cfg.Endpoint)
	cfg.Endpoint = strings.TrimRight(cfg.Endpoint, "/")
	return errors.Join(faults...)
}
