package certs_test

import (
	"crypto/tls"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"sallyport/certs"
	"sallyport/certs/acmetest"
	"sallyport/certs/ca"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction(acmetest.Leftover))
}

// newCA makes a CA in a directory of the test.
func newCA(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := ca.Init(dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

// issue makes and loads a bundle.
func issue(t *testing.T, dir string, role certs.Role, name string, days int) *certs.Bundle {
	t.Helper()
	path, err := ca.Issue(dir, role, name, days)
	if err != nil {
		t.Fatal(err)
	}
	b, err := certs.LoadBundle(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// shake runs a handshake of both configs over loopback and returns how each
// side ended it. A TLS 1.3 client learns of a refusal only when it reads.
func shake(t *testing.T, server, client *tls.Config) (s, c *tls.Conn, serverErr, clientErr error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	b, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	a, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	s, c = tls.Server(a, server), tls.Client(b, client)
	done := make(chan error, 1)
	go func() {
		err := s.Handshake()
		if err == nil {
			_, err = s.Write([]byte{0})
		} else {
			a.Close()
		}
		done <- err
	}()
	clientErr = c.Handshake()
	if clientErr == nil {
		_, clientErr = c.Read(make([]byte, 1))
	}
	if clientErr != nil {
		b.Close()
	}
	return s, c, <-done, clientErr
}

func TestBundleOfEachRoleConnects(t *testing.T) {
	for _, name := range []string{"edge1.example.com", "EDGE1.example.com", "10.1.0.4", "fd00::1"} {
		dir := newCA(t)
		edge := issue(t, dir, certs.RoleEdge, name, 397)
		core := issue(t, dir, certs.RoleCore, "core1", 397)
		s, c, serr, cerr := shake(t, edge.ServerConfig(certs.RoleCore), core.ClientConfig(certs.RoleEdge, name))
		if serr != nil || cerr != nil {
			t.Fatalf("%s: server %v, client %v", name, serr, cerr)
		}
		role, peer, err := certs.PeerName(s.ConnectionState())
		if role != certs.RoleCore || peer != "core1" || err != nil {
			t.Errorf("the edge sees %s %s %v", role, peer, err)
		}
		role, peer, err = certs.PeerName(c.ConnectionState())
		if role != certs.RoleEdge || peer != strings.ToLower(name) || err != nil {
			t.Errorf("the core sees %s %s %v", role, peer, err)
		}
		if v := s.ConnectionState().Version; v != tls.VersionTLS13 {
			t.Errorf("version %x, want TLS 1.3", v)
		}
	}
}

func TestTU21_EdgeRefusesWhoIsNoCoreOfItsCA(t *testing.T) {
	dir, foreign := newCA(t), newCA(t)
	edge := issue(t, dir, certs.RoleEdge, "edge1", 397)
	for what, test := range map[string]struct {
		peer   *certs.Bundle
		reason string
	}{
		"foreign CA":                 {issue(t, foreign, certs.RoleCore, "core1", 397), "foreign_ca"},
		"edge certificate as client": {issue(t, dir, certs.RoleEdge, "edge2", 397), "wrong_role"},
		"the edge's own bundle":      {edge, "wrong_role"},
	} {
		client := test.peer.ClientConfig(certs.RoleEdge, "edge1")
		client.RootCAs = edge.ClientConfig(certs.RoleEdge, "edge1").RootCAs
		client.VerifyConnection = nil // a thief's client does not care
		client.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return &client.Certificates[0], nil
		}
		_, _, serr, cerr := shake(t, edge.ServerConfig(certs.RoleCore), client)
		if serr == nil || cerr == nil {
			t.Errorf("%s: accepted (server %v, client %v)", what, serr, cerr)
		}
		if got := certs.Reason(serr); got != test.reason {
			t.Errorf("%s: reason %q, want %q (%v)", what, got, test.reason, serr)
		}
	}
}

func TestTU21_EdgeRefusesAClientWithoutCertificateOrALPN(t *testing.T) {
	dir := newCA(t)
	edge, core := issue(t, dir, certs.RoleEdge, "edge1", 397), issue(t, dir, certs.RoleCore, "core1", 397)
	bare := core.ClientConfig(certs.RoleEdge, "edge1")
	bare.Certificates = nil
	if _, _, serr, _ := shake(t, edge.ServerConfig(certs.RoleCore), bare); certs.Reason(serr) != "no_certificate" {
		t.Errorf("no certificate: %v", serr)
	}
	mute := core.ClientConfig(certs.RoleEdge, "edge1")
	mute.NextProtos, mute.VerifyConnection = nil, nil
	if _, _, serr, _ := shake(t, edge.ServerConfig(certs.RoleCore), mute); !errors.Is(serr, certs.ErrProtocol) {
		t.Errorf("no ALPN: %v", serr)
	}
	old := core.ClientConfig(certs.RoleEdge, "edge1")
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	if _, _, serr, _ := shake(t, edge.ServerConfig(certs.RoleCore), old); serr == nil {
		t.Error("TLS 1.2 was accepted")
	}
}

func TestTU21_CoreRefusesWhoIsNotTheEdgeItDialled(t *testing.T) {
	dir, foreign := newCA(t), newCA(t)
	core := issue(t, dir, certs.RoleCore, "core1", 397)
	for what, test := range map[string]struct {
		peer   *certs.Bundle
		reason string
	}{
		"foreign CA":   {issue(t, foreign, certs.RoleEdge, "edge1", 397), "foreign_ca"},
		"core as edge": {issue(t, dir, certs.RoleCore, "edge1", 397), "wrong_role"},
		"another edge": {issue(t, dir, certs.RoleEdge, "edge2", 397), "wrong_name"},
	} {
		server := test.peer.ServerConfig(certs.RoleCore)
		server.GetConfigForClient, server.VerifyConnection = nil, nil
		server.ClientAuth = tls.RequestClientCert
		_, _, _, cerr := shake(t, server, core.ClientConfig(certs.RoleEdge, "edge1"))
		if got := certs.Reason(cerr); got != test.reason {
			t.Errorf("%s: reason %q, want %q (%v)", what, got, test.reason, cerr)
		}
	}
}

func TestTU21_ExpiredIsRefusedByBothSides(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := newCA(t)
		edge, core := issue(t, dir, certs.RoleEdge, "edge1", 397), issue(t, dir, certs.RoleCore, "core1", 10)
		time.Sleep(11 * 24 * time.Hour)
		_, _, serr, cerr := shake(t, edge.ServerConfig(certs.RoleCore), core.ClientConfig(certs.RoleEdge, "edge1"))
		if certs.Reason(serr) != "expired" || cerr == nil {
			t.Errorf("expired core: server %v, client %v", serr, cerr)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		dir := newCA(t)
		edge, core := issue(t, dir, certs.RoleEdge, "edge1", 10), issue(t, dir, certs.RoleCore, "core1", 397)
		time.Sleep(11 * 24 * time.Hour)
		_, _, _, cerr := shake(t, edge.ServerConfig(certs.RoleCore), core.ClientConfig(certs.RoleEdge, "edge1"))
		if certs.Reason(cerr) != "expired" {
			t.Errorf("expired edge: %v", cerr)
		}
	})
}

// A resumed handshake shows no certificate chain to package tls's own check;
// role, signature and dates must be looked at there too.
func TestTU21_RoleIsCheckedOnResumptionToo(t *testing.T) {
	dir := newCA(t)
	edge, other := issue(t, dir, certs.RoleEdge, "edge1", 397), issue(t, dir, certs.RoleEdge, "edge2", 397)
	lax := edge.ServerConfig(certs.RoleCore)
	lax.GetConfigForClient = nil
	lax.SessionTicketsDisabled = false
	lax.SetSessionTicketKeys([][32]byte{{1}})
	strict := lax.Clone()
	lax.VerifyConnection = nil // lets the first handshake through, to get a ticket

	client := other.ClientConfig(certs.RoleEdge, "edge1")
	client.SessionTicketsDisabled = false
	client.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	if _, c, serr, cerr := shake(t, lax, client); serr != nil || cerr != nil || c.ConnectionState().DidResume {
		t.Fatalf("no ticket to be had: %v %v", serr, cerr)
	}
	s, _, serr, _ := shake(t, strict, client)
	if !s.ConnectionState().DidResume {
		t.Error("the second handshake was no resumption, the test proves nothing")
	}
	if certs.Reason(serr) != "wrong_role" {
		t.Errorf("resumed with the wrong role: %v", serr)
	}
	if s, _, _, _ = shake(t, edge.ServerConfig(certs.RoleCore), client); s.ConnectionState().DidResume {
		t.Error("the tunnel's own config resumes, though tickets are off")
	}
}

func TestLoadBundleNamesFileAndCulprit(t *testing.T) {
	dir := newCA(t)
	path, err := ca.Issue(dir, certs.RoleEdge, "edge1", 397)
	if err != nil {
		t.Fatal(err)
	}
	whole, _ := os.ReadFile(path)
	caPEM, _ := os.ReadFile(filepath.Join(dir, ca.CertFile))
	blocks := strings.SplitAfter(string(whole), "-----END CERTIFICATE-----\n")
	leaf := blocks[0]
	key, _, _ := strings.Cut(blocks[1], "-----BEGIN CERTIFICATE")
	foreign := newCA(t)
	foreignPEM, _ := os.ReadFile(filepath.Join(foreign, ca.CertFile))
	otherPath, _ := ca.Issue(foreign, certs.RoleEdge, "edge1", 397)
	other, _ := os.ReadFile(otherPath)
	otherLeaf := strings.SplitAfter(string(other), "-----END CERTIFICATE-----\n")[0]
	for what, test := range map[string]struct{ content, want string }{
		"no key":          {leaf + string(caPEM), "has no private key"},
		"no certificate":  {key + string(caPEM), "has no certificate"},
		"no CA":           {leaf + key, "has no CA certificate"},
		"empty":           {"", "has no certificate"},
		"another CA":      {leaf + key + string(foreignPEM), "not good under the CA beside it"},
		"another key":     {otherLeaf + key + string(foreignPEM), "do not belong together"},
		"two leaves":      {leaf + otherLeaf + key + string(caPEM), "two certificates that are no CA"},
		"two keys":        {leaf + key + key + string(caPEM), "two private keys"},
		"cut off":         {string(whole[:len(whole)-40]), "not PEM throughout"},
		"too large":       {strings.Repeat("x", 1<<20+1), "larger than"},
		"foreign block":   {"-----BEGIN X-----\nAAAA\n-----END X-----\n" + string(whole), `PEM block "X"`},
		"no certificates": {"hello", "not PEM throughout"},
	} {
		file := filepath.Join(t.TempDir(), "edge1.pem")
		if err := os.WriteFile(file, []byte(test.content), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := certs.LoadBundle(file)
		if err == nil || !strings.HasPrefix(err.Error(), file+": ") || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error %v, want one that begins with the file and says %q", what, err, test.want)
		}
	}
	_, err = certs.LoadBundle(filepath.Join(dir, "absent.pem"))
	if err == nil || !strings.Contains(err.Error(), "absent.pem") || !strings.Contains(err.Error(), "sallyport certs issue") {
		t.Errorf("missing file: %v", err)
	}
}
