// Package ca is the private certificate authority of the tunnel: it makes the
// CA and issues and renews the bundles of edges and cores. It works on files,
// offline; it does not know the tunnel, and no service links it. The CA's key
// never leaves the directory it was made in.
package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// File names inside a CA's directory.
const (
	CertFile = "ca.crt" // the CA's certificate, also part of each bundle
	KeyFile  = "ca.key" // the CA's private key: keep it offline
)

const (
	// caYears is how long a CA is good for. It is pinned, never looked up, so
	// only its replacement costs work.
	caYears = 10
	// backdate lets a bundle be used at once by hosts whose clocks lag.
	backdate = time.Hour
	day      = 24 * time.Hour
)

// ErrExists is returned by [Init] for a directory that holds a CA already.
var ErrExists = errors.New("there is a CA already; it is not overwritten, since every bundle it issued would be worthless")

// Init makes a CA in dir, creating the directory (0700) where needed. Both
// files are written 0600. It never replaces an existing CA.
func Init(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for _, name := range []string{CertFile, KeyFile} {
		path := filepath.Join(dir, name)
		if _, err := os.Lstat(path); err == nil {
			return fmt.Errorf("%s: %w", path, ErrExists)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	serial, err := newSerial()
	if err != nil {
		return err
	}
	now := time.Now()
	tmpl := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: "Sallyport tunnel CA " + hex.EncodeToString(serial.Bytes()[:4])},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.AddDate(caYears, 0, 0),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		return err
	}
	keyPEM, err := encodeKey(key)
	if err != nil {
		return err
	}
	if err := writeNew(filepath.Join(dir, KeyFile), keyPEM); err != nil {
		return err
	}
	return writeNew(filepath.Join(dir, CertFile), encodeCert(der))
}

// Issue signs a new key for an edge or a core and writes its bundle, one PEM
// file with certificate, private key and CA (0600), to dir/NAME.pem; it
// returns that path. The role is "edge" or "core", the name a DNS name or an
// IP address, days at least 1 and within the CA's own life. Issuing again for
// the same role and name renews; a file that holds the other role is not
// replaced.
func Issue[R ~string](dir string, role R, name string, days int) (path string, err error) {
	if role != "edge" && role != "core" {
		return "", fmt.Errorf("role %q: must be edge or core", string(role))
	}
	name, err = checkName(name)
	if err != nil {
		return "", err
	}
	caCert, caKey, err := load(dir)
	if err != nil {
		return "", err
	}
	path = filepath.Join(dir, name+".pem")
	uri := &url.URL{Scheme: "spiffe", Host: "sallyport", Path: "/" + string(role) + "/" + name}
	if err := checkReplace(path, uri); err != nil {
		return "", err
	}
	bundle, err := sign(caCert, caKey, uri, name, days)
	if err != nil {
		return "", err
	}
	return path, replace(path, bundle)
}

// sign makes a key and its certificate, and returns the bundle of both.
func sign(caCert *x509.Certificate, caKey crypto.Signer, uri *url.URL, name string, days int) ([]byte, error) {
	now := time.Now()
	if days < 1 {
		return nil, fmt.Errorf("days: must be at least 1 (got %d)", days)
	}
	if most := int(caCert.NotAfter.Sub(now) / day); days > most {
		return nil, fmt.Errorf("days: the CA itself ends on %s, so at most %d (got %d)", caCert.NotAfter.Format(time.DateOnly), most, days)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	tmpl := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: name[:min(len(name), 64)]}, // RFC 5280 ub-common-name
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(time.Duration(days) * day),
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		URIs:                  []*url.URL{uri},
	}
	if ip := net.ParseIP(name); ip != nil {
		tmpl.IPAddresses = []net.IP{ip}
	} else {
		tmpl.DNSNames = []string{name}
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, caCert, key.Public(), caKey)
	if err != nil {
		return nil, err
	}
	keyPEM, err := encodeKey(key)
	if err != nil {
		return nil, err
	}
	return append(append(encodeCert(der), keyPEM...), encodeCert(caCert.Raw)...), nil
}

// load reads the CA in dir and checks that it can sign today.
func load(dir string) (*x509.Certificate, crypto.Signer, error) {
	certPath, keyPath := filepath.Join(dir, CertFile), filepath.Join(dir, KeyFile)
	certPEM, err := os.ReadFile(certPath)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("%s: there is no CA: make one with `sallyport certs init --dir %s`", certPath, dir)
	}
	if err != nil {
		return nil, nil, err
	}
	keyPEM, err := os.ReadFile(keyPath)
	if err != nil {
		return nil, nil, err
	}
	cert, err := decodeCert(certPEM)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", certPath, err)
	}
	key, err := decodeKey(keyPEM)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", keyPath, err)
	}
	pub, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	switch {
	case !cert.IsCA:
		return nil, nil, fmt.Errorf("%s: is not a CA's certificate", certPath)
	case !ok || !pub.Equal(cert.PublicKey):
		return nil, nil, fmt.Errorf("%s: is not the key of %s", keyPath, certPath)
	case time.Now().After(cert.NotAfter):
		return nil, nil, fmt.Errorf("%s: the CA ended on %s: make a new one in another directory and issue all bundles again", certPath, cert.NotAfter.Format(time.DateOnly))
	}
	return cert, key, nil
}

// checkReplace refuses to write over anything but an older bundle of the same
// role and name.
func checkReplace(path string, uri *url.URL) error {
	old, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	cert, err := decodeCert(old)
	if err != nil {
		return fmt.Errorf("%s: exists and is no bundle; it is not overwritten", path)
	}
	for _, u := range cert.URIs {
		if u.String() == uri.String() {
			return nil
		}
	}
	return fmt.Errorf("%s: exists and is not the bundle of %s; choose another name", path, uri)
}

func newSerial() (*big.Int, error) {
	// RFC 5280 §4.1.2.2: positive, at most 20 octets. The top bit set keeps
	// all of the same length.
	b := make([]byte, 16)
	if _, err := rand.Read(b); err != nil {
		return nil, err
	}
	b[0] = b[0]&0x7f | 0x40
	return new(big.Int).SetBytes(b), nil
}

func encodeCert(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func encodeKey(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func decodeCert(data []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("does not begin with a certificate in PEM")
	}
	return x509.ParseCertificate(block.Bytes)
}

func decodeKey(data []byte) (crypto.Signer, error) {
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, errors.New("does not begin with a private key in PEM")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, errors.New("its key cannot sign")
	}
	return signer, nil
}

// checkName returns a name as certificates and file names hold it.
func checkName(name string) (string, error) {
	if a, err := netip.ParseAddr(name); err == nil {
		if a.Zone() != "" {
			return "", fmt.Errorf("name %q: an address with a zone cannot be certified", name)
		}
		return a.Unmap().String(), nil
	}
	if err := checkDNSName(name); err != nil {
		return "", fmt.Errorf("name %q: %w", name, err)
	}
	return strings.ToLower(name), nil
}
