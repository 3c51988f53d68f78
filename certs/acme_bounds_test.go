package certs_test

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/certs"
)

// Only the challenge's certificate goes to who looks for one, and only to them.
func TestChallengeAndClientsAreNeverMixed(t *testing.T) {
	s := found(t, time.Hour)
	looked := make(chan struct{}, 10)
	s.ca.Before(func(_ http.ResponseWriter, r *http.Request) bool {
		if !strings.HasPrefix(r.URL.Path, "/chalZ/") {
			return false
		}
		hello := &tls.ClientHelloInfo{ServerName: name, SupportedProtos: []string{certs.ACMEProtocol}}
		c, err := s.acme.Challenge(hello)
		if err != nil || c.Leaf != nil && c.Leaf.Issuer.CommonName != c.Leaf.Subject.CommonName {
			t.Errorf("the challenge shows %v, %v", c, err)
		}
		s.refusesClients()
		for _, offers := range [][]string{nil, {"http/1.1"}, {certs.ACMEProtocol, "http/1.1"}} {
			hello := &tls.ClientHelloInfo{ServerName: name, SupportedProtos: offers}
			if c, err := s.acme.Challenge(hello); err == nil {
				t.Errorf("a client that offers %q was shown the challenge %v", offers, c)
			}
		}
		if c, err := s.acme.Challenge(&tls.ClientHelloInfo{ServerName: "other.example", SupportedProtos: []string{certs.ACMEProtocol}}); err == nil {
			t.Errorf("a challenge for another name: %v", c)
		}
		looked <- struct{}{}
		return false
	})
	s.open(nil)
	s.hears("certificate fetched")
	<-looked
	if c, err := s.acme.Challenge(&tls.ClientHelloInfo{ServerName: name, SupportedProtos: []string{certs.ACMEProtocol}}); err == nil {
		t.Errorf("when no challenge is under way: %v", c)
	}
}

func TestRunEndsWhileAnAttemptIsUnderWay(t *testing.T) {
	s := found(t, time.Hour)
	asked := make(chan struct{}, 10)
	s.ca.Before(func(_ http.ResponseWriter, r *http.Request) bool {
		asked <- struct{}{}
		<-r.Context().Done() // says nothing until the other hangs up
		return true
	})
	s.open(nil)
	<-asked
	begin := time.Now()
	s.stop()
	if d := time.Since(begin); d > 8*time.Second {
		t.Errorf("it took %v", d)
	}
	if st := s.acme.Status(); st.Problem != "" {
		t.Errorf("a stop counts as a failure: %+v", st)
	}
}

func TestAnAuthorityThatSaysTooMuchIsBounded(t *testing.T) {
	s := found(t, time.Hour)
	s.ca.Before(func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/order-plz" {
			return false
		}
		w.WriteHeader(http.StatusForbidden)
		w.Write([]byte(`{"type":"urn:ietf:params:acme:error:malformed","detail":"` + strings.Repeat("x", 5000) + `"}`))
		return true
	})
	s.open(func(c *certs.ACMEConfig) { c.RetryRefused = 10 * time.Millisecond })
	if line := s.hears("certificate not fetched", "xxx…"); len(line) > 1000 {
		t.Errorf("%d bytes were logged", len(line))
	}
	chunk := make([]byte, 64<<10)
	s.ca.Before(func(w http.ResponseWriter, _ *http.Request) bool {
		for range 64 { // 4 MiB
			if _, err := w.Write(chunk); err != nil {
				break
			}
		}
		return true
	})
	s.acme.Retry()
	s.hears("certificate not fetched", "an answer of more than 1048576 bytes")
}

func TestTheStoreIsCheckedBeforeAnythingIsAsked(t *testing.T) {
	cfg := certs.ACMEConfig{Name: name, Directory: "https://ca.example/dir", Dir: filepath.Join(t.TempDir(), "acme")}
	if _, err := certs.NewACME(cfg); err != nil {
		t.Fatalf("a new directory: %v", err)
	}
	inner := filepath.Join(cfg.Dir, "ca.example")
	file := filepath.Join(inner, name)
	refused := func(what, want string) {
		t.Helper()
		if _, err := certs.NewACME(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", what, err, want)
		}
	}
	os.Chmod(cfg.Dir, 0o755)
	refused("a directory open to all", "chmod 700 "+cfg.Dir)
	os.Chmod(cfg.Dir, 0o700)
	os.WriteFile(file, []byte("no certificate"), 0o644)
	refused("a key open to all", "chmod 600 "+file)
	os.Chmod(file, 0o600)
	if a, err := certs.NewACME(cfg); err != nil || a.Certificate() != nil {
		t.Errorf("a broken certificate: %v; want to fetch a new one", err)
	}
	cfg.Dir = file
	refused("a file in place of the directory", "not a directory")
}

func TestTheFetchedCertificateIsTheFirst(t *testing.T) {
	s := found(t, time.Hour)
	s.open(nil)
	s.hears("certificate fetched")
	dir := t.TempDir()
	p, err := certs.NewPublic([]certs.Pair{pair(t, dir, "chat", 90, "chat.example.com"), pair(t, dir, "own", 90, name)}, s.acme)
	if err != nil {
		t.Fatal(err)
	}
	fetched := s.acme.Certificate()
	for sni, want := range map[string]bool{"": true, "unknown.example": true, name: true, "EDGE.example.com.": true, "chat.example.com": false} {
		c, err := p.GetCertificate(&tls.ClientHelloInfo{ServerName: sni})
		if err != nil || (c == fetched) != want {
			t.Errorf("SNI %q is shown %v, %v", sni, c.Leaf.DNSNames, err)
		}
	}
	ends := p.Ends()
	if len(ends) != 3 || ends[0].Name != name || ends[0].Source != "acme" || ends[1].Name != "chat.example.com" || ends[1].Source != "file" {
		t.Errorf("ends %+v", ends)
	}
}

func TestFilesServeUntilTheFirstIsFetched(t *testing.T) {
	a, err := certs.NewACME(certs.ACMEConfig{Name: name, Dir: filepath.Join(t.TempDir(), "acme")})
	if err != nil {
		t.Fatal(err)
	}
	p, err := certs.NewPublic([]certs.Pair{pair(t, t.TempDir(), "chat", 90, "chat.example.com")}, a)
	if err != nil {
		t.Fatal(err)
	}
	if got := shown(t, p, name); got != "chat.example.com" {
		t.Errorf("shown %s", got)
	}
	if notes := p.Warnings(time.Now()); len(notes) != 1 || notes[0] != "the certificate for "+name+" is being fetched" {
		t.Errorf("notes %q", notes)
	}
}

// With a clock that is weeks ahead, or an authority that dates back, each new
// certificate is due at once: they are not fetched one after another.
func TestACertificateThatIsDueWhenItComesIsNotFetchedAgainAtOnce(t *testing.T) {
	const day = 24 * time.Hour
	now := time.Now()
	for what, test := range map[string]struct{ age, left, wait time.Duration }{
		"a clock ten weeks ahead": {70 * day, 20 * day, 10 * day},
		"dated back by a day":     {day, 6 * time.Hour, 3 * time.Hour},
		"all is well":             {0, 90 * day, 60*day - time.Hour},
		"six days":                {0, 6 * day, 4*day - time.Hour},
	} {
		c := &tls.Certificate{Leaf: &x509.Certificate{NotBefore: now.Add(-test.age), NotAfter: now.Add(test.left)}}
		if wait := certs.DueAfter(c, now).Sub(now); wait < test.wait || wait > test.wait+time.Hour {
			t.Errorf("%s: asked for again after %v, want %v", what, wait, test.wait)
		}
	}
}
