package xmpp

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"text/template"
	"time"

	"sallyport/test/process"
)

// ServerConfig is what a test wants of its server.
type ServerConfig struct {
	// Domain is the one it serves; empty means "example.com".
	Domain string
	// Users are its accounts: names and passwords.
	Users map[string]string
	// Friends are pairs of users who see each other's presence.
	Friends [][2]string
	// Hibernate is how long a lost session may be resumed; 0 means ten minutes.
	Hibernate time.Duration
	// MAM makes it keep an archive of all messages.
	MAM bool
	// ChannelBinding makes it offer SASL mechanisms that bind to TLS (-PLUS),
	// which it otherwise does not. Prosody then speaks TLS 1.2 alone, where it
	// has a binding.
	ChannelBinding bool
	// Ping makes it ask silent clients whether they live and close those that
	// do not answer (ejabberd only); 0 asks none.
	Ping time.Duration
}

// Server is a running XMPP server.
type Server struct {
	*process.Process
	// Kind is "prosody" or "ejabberd".
	Kind   string
	Domain string
	// Rooms is the domain of its chat rooms (XEP-0045).
	Rooms string
	// Plain is HOST:PORT of a listener that offers STARTTLS and PLAIN without
	// it, TLS that of one with direct TLS.
	Plain, TLS string
	// WS and WSS are URLs for RFC 7395.
	WS, WSS string
	// CAFile is what signed its certificate, which is for Domain, localhost and
	// 127.0.0.1; Roots is its content.
	CAFile string
	Roots  *x509.CertPool

	cfg   ServerConfig
	dir   string
	spec  process.Spec
	ready func() error
}

// Kinds are the servers, by name.
var Kinds = map[string]func(testing.TB, ServerConfig) *Server{
	"prosody":  StartProsody,
	"ejabberd": StartEjabberd,
}

// newServer finds ports and makes directory and certificate.
func newServer(t testing.TB, kind, path string, cfg ServerConfig) *Server {
	t.Helper()
	if cfg.Domain == "" {
		cfg.Domain = "example.com"
	}
	if cfg.Hibernate == 0 {
		cfg.Hibernate = 10 * time.Minute
	}
	addr := func() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(process.FreePort(t))) }
	s := &Server{
		Kind: kind, Domain: cfg.Domain, Rooms: "rooms." + cfg.Domain, cfg: cfg, dir: process.TempDir(t),
		Plain: addr(), TLS: addr(), WS: "ws://" + addr() + path, WSS: "wss://" + addr() + path,
	}
	s.certify(t)
	return s
}

// Start runs the server, again if it was ended, with what it had stored.
func (s *Server) Start(t testing.TB) {
	t.Helper()
	s.Process = process.Launch(t, s.spec)
	s.Until(t, s.ready)
}

// JID is the bare JID of a user.
func (s *Server) JID(user string) string { return user + "@" + s.Domain }

// file is a path in the server's directory.
func (s *Server) file(name string) string { return filepath.Join(s.dir, name) }

// write fills a template of the server's configuration.
func (s *Server) write(t testing.TB, name, text string) string {
	t.Helper()
	var out strings.Builder
	err := template.Must(template.New(name).Funcs(template.FuncMap{"port": portOf}).Parse(text)).Execute(&out, struct {
		*Server
		With ServerConfig
		Dir  string
	}{s, s.cfg, s.dir})
	if err != nil {
		t.Fatal(err)
	}
	path := s.file(name)
	process.WriteFile(t, path, out.String())
	return path
}

// portOf is the port in a HOST:PORT or a URL.
func portOf(addr string) string {
	_, addr, _ = strings.Cut("//"+strings.TrimPrefix(strings.TrimPrefix(addr, "ws://"), "wss://"), "//")
	addr, _, _ = strings.Cut(addr, "/")
	_, port, _ := net.SplitHostPort(addr)
	return port
}

// certify makes a certificate that signs itself.
func (s *Server) certify(t testing.TB) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: s.Domain},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		DNSNames: []string{s.Domain, s.Rooms, "localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	cert, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	s.CAFile = s.file("cert.pem")
	process.WriteFile(t, s.CAFile, string(certPEM))
	process.WriteFile(t, s.file("key.pem"), string(keyPEM))
	process.WriteFile(t, s.file("both.pem"), string(certPEM)+string(keyPEM))
	s.Roots = x509.NewCertPool()
	s.Roots.AppendCertsFromPEM(certPEM)
}

// listens tells whether something accepts connections.
func listens(addr string) error {
	c, err := net.DialTimeout("tcp", addr, time.Second)
	if err == nil {
		err = c.Close()
	}
	return err
}

// post calls a command of a server's HTTP interface.
func post(url, body string) error {
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Post(url, "application/json", strings.NewReader(body))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, resp.Status)
	}
	return nil
}
