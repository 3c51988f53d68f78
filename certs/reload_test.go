package certs_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/certs"
	"sallyport/certs/ca"
)

// journal is a log that the test reads while it is written.
type journal struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.buf.Write(p)
}

// take returns what was logged since the last take.
func (j *journal) take() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	defer j.buf.Reset()
	return j.buf.String()
}

func (j *journal) log() *slog.Logger { return slog.New(slog.NewTextHandler(j, nil)) }

// watching runs watch in a bubble until stop is called.
func watching(t *testing.T, watch func(context.Context, *slog.Logger) error) (j *journal, stop func()) {
	t.Helper()
	j = &journal{}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- watch(ctx, j.log()) }()
	synctest.Wait()
	return j, func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Watch: %v", err)
		}
	}
}

// overwrite replaces a file's content and gives it a time of its own, since
// the bubble's clock is not the file system's.
func overwrite(t *testing.T, path string, content []byte, version int) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	mtime := time.Unix(int64(version), 0)
	if err := os.Chtimes(path, mtime, mtime); err != nil {
		t.Fatal(err)
	}
}

// pollHalf puts a test between two polls, so that none falls into a write.
const pollHalf = 500 * time.Millisecond

// TU-22: a new certificate is used by the next connection, those that are up
// live on.
func TestTU22_ABundleReloadsAndConnectionsSurvive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := newCA(t)
		edge, core := issue(t, dir, certs.RoleEdge, "edge1", 30), issue(t, dir, certs.RoleCore, "core1", 30)
		j, stop := watching(t, edge.Watch)
		defer stop()
		config := edge.ServerConfig(certs.RoleCore) // made before the reload, as a listener has it
		s, c, serr, cerr := shake(t, config, core.ClientConfig(certs.RoleEdge, "edge1"))
		if serr != nil || cerr != nil {
			t.Fatal(serr, cerr)
		}
		before := c.ConnectionState().PeerCertificates[0]
		if _, err := ca.Issue(dir, certs.RoleEdge, "edge1", 60); err != nil {
			t.Fatal(err)
		}
		time.Sleep(1100 * time.Millisecond)
		if text := j.take(); !strings.Contains(text, "bundle reloaded") {
			t.Fatalf("no reload: %s", text)
		}
		if left := time.Until(edge.NotAfter()); left < 59*24*time.Hour {
			t.Errorf("the old certificate is in use: %v left", left)
		}
		_, c2, serr, cerr := shake(t, config, core.ClientConfig(certs.RoleEdge, "edge1"))
		if serr != nil || cerr != nil {
			t.Fatal(serr, cerr)
		}
		if c2.ConnectionState().PeerCertificates[0].Equal(before) {
			t.Error("a new handshake shows the old certificate")
		}
		if _, err := s.Write([]byte("x")); err != nil {
			t.Errorf("the old connection died: %v", err)
		}
		if _, err := c.Read(make([]byte, 1)); err != nil {
			t.Errorf("the old connection died: %v", err)
		}
	})
}

func TestABrokenNewBundleKeepsTheOldAndIsLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := newCA(t)
		edge, core := issue(t, dir, certs.RoleEdge, "edge1", 397), issue(t, dir, certs.RoleCore, "core1", 397)
		path := edge.Path()
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		other := issue(t, dir, certs.RoleEdge, "edge2", 397)
		foreign, err := os.ReadFile(other.Path())
		if err != nil {
			t.Fatal(err)
		}
		j, stop := watching(t, edge.Watch)
		defer stop()
		time.Sleep(pollHalf) // between two looks at the file
		for i, test := range []struct {
			content []byte
			want    string
		}{
			{good[:len(good)/2], "the old one stays"},
			{nil, "has no certificate"},
			{foreign, "is the bundle of edge edge2, but this process is edge edge1"},
		} {
			overwrite(t, path, test.content, i+1)
			time.Sleep(5 * time.Second)
			text := j.take()
			if !strings.Contains(text, test.want) || strings.Count(text, "\n") != 1 || !strings.Contains(text, path) {
				t.Errorf("logged, want one line with %q:\n%s", test.want, text)
			}
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		if text := j.take(); !strings.Contains(text, "no such file") {
			t.Errorf("the file is gone: %s", text)
		}
		if _, _, serr, cerr := shake(t, edge.ServerConfig(certs.RoleCore), core.ClientConfig(certs.RoleEdge, "edge1")); serr != nil || cerr != nil {
			t.Errorf("the old bundle is not in use: %v %v", serr, cerr)
		}
		overwrite(t, path, good, 9)
		time.Sleep(2 * time.Second)
		if text := j.take(); !strings.Contains(text, "bundle reloaded") {
			t.Errorf("a good file again: %s", text)
		}
		if err := edge.Reload(); err != nil {
			t.Errorf("Reload: %v", err)
		}
	})
}

func TestTheEndIsWarnedOfFromThirtyDaysBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		edge := issue(t, newCA(t), certs.RoleEdge, "edge1", 31)
		j, stop := watching(t, edge.Watch)
		defer stop()
		if text := j.take(); text != "" {
			t.Errorf("31 days before the end: %s", text)
		}
		time.Sleep(24*time.Hour + time.Minute)
		if text := j.take(); strings.Count(text, "ends in 30 days") != 1 || !strings.Contains(text, "sallyport certs issue --edge edge1") {
			t.Errorf("30 days before the end, want one warning with its remedy:\n%s", text)
		}
	})
	end := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	for before, want := range map[time.Duration]string{
		31 * 24 * time.Hour: "",
		36 * time.Hour:      "the certificate in f ends in 1 day, on 2026-03-01",
		time.Hour:           "the certificate in f ends within a day, on 2026-03-01",
		-time.Second:        "the certificate in f ended on 2026-03-01",
	} {
		if got := certs.EndWarning("f", end, end.Add(-before)); got != want {
			t.Errorf("%v before the end: %q, want %q", before, got, want)
		}
	}
}

// pair writes a self-signed public certificate and returns it as config
// names it.
func pair(t *testing.T, dir, file string, days int, names ...string) certs.Pair {
	t.Helper()
	return pairBetween(t, dir, file, time.Now().AddDate(0, 0, -60), time.Now().AddDate(0, 0, days), names...)
}

func pairBetween(t *testing.T, dir, file string, from, until time.Time, names ...string) certs.Pair {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: names[0]}, DNSNames: names,
		NotBefore: from, NotAfter: until,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	p := certs.Pair{Cert: filepath.Join(dir, file+".crt"), Key: filepath.Join(dir, file+".key")}
	for path, block := range map[string]*pem.Block{p.Cert: {Type: "CERTIFICATE", Bytes: der}, p.Key: {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func shown(t *testing.T, p *certs.Public, sni string) string {
	t.Helper()
	cert, err := p.GetCertificate(&tls.ClientHelloInfo{ServerName: sni})
	if err != nil {
		t.Fatal(err)
	}
	return cert.Leaf.Subject.CommonName
}

func TestPublicCertificatesAreChosenByName(t *testing.T) {
	dir := t.TempDir()
	named := pair(t, dir, "c", 90, "c.example.com")
	named.Names = []string{"xmpp.example.org"}
	p, err := certs.LoadPublic([]certs.Pair{pair(t, dir, "a", 90, "edge.example.com"), pair(t, dir, "b", 90, "*.example.net", "x.example.net"), named})
	if err != nil {
		t.Fatal(err)
	}
	for sni, want := range map[string]string{
		"":                  "edge.example.com",
		"edge.example.com":  "edge.example.com",
		"EDGE.example.com.": "edge.example.com",
		"unknown.example":   "edge.example.com",
		"x.example.net":     "*.example.net",
		"y.example.net":     "*.example.net",
		"z.y.example.net":   "edge.example.com",
		"xmpp.example.org":  "c.example.com",
		"c.example.com":     "edge.example.com",
	} {
		if got := shown(t, p, sni); got != want {
			t.Errorf("SNI %q gets %s, want %s", sni, got, want)
		}
	}
}

func TestLoadPublicReportsEveryFaultWithItsFile(t *testing.T) {
	dir := t.TempDir()
	a, b := pair(t, dir, "a", 90, "a.example"), pair(t, dir, "b", 90, "b.example")
	_, err := certs.LoadPublic([]certs.Pair{{Cert: a.Cert, Key: b.Key}, {Cert: filepath.Join(dir, "none.crt"), Key: a.Key}})
	if err == nil || !strings.Contains(err.Error(), a.Cert+" with key "+b.Key) || !strings.Contains(err.Error(), "none.crt") {
		t.Errorf("error: %v", err)
	}
	if _, err := certs.LoadPublic(nil); err == nil {
		t.Error("no pair at all is no error")
	}
}

func TestPublicCertificatesReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		p, err := certs.LoadPublic([]certs.Pair{pair(t, dir, "a", 10, "old.example"), pair(t, dir, "b", 90, "b.example")})
		if err != nil {
			t.Fatal(err)
		}
		j, stop := watching(t, p.Watch)
		defer stop()
		if text := j.take(); strings.Count(text, "certificate ends soon") != 1 || !strings.Contains(text, "a.crt ends in ") {
			t.Errorf("10 days before the end of one: %s", text)
		}
		// The certificate comes first, its key a moment later: a renewal tool
		// writes two files.
		next := pair(t, t.TempDir(), "a", 90, "new.example")
		cert, _ := os.ReadFile(next.Cert)
		key, _ := os.ReadFile(next.Key)
		overwrite(t, filepath.Join(dir, "a.crt"), cert, 1)
		time.Sleep(1500 * time.Millisecond)
		if text := j.take(); !strings.Contains(text, "not reloaded") || shown(t, p, "") != "old.example" {
			t.Errorf("certificate and key do not fit, yet %s is shown:\n%s", shown(t, p, ""), text)
		}
		overwrite(t, filepath.Join(dir, "a.key"), key, 1)
		time.Sleep(1500 * time.Millisecond)
		if text := j.take(); !strings.Contains(text, "public certificate reloaded") || shown(t, p, "new.example") != "new.example" {
			t.Errorf("%s is shown:\n%s", shown(t, p, ""), text)
		}
		expired := pair(t, t.TempDir(), "a", -1, "expired.example")
		cert, _ = os.ReadFile(expired.Cert)
		key, _ = os.ReadFile(expired.Key)
		overwrite(t, filepath.Join(dir, "a.crt"), cert, 2)
		overwrite(t, filepath.Join(dir, "a.key"), key, 2)
		if err := p.Reload(); err == nil || shown(t, p, "") != "new.example" {
			t.Errorf("an expired certificate took the place of a good one: %v", err)
		}
	})
}
