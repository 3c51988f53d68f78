package webpush_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/prometheus/client_golang/prometheus"

	"sallyport/core/push"
	"sallyport/core/push/pushtest"
	"sallyport/core/push/webpush"
)

// world is an internet of push services, each with a name and an address, in
// a bubble of fake time.
type world struct {
	t   testing.TB
	ctx context.Context

	mu    sync.Mutex
	hosts map[string]netip.Addr         // guarded by mu
	at    map[string]*pushtest.Listener // guarded by mu; by address and port
	cas   bytes.Buffer                  // guarded by mu
	wg    sync.WaitGroup
}

// inWorld runs f in fake time.
func inWorld(t *testing.T, f func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		w := &world{t: t, ctx: ctx, hosts: map[string]netip.Addr{}, at: map[string]*pushtest.Listener{}}
		defer w.wg.Wait()
		defer cancel()
		f(t, w)
	})
}

func (w *world) resolve(_ context.Context, host string) ([]netip.Addr, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	a, ok := w.hosts[host]
	if !ok {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	return []netip.Addr{a}, nil
}

func (w *world) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	w.mu.Lock()
	l := w.at[addr]
	w.mu.Unlock()
	if l == nil {
		return nil, fmt.Errorf("dial %s: connection refused", addr)
	}
	return l.Dial(ctx, network, addr)
}

// place gives host the next address of the internet, and a listener there.
func (w *world) place(host string) *pushtest.Listener {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := len(w.hosts) + 1
	a := netip.AddrFrom4([4]byte{198, 41, byte(n / 256), byte(n)})
	l := pushtest.NewListener()
	w.hosts[host], w.at[netip.AddrPortFrom(a, 443).String()] = a, l
	return l
}

// service is a push service.
type service struct {
	*pushtest.WebPush
	w    *world
	host string
}

// service starts a push service at https://host.
func (w *world) service(host string, cfg pushtest.WebPushConfig) *service {
	w.t.Helper()
	cfg.Hosts = append(cfg.Hosts, host)
	sim := pushtest.NewWebPush(cfg)
	l := w.place(host)
	w.wg.Go(func() {
		if err := sim.Serve(w.ctx, l); err != nil {
			w.t.Errorf("%s: %v", host, err)
		}
	})
	<-sim.Ready()
	w.mu.Lock()
	w.cas.Write(sim.CA())
	w.mu.Unlock()
	return &service{WebPush: sim, w: w, host: host}
}

// subscribe is the token of a subscription that takes pushes of c alone.
func (s *service) subscribe(key string) push.Token {
	s.w.t.Helper()
	sub, err := s.NewSubscription(key)
	if err != nil {
		s.w.t.Fatal(err)
	}
	url := "https://" + s.host + strings.TrimPrefix(sub.Endpoint, s.URL())
	return push.Token{Provider: push.ProviderWebPush, Value: url, Key: sub.P256dh, Auth: sub.Auth}
}

// keyless is a token whose client gave no key.
func (s *service) keyless(key string) push.Token {
	t := s.subscribe(key)
	t.Key, t.Auth = "", ""
	return t
}

// clean fails the test for each rule of Web Push that was broken.
func (s *service) clean() {
	s.w.t.Helper()
	for _, v := range s.Violations() {
		s.w.t.Errorf("%s: rule broken: %s", s.host, v)
	}
}

func (w *world) config() webpush.Config {
	w.t.Helper()
	w.mu.Lock()
	cas := bytes.Clone(w.cas.Bytes())
	w.mu.Unlock()
	return webpush.Config{
		App: app, KeyFile: newKeyFile(w.t), Subject: "mailto:ops@example.com",
		CAFile: write(w.t, "ca.pem", cas), Dial: w.dial, Resolve: w.resolve,
	}
}

// client makes a client that knows the services made so far. It ends before
// they do.
func (w *world) client(cfg webpush.Config, log *slog.Logger, reg prometheus.Registerer) *webpush.Client {
	w.t.Helper()
	c, err := webpush.New(cfg, log, reg)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	w.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("Run: %v", err)
		}
	})
	return c
}

// one is a push service with a client.
func (w *world) one(cfg pushtest.WebPushConfig) (*service, *webpush.Client) {
	w.t.Helper()
	s := w.service("push.example", cfg)
	return s, w.client(w.config(), nil, nil)
}
