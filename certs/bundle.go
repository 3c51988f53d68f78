package certs

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// maxFile bounds what is read of a certificate or key file, in bytes. A
// bundle has about 3 KiB, a public chain with RSA keys less than 20.
const maxFile = 1 << 20

// A Bundle is this process's identity in the tunnel: a certificate, its key
// and the CA that both sides pin. It may be used by several goroutines.
type Bundle struct {
	// Static after LoadBundle.
	path string

	// Replaced whole by Reload.
	current atomic.Pointer[material]

	// Guarded by mu, which also lets one reload run at a time.
	mu   sync.Mutex
	seen stamp
}

// material is what one version of a bundle's file holds. It never changes.
type material struct {
	cert  tls.Certificate
	roots *x509.CertPool
	role  Role
	name  string
}

// LoadBundle reads and checks a bundle: certificate, private key and CA in
// one PEM file, in any order. The error names the file, what is missing or
// wrong in it, and how to make a good one. An expired certificate is an error.
func LoadBundle(path string) (*Bundle, error) {
	b := &Bundle{path: path, seen: stampOf(path)}
	m, err := readBundle(path, time.Now())
	if err != nil {
		return nil, err
	}
	b.current.Store(m)
	return b, nil
}

// Path returns the file this bundle was loaded from.
func (b *Bundle) Path() string { return b.path }

// Name returns the DNS name or IP address the bundle was issued for.
func (b *Bundle) Name() string { return b.current.Load().name }

// Role returns which end of the tunnel the bundle speaks for.
func (b *Bundle) Role() Role { return b.current.Load().role }

// NotAfter returns when the bundle's certificate ends.
func (b *Bundle) NotAfter() time.Time { return b.current.Load().cert.Leaf.NotAfter }

// Reload reads the file again. Handshakes from now on use what it holds;
// connections live on. When the file is broken, or is somebody else's bundle,
// Reload errors and the old one stays.
func (b *Bundle) Reload() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.seen = stampOf(b.path)
	next, err := readBundle(b.path, time.Now())
	if err != nil {
		return err
	}
	if now := b.current.Load(); next.role != now.role || next.name != now.name {
		return fmt.Errorf("%s: is the bundle of %s %s, but this process is %s %s: restart it to change its name",
			b.path, next.role, next.name, now.role, now.name)
	}
	b.current.Store(next)
	return nil
}

// reloadIfChanged reloads when the file is another than the one last read.
func (b *Bundle) reloadIfChanged() (changed bool, err error) {
	b.mu.Lock()
	same := b.seen.same(stampOf(b.path))
	b.mu.Unlock()
	if same {
		return false, nil
	}
	return true, b.Reload()
}

// readBundle reads one version of a bundle and checks it as of now.
func readBundle(path string, now time.Time) (*material, error) {
	data, err := readFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: no such file: make it with `sallyport certs issue` and copy it here", path)
	}
	if err != nil {
		return nil, err
	}
	m, err := parseBundle(data, now)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return m, nil
}

func parseBundle(data []byte, now time.Time) (*material, error) {
	leaf, cas, key, err := splitBundle(data)
	if err != nil {
		return nil, err
	}
	cert, err := tls.X509KeyPair(pemCert(leaf), key)
	if err != nil {
		return nil, fmt.Errorf("certificate and private key do not belong together: %w", err)
	}
	cert.Leaf = leaf
	role, name, err := identity(leaf)
	if err != nil {
		return nil, err
	}
	if now.After(leaf.NotAfter) {
		return nil, fmt.Errorf("the certificate ended on %s: issue a new one with `sallyport certs issue --%s %s`",
			leaf.NotAfter.Format(time.DateOnly), role, name)
	}
	roots := x509.NewCertPool()
	for _, c := range cas {
		roots.AddCert(c)
	}
	if err := verifyChain(leaf, roots, now); err != nil {
		return nil, fmt.Errorf("the certificate is not good under the CA beside it: %w", err)
	}
	return &material{cert: cert, roots: roots, role: role, name: name}, nil
}

// splitBundle takes a bundle apart: exactly one certificate that is no CA,
// at least one CA (two while the CA itself is being replaced), one key.
func splitBundle(data []byte) (leaf *x509.Certificate, cas []*x509.Certificate, key []byte, err error) {
	for {
		var block *pem.Block
		block, data = pem.Decode(data)
		if block == nil {
			break
		}
		switch block.Type {
		case "CERTIFICATE":
			c, err := x509.ParseCertificate(block.Bytes)
			switch {
			case err != nil:
				return nil, nil, nil, fmt.Errorf("a certificate does not parse: %w", err)
			case c.IsCA:
				cas = append(cas, c)
			case leaf != nil:
				return nil, nil, nil, errors.New("holds two certificates that are no CA; a bundle has one")
			default:
				leaf = c
			}
		case "PRIVATE KEY", "EC PRIVATE KEY":
			if key != nil {
				return nil, nil, nil, errors.New("holds two private keys; a bundle has one")
			}
			key = pem.EncodeToMemory(block)
		default:
			return nil, nil, nil, fmt.Errorf("holds a PEM block %q; a bundle has CERTIFICATE and PRIVATE KEY", block.Type)
		}
	}
	if rest := bytes.TrimSpace(data); len(rest) > 0 {
		return nil, nil, nil, errors.New("is not PEM throughout: text or a cut-off block at its end")
	}
	switch {
	case leaf == nil:
		return nil, nil, nil, errors.New("has no certificate (only a CA or none): a bundle holds certificate, private key and CA")
	case key == nil:
		return nil, nil, nil, errors.New("has no private key: a bundle holds certificate, private key and CA")
	case len(cas) == 0:
		return nil, nil, nil, errors.New("has no CA certificate: a bundle holds certificate, private key and CA")
	}
	return leaf, cas, key, checkKeyKind(leaf)
}

// checkKeyKind refuses keys too weak for TLS 1.3 peers.
func checkKeyKind(c *x509.Certificate) error {
	switch k := c.PublicKey.(type) {
	case *ecdsa.PublicKey, ed25519.PublicKey:
		return nil
	case *rsa.PublicKey:
		if k.N.BitLen() >= 2048 {
			return nil
		}
	}
	return fmt.Errorf("the key (%s) is too weak or of an unknown kind: use ECDSA P-256", c.PublicKeyAlgorithm)
}

func verifyChain(leaf *x509.Certificate, roots *x509.CertPool, now time.Time) error {
	_, err := leaf.Verify(x509.VerifyOptions{
		Roots:       roots,
		CurrentTime: now,
		KeyUsages:   []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	return err
}

func pemCert(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}

// readFile reads a file whole, up to maxFile. Its errors name the file.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("%s: larger than %d bytes, which no certificate file is", path, maxFile)
	}
	return data, nil
}
