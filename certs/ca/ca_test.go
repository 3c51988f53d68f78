package ca_test

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/certs/ca"
)

func newCA(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "deep", "ca")
	if err := ca.Init(dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

func certificate(t *testing.T, path string) *x509.Certificate {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(data)
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestEveryFileIsItsOwnersAlone(t *testing.T) {
	dir := newCA(t)
	if _, err := ca.Issue(dir, "edge", "edge1", 397); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 3 {
		t.Fatalf("%v %v", entries, err)
	}
	for _, e := range entries {
		if info, _ := e.Info(); info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", e.Name(), info.Mode())
		}
	}
	if info, _ := os.Stat(dir); info.Mode().Perm() != 0o700 {
		t.Errorf("the directory has mode %v", info.Mode())
	}
}

func TestInitNeverOverwritesACA(t *testing.T) {
	for _, remaining := range []string{ca.CertFile, ca.KeyFile} {
		dir := newCA(t)
		for _, f := range []string{ca.CertFile, ca.KeyFile} {
			if f != remaining {
				os.Remove(filepath.Join(dir, f))
			}
		}
		before, _ := os.ReadFile(filepath.Join(dir, remaining))
		if err := ca.Init(dir); !errors.Is(err, ca.ErrExists) || !strings.Contains(err.Error(), remaining) {
			t.Errorf("%s is there: %v", remaining, err)
		}
		if after, _ := os.ReadFile(filepath.Join(dir, remaining)); string(after) != string(before) {
			t.Errorf("%s was changed", remaining)
		}
	}
}

func TestACertificateNamesItsHolderTwice(t *testing.T) {
	dir := newCA(t)
	for _, test := range []struct{ role, name, file, uri, dns, ip string }{
		{"edge", "Edge1.Example.com", "edge1.example.com.pem", "spiffe://sallyport/edge/edge1.example.com", "edge1.example.com", ""},
		{"core", "core1", "core1.pem", "spiffe://sallyport/core/core1", "core1", ""},
		{"edge", "10.1.0.4", "10.1.0.4.pem", "spiffe://sallyport/edge/10.1.0.4", "", "10.1.0.4"},
		{"edge", "FD00:0:0::1", "fd00::1.pem", "spiffe://sallyport/edge/fd00::1", "", "fd00::1"},
	} {
		path, err := ca.Issue(dir, test.role, test.name, 397)
		if err != nil || path != filepath.Join(dir, test.file) {
			t.Fatalf("%s: %s %v", test.name, path, err)
		}
		c := certificate(t, path)
		if len(c.URIs) != 1 || c.URIs[0].String() != test.uri {
			t.Errorf("%s: URIs %v", test.name, c.URIs)
		}
		dns, ip := strings.Join(c.DNSNames, " "), ""
		if len(c.IPAddresses) == 1 {
			ip = c.IPAddresses[0].String()
		}
		if dns != test.dns || ip != test.ip || c.IsCA {
			t.Errorf("%s: DNS %q, IP %q, CA %v", test.name, dns, ip, c.IsCA)
		}
		if days := time.Until(c.NotAfter).Hours() / 24; days < 396 || days > 397 {
			t.Errorf("%s: valid for %.1f days", test.name, days)
		}
	}
}

func TestABundleCannotSign(t *testing.T) {
	c := certificate(t, func() string { p, _ := ca.Issue(newCA(t), "edge", "edge1", 1); return p }())
	if c.IsCA || c.KeyUsage&x509.KeyUsageCertSign != 0 {
		t.Error("an edge's certificate may sign others")
	}
}

func TestIssuingAgainRenewsButNeverTakesAnothersFile(t *testing.T) {
	dir := newCA(t)
	path, err := ca.Issue(dir, "edge", "host1", 10)
	if err != nil {
		t.Fatal(err)
	}
	before := certificate(t, path)
	if _, err := ca.Issue(dir, "edge", "host1", 20); err != nil {
		t.Fatal(err)
	}
	if certificate(t, path).Equal(before) {
		t.Error("issuing again did not renew")
	}
	if _, err := ca.Issue(dir, "core", "host1", 20); err == nil || !strings.Contains(err.Error(), "is not the bundle of spiffe://sallyport/core/host1") {
		t.Errorf("an edge's bundle was replaced by a core's: %v", err)
	}
	foreign := filepath.Join(dir, "notes.pem")
	if err := os.WriteFile(foreign, []byte("my notes"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ca.Issue(dir, "core", "notes", 20); err == nil || !strings.Contains(err.Error(), "is no bundle; it is not overwritten") {
		t.Errorf("a foreign file was replaced: %v", err)
	}
}

func TestIssueNamesTheCulprit(t *testing.T) {
	dir := newCA(t)
	for _, test := range []struct {
		dir, role, name string
		days            int
		want            string
	}{
		{dir, "admin", "x", 1, `role "admin": must be edge or core`},
		{dir, "edge", "", 1, "must be a DNS name"},
		{dir, "edge", "../../etc/passwd", 1, `name "../../etc/passwd"`},
		{dir, "edge", "edge1.example.com:7443", 1, "without a port"},
		{dir, "edge", "*.example.com", 1, "must be a DNS name"},
		{dir, "edge", "-x", 1, "must be a DNS name"},
		{dir, "edge", "a..b", 1, "must be a DNS name"},
		{dir, "edge", "fe80::1%eth0", 1, "zone"},
		{dir, "edge", "edge1", 0, "days: must be at least 1 (got 0)"},
		{dir, "edge", "edge1", 10000, "days: the CA itself ends on"},
		{t.TempDir(), "edge", "edge1", 1, "make one with `sallyport certs init --dir"},
	} {
		if _, err := ca.Issue(test.dir, test.role, test.name, test.days); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s %q %d: %v, want %q", test.role, test.name, test.days, err, test.want)
		}
	}
	other := newCA(t)
	key, _ := os.ReadFile(filepath.Join(other, ca.KeyFile))
	if err := os.WriteFile(filepath.Join(dir, ca.KeyFile), key, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ca.Issue(dir, "edge", "edge1", 1); err == nil || !strings.Contains(err.Error(), "is not the key of") {
		t.Errorf("another CA's key: %v", err)
	}
}
