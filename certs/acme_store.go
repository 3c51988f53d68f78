package certs

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/acme/autocert"
)

// store keeps an account's key and certificates, in autocert's format: a file
// for each, with the private key first. Each authority has a directory of its
// own, so that a certificate of one for trials is not taken for a real one.
type store struct{ dir string }

// storeAt is where an authority's store is below dir.
func storeAt(dir, directory string) store {
	host := directory
	if u, err := url.Parse(directory); err == nil && u.Host != "" {
		host = u.Host
	}
	return store{filepath.Join(dir, strings.ReplaceAll(host, ":", "_"))}
}

// openStore makes the directory and checks that nobody else can read it.
func openStore(dir, directory string) (store, error) {
	s := storeAt(dir, directory)
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return s, fmt.Errorf("%w: make it, and give it to the user that the edge runs as", err)
	}
	if err := s.private(dir); err != nil {
		return s, err
	}
	trial, err := os.CreateTemp(s.dir, "trial")
	if err != nil {
		return s, fmt.Errorf("%w: give the directory to the user that the edge runs as", err)
	}
	_ = trial.Close()
	return s, os.Remove(trial.Name())
}

// private checks that nobody but the owner may use the store below dir.
func (s store) private(dir string) error {
	for _, path := range []string{dir, s.dir} {
		if err := secret(path, "chmod 700"); err != nil {
			return err
		}
	}
	files, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	for _, f := range files {
		if err := secret(filepath.Join(s.dir, f.Name()), "chmod 600"); err != nil {
			return err
		}
	}
	return nil
}

// StoredCertificate checks the store of [NewACME] as it would, but makes
// nothing, and returns the certificate in it; nil when there is none.
func StoredCertificate(cfg ACMEConfig) (*tls.Certificate, error) {
	s := storeAt(cfg.Dir, cmp.Or(cfg.Directory, autocert.DefaultACMEDirectory))
	err := s.private(cfg.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return s.certificate(canonical(cfg.Name))
}

// secret checks that only its owner may use a path.
func secret(path, remedy string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if perm := info.Mode().Perm(); perm&0o077 != 0 {
		return fmt.Errorf("%s: is open to others than its owner (%#o), and holds private keys: %s %s", path, perm, remedy, path)
	}
	return nil
}

// certificate reads what is stored for a name, whether it has ended or not;
// nil when there is none.
func (s store) certificate(name string) (*tls.Certificate, error) {
	path := filepath.Join(s.dir, name)
	data, err := readFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // none is no error
	}
	if err != nil {
		return nil, err
	}
	cert, err := tls.X509KeyPair(data, data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if err := cert.Leaf.VerifyHostname(name); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &cert, nil
}

// fleeting reports whether a key of autocert's is a challenge's. Those are
// kept in memory alone.
func fleeting(key string) bool {
	return strings.HasSuffix(key, "+token") || strings.HasSuffix(key, "+http-01")
}

// Get is autocert.Cache's. During the attempt the certificate is hidden, for
// otherwise no new one would be asked for.
func (at *attempt) Get(ctx context.Context, key string) ([]byte, error) {
	at.mu.Lock()
	over := at.over
	at.mu.Unlock()
	if fleeting(key) || key == at.name && !over {
		return nil, autocert.ErrCacheMiss
	}
	return autocert.DirCache(at.store.dir).Get(ctx, key)
}

// Put is autocert.Cache's.
func (at *attempt) Put(ctx context.Context, key string, data []byte) error {
	if fleeting(key) {
		return nil
	}
	err := autocert.DirCache(at.store.dir).Put(ctx, key, data)
	if err != nil {
		at.mu.Lock()
		at.unkept = fmt.Errorf("%s: %w", at.store.dir, err)
		at.mu.Unlock()
	}
	return err
}

// Delete is autocert.Cache's; only what is fleeting is ever deleted.
func (at *attempt) Delete(context.Context, string) error { return nil }

// token asks the Manager for the answer to an HTTP-01 challenge.
func (at *attempt) token(path string) ([]byte, bool) {
	req, err := http.NewRequestWithContext(at.ctx, http.MethodGet, "http://"+at.name+"/", nil)
	if err != nil {
		return nil, false
	}
	req.URL.Path = path
	var w page
	at.tokens.ServeHTTP(&w, req)
	return w.body, w.status == http.StatusOK || w.status == 0 && len(w.body) > 0
}

// page is an answer in memory.
type page struct {
	head   http.Header
	status int
	body   []byte
}

func (p *page) Header() http.Header {
	if p.head == nil {
		p.head = make(http.Header)
	}
	return p.head
}
func (p *page) WriteHeader(status int)      { p.status = status }
func (p *page) Write(b []byte) (int, error) { p.body = append(p.body, b...); return len(b), nil }
