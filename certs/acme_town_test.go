package certs_test

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/certs"
	"sallyport/certs/acmetest"
)

const name = "edge.example.com"

// site is a host on the internet: what runs at its ports 443 and 80, an
// authority that calls on them, and a certificate being fetched.
type site struct {
	t          *testing.T
	ca         *acmetest.CA
	tls, plain net.Listener
	dir        string
	acme       *certs.ACME
	public     *certs.Public
	said       chan string // log lines, as "message key=value …"
	stop       func()
}

// found makes a site with an authority whose certificates live that long.
func found(t *testing.T, life time.Duration) *site {
	t.Helper()
	s := &site{t: t, tls: listen(t), plain: listen(t), dir: t.TempDir() + "/acme"}
	s.ca = acmetest.Start(t, acmetest.Config{TLSPort: port(s.tls), HTTPPort: port(s.plain), Life: life})
	return s
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func port(l net.Listener) int { return l.Addr().(*net.TCPAddr).Port }

// open starts to fetch, with what the site has stored, and serves both ports.
func (s *site) open(change func(*certs.ACMEConfig)) {
	s.t.Helper()
	cfg := certs.ACMEConfig{Name: name, Email: "ops@example.com", Directory: s.ca.Directory(), Dir: s.dir, Client: s.ca.Client(), RetryRefused: time.Hour, RetryUnreached: time.Hour}
	if change != nil {
		change(&cfg)
	}
	a, err := certs.NewACME(cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	s.acme, s.said = a, make(chan string, 1000)
	if s.public, err = certs.NewPublic(nil, a); err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := a.Run(ctx, slog.New(slog.NewTextHandler(lines(s.said), nil))); err != nil {
			s.t.Errorf("Run: %v", err)
		}
	})
	running.Go(func() { s.serveTLS(a) })
	web := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if body, ok := a.Token(r.URL.Path); ok {
			w.Write(body)
		} else {
			w.WriteHeader(http.StatusNotFound)
		}
	})}
	running.Go(func() { web.Serve(s.plain) })
	s.stop = sync.OnceFunc(func() {
		cancel()
		s.tls.Close()
		web.Close()
		running.Wait()
	})
	s.t.Cleanup(s.stop)
}

// serveTLS keeps challenges and clients apart, as an edge does.
func (s *site) serveTLS(a *certs.ACME) {
	clients := &tls.Config{GetCertificate: s.public.GetCertificate}
	challenges := &tls.Config{GetCertificate: a.Challenge, NextProtos: []string{certs.ACMEProtocol}}
	clients.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if len(hello.SupportedProtos) == 1 && hello.SupportedProtos[0] == certs.ACMEProtocol {
			return challenges, nil
		}
		return nil, nil
	}
	for {
		c, err := s.tls.Accept()
		if err != nil {
			return
		}
		c.SetDeadline(time.Now().Add(5 * time.Second))
		_ = tls.Server(c, clients).Handshake()
		c.Close()
	}
}

// lines is a log whose lines are heard one by one.
type lines chan string

func (l lines) Write(p []byte) (int, error) { l <- string(p); return len(p), nil }

// hears waits for a line with all of the texts, and returns it.
func (s *site) hears(texts ...string) string {
	s.t.Helper()
	var heard []string
	for {
		select {
		case line := <-s.said:
			heard = append(heard, line)
			missing := false
			for _, text := range texts {
				missing = missing || !strings.Contains(line, text)
			}
			if !missing {
				return line
			}
		case <-time.After(25 * time.Second):
			s.t.Fatalf("nothing was said of %q, only\n%s", texts, strings.Join(heard, ""))
		}
	}
}

// visit is a client that trusts the authority: it returns what it is shown.
func (s *site) visit() *tls.ConnectionState {
	s.t.Helper()
	c, err := tls.Dial("tcp", s.tls.Addr().String(), &tls.Config{ServerName: name, RootCAs: s.ca.Roots()})
	if err != nil {
		s.t.Fatal(err)
	}
	defer c.Close()
	state := c.ConnectionState()
	return &state
}

func (s *site) refusesClients() {
	s.t.Helper()
	if _, err := s.public.GetCertificate(&tls.ClientHelloInfo{ServerName: name}); !errors.Is(err, certs.ErrNoCertificate) {
		s.t.Errorf("without a certificate: %v", err)
	}
}
