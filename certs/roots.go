package certs

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
)

// Roots are the CAs of a file in PEM that take the place of the system's roots,
// read again when the file changes. They may be used by several goroutines.
type Roots struct {
	path string
	pool atomic.Pointer[x509.CertPool]

	mu   sync.Mutex
	seen stamp // guarded by mu
}

// LoadRoots reads the file, which must hold one certificate at least.
func LoadRoots(path string) (*Roots, error) {
	r := &Roots{path: path}
	return r, r.Reload()
}

// Pool is what the file held when it was last good. It must not be changed.
func (r *Roots) Pool() *x509.CertPool { return r.pool.Load() }

// Reload reads the file again. On an error the old roots stay.
func (r *Roots) Reload() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.reload()
}

// reload is Reload under mu.
func (r *Roots) reload() error {
	r.seen = stampOf(r.path)
	text, err := readFile(r.path)
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return fmt.Errorf("%s: holds no certificate in PEM", r.path)
	}
	r.pool.Store(pool)
	return nil
}

// Watch reads the file again whenever it changes, until ctx ends; then it
// returns nil. A broken new file is logged and the old roots kept.
func (r *Roots) Watch(ctx context.Context, log *slog.Logger) error {
	log = orDiscard(log)
	return watch(ctx, func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		if stampOf(r.path).same(r.seen) {
			return false
		}
		if err := r.reload(); err != nil {
			log.Error("CAs not reloaded, the old ones stay", "err", err)
		} else {
			log.Info("CAs reloaded", "file", r.path)
		}
		return true
	}, func() {})
}
