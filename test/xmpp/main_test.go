package xmpp

import (
	"context"
	"crypto/tls"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if built.Load() {
			dir, _ := build()
			os.RemoveAll(dir)
		}
		os.Exit(code)
	}))
}

// within bounds one story.
func within(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// got is must for a function that returns something too.
func got[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		must(t, err)
		return v
	}
}

// users of all stories.
var users = map[string]string{"alice": "secret-a", "bob": "secret-b", "carol": "secret-c"}

// eachServer tells a story with each kind of server.
func eachServer(t *testing.T, cfg ServerConfig, story func(*testing.T, *Server)) {
	if cfg.Users == nil {
		cfg.Users = users
	}
	for kind, start := range Kinds {
		t.Run(kind, func(t *testing.T) { story(t, start(t, cfg)) })
	}
}

// client is a user's client directly at the server.
func (s *Server) client(t testing.TB, user, url string, change ...func(*ClientConfig)) *Client {
	cfg := ClientConfig{JID: s.JID(user), Password: s.cfg.Users[user], Resource: "r-" + user, URL: url, TLS: s.trust()}
	for _, f := range change {
		f(&cfg)
	}
	c := NewClient(cfg)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		c.Close(ctx)
	})
	return c
}

// trust is TLS that believes in the server's certificate.
func (s *Server) trust() *tls.Config {
	return &tls.Config{RootCAs: s.Roots, ServerName: s.Domain, MinVersion: tls.VersionTLS12}
}

// connected connects a client and shows it as available.
func connected(t testing.TB, ctx context.Context, c *Client) *Client {
	t.Helper()
	must(t, c.Connect(ctx))
	must(t, c.Presence(""))
	must(t, c.Ping(ctx))
	return c
}
