// Package acmetest runs Pebble, Let's Encrypt's own small ACME server, in the
// test's process: a real certificate authority that validates over loopback,
// with a resolver that sends every name to 127.0.0.1. It can go away and come
// back, refuse, and ask for patience. It knows nothing of who asks it.
package acmetest

import (
	"context"
	"crypto/x509"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"
)

// Config says how the authority behaves.
type Config struct {
	// TLSPort and HTTPPort are where it validates, in place of 443 and 80.
	TLSPort, HTTPPort int
	// Life is how long its certificates are valid, in whole seconds.
	Life time.Duration
}

// CA is an authority. Its methods may be called from several goroutines.
type CA struct {
	// Static after Start.
	t      testing.TB
	store  *db.MemoryStore
	issuer *ca.CAImpl
	front  http.Handler
	addr   string

	// Guarded by mu.
	mu     sync.Mutex
	server *httptest.Server // nil while away
	client *http.Client
	before func(w http.ResponseWriter, r *http.Request) bool
	orders int
}

// Start runs an authority until the test ends. Pebble's one queue goroutine
// outlives it: tests that look for leaks ignore [Leftover].
func Start(t testing.TB, cfg Config) *CA {
	t.Helper()
	for name, value := range map[string]string{"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_AUTHZREUSE": "0", "PEBBLE_WFE_NONCEREJECT": "20"} {
		if old, set := os.LookupEnv(name); !set || old != value {
			t.Setenv(name, value)
		}
	}
	quiet := log.New(io.Discard, "", 0)
	store := db.NewMemoryStore()
	issuer := ca.New(quiet, store, "", "ecdsa", 0, 1, map[string]ca.Profile{
		"default": {Description: "the only one", ValidityPeriod: uint64(cfg.Life / time.Second)},
	})
	validator := va.New(quiet, cfg.HTTPPort, cfg.TLSPort, true, resolver(t), store)
	front := wfe.New(quiet, store, validator, issuer, []string{"ca.example"}, true, false, 1, 1)
	c := &CA{t: t, store: store, issuer: issuer, front: front.Handler()}
	c.serve("127.0.0.1:0")
	t.Cleanup(c.Leave)
	return c
}

// Leftover is the function of the goroutine that a CA leaves behind.
const Leftover = "github.com/letsencrypt/pebble/v2/va.VAImpl.processTasks"

// serve opens the authority's door.
func (c *CA) serve(addr string) {
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", addr)
	if err != nil {
		c.t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(http.HandlerFunc(c.answer))
	_ = s.Listener.Close()
	s.Listener = l
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.server, c.addr = s, l.Addr().String()
	if c.client == nil {
		c.client = s.Client()
	}
}

func (c *CA) answer(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	if r.URL.Path == "/order-plz" {
		c.orders++
	}
	before := c.before
	c.mu.Unlock()
	if before == nil || !before(w, r) {
		c.front.ServeHTTP(w, r)
	}
}

// Directory is the URL of the authority's directory.
func (c *CA) Directory() string { return "https://" + c.addr + "/dir" }

// Client is one that trusts the authority's own web server.
func (c *CA) Client() *http.Client {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.client
}

// Roots are what a client of the certified server trusts.
func (c *CA) Roots() *x509.CertPool {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(c.issuer.GetRootCert(0).PEM()) {
		c.t.Error("the authority's root does not parse")
	}
	return pool
}

// Orders counts the orders asked for so far, stale nonces included.
func (c *CA) Orders() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.orders
}

// Leave has the authority be away: its port refuses connections.
func (c *CA) Leave() {
	c.mu.Lock()
	s := c.server
	c.server = nil
	c.mu.Unlock()
	if s != nil {
		s.CloseClientConnections()
		s.Close()
	}
}

// Return has it be back, under the same address.
func (c *CA) Return() { c.serve(c.addr) }

// Block has it refuse a name by its policy.
func (c *CA) Block(name string) {
	if err := c.store.AddBlockedDomain(name); err != nil {
		c.t.Error(err)
	}
}

// Before has f see each request first; true means that it has answered. Nil
// ends that.
func (c *CA) Before(f func(w http.ResponseWriter, r *http.Request) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.before = f
}
