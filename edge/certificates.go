package edge

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"slices"
	"sync"
	"time"

	"sallyport/certs"
)

// lookEvery is how often it is looked at what operators should know.
const lookEvery = time.Second

// byACME reports whether a certificate for the hostname is to be fetched: a
// file that is named takes its place.
func (t TLS) byACME() bool { return t.ACME && t.Cert == "" }

// loadPublic reads the certificates that clients see, and prepares to fetch
// one where the config says so.
func loadPublic(cfg Config, deps Deps) (*certs.Public, *certs.ACME, error) {
	t := cfg.TLS
	var pairs []certs.Pair
	if t.Cert != "" {
		pairs = append(pairs, certs.Pair{Cert: t.Cert, Key: t.Key})
	}
	for _, c := range t.Certificates {
		pairs = append(pairs, certs.Pair{Cert: c.Cert, Key: c.Key, Names: c.Names})
	}
	var fetched *certs.ACME
	if t.byACME() {
		var err error
		fetched, err = certs.NewACME(certs.ACMEConfig{
			Name: cfg.Public.Hostname, Email: t.ACMEEmail, Directory: t.ACMEDirectory, Dir: t.ACMEDir,
			HTTP: cfg.Public.HTTP != "", UserAgent: "sallyport-edge/" + cmp.Or(deps.Version, "dev"), Client: deps.ACME,
		})
		if err != nil {
			return nil, nil, fmt.Errorf("tls.acme_dir: %w", err)
		}
	}
	public, err := certs.NewPublic(pairs, fetched)
	if err != nil {
		return nil, nil, fmt.Errorf("tls.cert: %w", err)
	}
	return public, fetched, nil
}

// tlsFor is the TLS side of a door that serves protocols by ALPN. The https
// door answers the authority's challenge as well: to who offers that protocol
// and nothing else (RFC 8737 §3), and to nobody else.
func (s *Server) tlsFor(door string, protocols []string) *tls.Config {
	c := &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: s.public.GetCertificate, NextProtos: protocols}
	if door != "https" || s.fetched == nil {
		return c
	}
	challenge := &tls.Config{
		MinVersion: tls.VersionTLS12, GetCertificate: s.fetched.Challenge,
		NextProtos: []string{certs.ACMEProtocol}, SessionTicketsDisabled: true,
	}
	c.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if slices.Equal(hello.SupportedProtos, challenge.NextProtos) {
			return challenge, nil
		}
		return nil, nil //nolint:nilnil // nil: the config at hand
	}
	return c
}

// token answers an HTTP-01 challenge; nil where nothing is fetched.
func (s *Server) token() func(path string) ([]byte, bool) {
	if s.fetched == nil {
		return nil
	}
	return s.fetched.Token
}

// certified is closed once there is a certificate to show.
func (s *Server) certified() <-chan struct{} {
	if s.fetched == nil || len(s.public.Ends()) > 0 {
		there := make(chan struct{})
		close(there)
		return there
	}
	return s.fetched.Available()
}

// watchCertificates keeps certificates fresh until ctx ends, and tells the
// cores what their operators should know.
func (s *Server) watchCertificates(ctx context.Context, watches *sync.WaitGroup) {
	log := s.room("certs")
	watches.Go(func() { _ = s.public.Watch(ctx, log) })
	watches.Go(func() { _ = s.identity.Watch(ctx, log) })
	if s.fetched != nil {
		watches.Go(func() { _ = s.fetched.Run(ctx, log) })
	} else if s.cfg.TLS.ACME {
		s.log.Info("nothing is fetched by ACME: tls.cert names a file", "cert", s.cfg.TLS.Cert)
	}
	watches.Go(func() {
		tick := time.NewTicker(lookEvery)
		defer tick.Stop()
		for {
			s.acceptor.SetNotices(s.Notes())
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	})
}

// Notes are sentences on what an operator should know: certificates that near
// their end or are not there yet.
func (s *Server) Notes() []string {
	now := time.Now()
	notes := s.public.Warnings(now)
	if text := certs.EndWarning(s.identity.Path(), s.identity.NotAfter(), now); text != "" {
		notes = append(notes, text)
	}
	return notes
}
