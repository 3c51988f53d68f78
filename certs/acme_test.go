package certs_test

import (
	"crypto/tls"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/certs"
)

func TestACertificateIsFetchedByTLSALPN01AndKept(t *testing.T) {
	s := found(t, 90*24*time.Hour)
	s.open(nil)
	s.hears("certificate fetched", "name="+name)
	<-s.acme.Available()
	if leaf := s.visit().PeerCertificates[0]; leaf.VerifyHostname(name) != nil || time.Until(leaf.NotAfter) < 89*24*time.Hour {
		t.Errorf("shown %v until %v", leaf.DNSNames, leaf.NotAfter)
	}
	if st := s.acme.Status(); st.Issued != 1 || st.Problem != "" || time.Until(st.NotAfter) < 89*24*time.Hour {
		t.Errorf("status %+v", st)
	}
	if notes := s.public.Warnings(time.Now()); len(notes) > 0 {
		t.Errorf("all is well, but %q", notes)
	}
	s.stop()
	files := 0
	filepath.Walk(s.dir, func(path string, info os.FileInfo, err error) error {
		if err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v %v", path, info.Mode(), err)
		}
		if !info.IsDir() {
			files++
		}
		return nil
	})
	if files != 2 {
		t.Errorf("%d files are kept, want the account's key and the certificate", files)
	}
	// The next start asks nobody.
	s.ca.Leave()
	again, err := certs.NewACME(certs.ACMEConfig{Name: name, Directory: s.ca.Directory(), Dir: s.dir})
	if err != nil || again.Certificate() == nil {
		t.Fatalf("after a restart: %v, %v", again.Certificate(), err)
	}
	other, err := certs.NewACME(certs.ACMEConfig{Name: name, Directory: "https://other.example/dir", Dir: s.dir})
	if err != nil || other.Certificate() != nil {
		t.Errorf("another authority's certificate was taken: %v", err)
	}
}

func TestHTTP01IsTriedWhereTLSALPN01Fails(t *testing.T) {
	s := found(t, 90*24*time.Hour)
	s.open(func(c *certs.ACMEConfig) { c.HTTP = true })
	s.hears("certificate fetched")
	s.stop()

	s = found(t, 90*24*time.Hour)
	s.tls.Close() // as where another program has port 443
	s.open(func(c *certs.ACMEConfig) { c.HTTP = true })
	s.hears("certificate fetched")
	if _, ok := s.acme.Token("/.well-known/acme-challenge/x"); ok {
		t.Error("a token is shown when no challenge is under way")
	}
}

func TestARenewalGoesOnInTheBackground(t *testing.T) {
	s := found(t, 9*24*time.Hour)
	old := time.Now().Add(29 * 24 * time.Hour).Truncate(time.Second)
	s.stored(old.Add(-90*24*time.Hour), old) // it became due while the edge was down
	serving := make(chan bool, 100)
	s.ca.Before(func(http.ResponseWriter, *http.Request) bool {
		c, err := s.public.GetCertificate(&tls.ClientHelloInfo{ServerName: name})
		serving <- err == nil && c.Leaf.NotAfter.Equal(old)
		return false
	})
	s.open(nil)
	s.hears("certificate fetched")
	for range len(serving) {
		if !<-serving {
			t.Error("the old certificate was not served during the renewal")
		}
	}
	s.visit()
	s.acme.Retry() // a round trip: Run sleeps again
	s.hears("asked to try again")
	// It lives for nine days: the next renewal is three before its end.
	st := s.acme.Status()
	if before := st.NotAfter.Sub(st.Next); st.Issued != 1 || before < 71*time.Hour || before > 74*time.Hour {
		t.Errorf("renewal %v before the end, status %+v", before, st)
	}
}

func TestARefusedNameIsSaidWithItsRemedyAndNotAskedForAtOnce(t *testing.T) {
	s := found(t, time.Hour)
	s.ca.Block(name)
	s.open(nil)
	s.hears("level=ERROR", "certificate not fetched: clients are refused", "rejectedIdentifier", "correct public.hostname", "next_try=")
	st := s.acme.Status()
	if st.Refused != 1 || st.Unreached != 0 || !strings.Contains(st.Problem, "forbidden by policy") {
		t.Errorf("status %+v", st)
	}
	if notes := s.public.Warnings(time.Now()); len(notes) != 1 || !strings.Contains(notes[0], "no certificate for "+name+": ") {
		t.Errorf("notes %q", notes)
	}
	s.refusesClients()
	n := s.ca.Orders()
	s.acme.Retry() // an operator's SIGHUP
	s.hears("asked to try again")
	s.hears("certificate not fetched")
	if s.ca.Orders() == n {
		t.Error("it was not tried again")
	}
}

func TestAWrongNameIsSaidWithItsRemedy(t *testing.T) {
	s := found(t, time.Hour)
	// Another server answers at the name: it has port 443.
	elsewhere := s.tls
	s.tls = listen(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := elsewhere.Accept()
			if err != nil {
				return
			}
			p := pair(t, t.TempDir(), "other", 90, "other.example")
			cert, _ := tls.LoadX509KeyPair(p.Cert, p.Key)
			_ = tls.Server(c, &tls.Config{Certificates: []tls.Certificate{cert}}).Handshake()
			c.Close()
		}
	}()
	defer func() { elsewhere.Close(); <-done }()
	s.open(nil)
	line := s.hears("certificate not fetched", "tls-alpn-01: ", "remedy=")
	if !strings.Contains(line, "this edge") {
		t.Error(line)
	}
	s.refusesClients()
}

func TestTheAuthoritysPatienceIsKept(t *testing.T) {
	s := found(t, time.Hour)
	s.ca.Before(func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/order-plz" {
			return false
		}
		w.Header().Set("Retry-After", "7200")
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusTooManyRequests)
		w.Write([]byte(`{"type":"urn:ietf:params:acme:error:rateLimited","status":429,"detail":"too many\u0007certificates\nalready"}`))
		return true
	})
	s.open(func(c *certs.ACMEConfig) { c.RetryRefused = time.Millisecond })
	s.hears("certificate not fetched", "too many certificates already (rateLimited)", "none but time")
	n := s.ca.Orders()
	s.acme.Retry()
	s.hears("asked to try again")
	if st := s.acme.Status(); time.Until(st.Next) < 7100*time.Second || st.Refused != 1 {
		t.Errorf("status %+v", st)
	}
	if s.ca.Orders() != n {
		t.Error("it was tried again before the authority allowed")
	}
}

func TestWhileTheAuthorityIsAway(t *testing.T) {
	s := found(t, time.Hour)
	s.ca.Leave()
	s.open(func(c *certs.ACMEConfig) { c.RetryUnreached = 20 * time.Millisecond })
	s.hears("certificate not fetched: clients are refused", "was not reached", "let this host reach 127.0.0.1:")
	s.refusesClients()
	s.hears("certificate not fetched") // it goes on trying
	if st := s.acme.Status(); st.Unreached < 2 || st.Refused != 0 {
		t.Errorf("status %+v", st)
	}
	s.ca.Return()
	s.hears("certificate fetched")
	s.visit()
}

// stored puts a certificate of our own making into the store, as if fetched.
func (s *site) stored(from, until time.Time) {
	s.t.Helper()
	p := pairBetween(s.t, s.t.TempDir(), "old", from, until, name)
	key, _ := os.ReadFile(p.Key)
	cert, _ := os.ReadFile(p.Cert)
	dir := filepath.Join(s.dir, strings.ReplaceAll(strings.TrimSuffix(strings.TrimPrefix(s.ca.Directory(), "https://"), "/dir"), ":", "_"))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name), append(key, cert...), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func TestAnOldCertificateIsServedWhileTheAuthorityIsAway(t *testing.T) {
	const day = 24 * time.Hour
	for what, test := range map[string]struct {
		left time.Duration
		note string
	}{
		"valid, due for renewal": {20 * day, ""},
		"near its end":           {13*day + time.Hour, "the certificate for " + name + " ends in 13 days"},
		"ended":                  {-time.Hour, "the certificate for " + name + " ended on "},
	} {
		t.Run(what, func(t *testing.T) {
			s := found(t, time.Hour)
			s.ca.Leave()
			end := time.Now().Add(test.left).Truncate(time.Second)
			s.stored(end.Add(-90*day), end)
			s.open(func(c *certs.ACMEConfig) { c.RetryUnreached = 300 * time.Millisecond })
			s.hears("certificate not renewed: the old one is served", "was not reached")
			c, err := s.public.GetCertificate(&tls.ClientHelloInfo{ServerName: name})
			if err != nil || !c.Leaf.NotAfter.Equal(end) {
				t.Fatalf("served %v, %v", c, err)
			}
			notes := strings.Join(s.public.Warnings(time.Now()), "\n")
			if (test.note == "") != (notes == "") || !strings.HasPrefix(notes, test.note) || test.note != "" && !strings.Contains(notes, "was not reached") {
				t.Errorf("notes %q, want %q and why", notes, test.note)
			}
			s.ca.Return()
			s.hears("certificate fetched")
			if !s.visit().PeerCertificates[0].NotAfter.After(time.Now()) {
				t.Error("the old one is still served")
			}
		})
	}
}
