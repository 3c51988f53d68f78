package pushtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// pki is a CA with one server certificate below it.
type pki struct {
	ca     []byte // PEM
	caCert *x509.Certificate
	caKey  *ecdsa.PrivateKey
	names  []string // of the server

	mu   sync.Mutex
	cert *tls.Certificate // guarded by mu
}

// The certificates are valid for a day before they are made, as clocks
// differ, and for about three months.
const (
	backdate = 24 * time.Hour
	validity = 90 * 24 * time.Hour
)

// newPKI makes a CA and a server certificate for this machine and for names.
func newPKI(names ...string) (*pki, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("simulator: make CA key: %w", err)
	}
	now := time.Now()
	tmpl := &x509.Certificate{
		SerialNumber:          big.NewInt(now.UnixNano()),
		Subject:               pkix.Name{CommonName: "Sallyport simulator CA"},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(validity),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		return nil, fmt.Errorf("simulator: make CA: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("simulator: make CA: %w", err)
	}
	p := &pki{
		ca:     pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		caCert: cert, caKey: key, names: append([]string{"localhost"}, names...),
	}
	return p, p.issue()
}

// issue makes the server's certificate, for this machine and for the
// provider's names, so that a client may also be sent here by DNS.
func (p *pki) issue() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("simulator: make key: %w", err)
	}
	now := time.Now()
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano() + 1),
		Subject:      pkix.Name{CommonName: "push simulator"},
		NotBefore:    now.Add(-backdate),
		NotAfter:     now.Add(validity),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:     p.names,
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, p.caCert, &key.PublicKey, p.caKey)
	if err != nil {
		return fmt.Errorf("simulator: make certificate: %w", err)
	}
	p.mu.Lock()
	p.cert = &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	p.mu.Unlock()
	return nil
}

func (p *pki) certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cert, nil
}

// RotateCertificate gives new connections another certificate of the same CA.
func (s *APNs) RotateCertificate() error { return s.pki.issue() }

// NewToken makes a device token of 32 random bytes in hexadecimal digits.
func NewToken() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// WriteFiles writes ca.pem and a new key, AuthKey_KEYID.p8 with mode 0600,
// into dir, which it creates, and returns the key's path and ids.
func (s *APNs) WriteFiles(dir string) (caFile, keyFile, keyID, teamID string, err error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return "", "", "", "", err
	}
	p8, keyID, teamID, err := s.newKey()
	if err != nil {
		return "", "", "", "", err
	}
	caFile = filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(caFile, s.CA(), 0o600); err != nil {
		return "", "", "", "", err
	}
	keyFile = filepath.Join(dir, "AuthKey_"+keyID+".p8")
	return caFile, keyFile, keyID, teamID, os.WriteFile(keyFile, p8, 0o600)
}
