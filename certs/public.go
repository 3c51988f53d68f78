package certs

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Pair is one public certificate in files, as the config names it.
type Pair struct {
	Cert  string   // file with the chain in PEM, leaf first
	Key   string   // file with the private key in PEM
	Names []string // server names it answers to; empty: those in the certificate
}

// Public chooses among the certificates that clients see: those in files, and
// one that is fetched. It may be used by several goroutines.
type Public struct {
	// Static after NewPublic.
	fetched *ACME // nil: none

	// Replaced whole by reload.
	table atomic.Pointer[publicTable]

	// Guarded by mu, which also lets one reload run at a time.
	mu    sync.Mutex
	pairs []publicPair
}

// publicPair is a pair, the version of it last read, and the last good one.
type publicPair struct {
	Pair
	certSeen, keySeen stamp
	cert              *tls.Certificate
}

// publicTable finds certificates by name. It never changes.
type publicTable struct {
	byName map[string][]*tls.Certificate
	first  *tls.Certificate
}

// LoadPublic reads and checks the pairs; the first serves clients that name
// no server or one that is unknown. Its error holds every fault, each with
// the name of the file. An expired certificate is no error: it is warned of.
func LoadPublic(pairs []Pair) (*Public, error) { return NewPublic(pairs, nil) }

// NewPublic is LoadPublic with a certificate that is fetched, which then takes
// the place of the first. Its Run is the caller's to call.
func NewPublic(pairs []Pair, fetched *ACME) (*Public, error) {
	if len(pairs) == 0 && fetched == nil {
		return nil, errors.New("no public certificate is named")
	}
	p := &Public{fetched: fetched}
	var faults []error
	for _, pair := range pairs {
		pp := publicPair{Pair: pair}
		faults = append(faults, pp.read())
		p.pairs = append(p.pairs, pp)
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	p.table.Store(tableOf(p.pairs))
	return p, nil
}

// GetCertificate is for [tls.Config.GetCertificate]: it picks by server name,
// exact before wildcard, and among several for one name (say ECDSA and RSA)
// the first that the client can use. A fetched certificate that has ended
// gives way to a file for the same name, if there is one, and is served
// otherwise, so that clients say what is wrong. It errors with
// [ErrNoCertificate] while there is none to choose.
func (p *Public) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	t, name := p.table.Load(), canonical(hello.ServerName)
	candidates := t.find(name)
	if fetched := p.fetchedFor(name, len(candidates) > 0); fetched != nil {
		return fetched, nil
	}
	for _, c := range candidates {
		if hello.SupportsCertificate(c) == nil {
			return c, nil
		}
	}
	switch {
	case len(candidates) > 0:
		return candidates[0], nil
	case t.first != nil:
		return t.first, nil
	}
	return nil, ErrNoCertificate
}

// fetchedFor is the fetched certificate where it is to serve name, else nil.
// others tells whether there is a file for that name.
func (p *Public) fetchedFor(name string, others bool) *tls.Certificate {
	if p.fetched == nil {
		return nil
	}
	c := p.fetched.Certificate()
	if c == nil || others && (name != p.fetched.Name() || time.Now().After(c.Leaf.NotAfter)) {
		return nil
	}
	return c
}

// Challenge is [ACME.Challenge]; without a certificate to fetch there is none.
func (p *Public) Challenge(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if p.fetched == nil {
		return nil, errors.New("nothing is fetched by ACME")
	}
	return p.fetched.Challenge(hello)
}

func (t *publicTable) find(name string) []*tls.Certificate {
	if found := t.byName[name]; found != nil {
		return found
	}
	if _, parent, ok := strings.Cut(name, "."); ok {
		return t.byName["*."+parent]
	}
	return nil
}

// NotAfter returns when the first of the certificates in files ends; zero
// without files.
func (p *Public) NotAfter() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	var end time.Time
	for _, pp := range p.pairs {
		if na := pp.cert.Leaf.NotAfter; end.IsZero() || na.Before(end) {
			end = na
		}
	}
	return end
}

// End is when one certificate ends.
type End struct {
	Name     string // the first it names
	Source   string // "acme" or "file"
	NotAfter time.Time
}

// Ends tells of each certificate, that of ACME only once there is one.
func (p *Public) Ends() []End {
	var ends []End
	if p.fetched != nil {
		if c := p.fetched.Certificate(); c != nil {
			ends = append(ends, End{p.fetched.Name(), "acme", c.Leaf.NotAfter})
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, pp := range p.pairs {
		ends = append(ends, End{pp.name(), "file", pp.cert.Leaf.NotAfter})
	}
	return ends
}

// name is the first that a certificate is for.
func (pp *publicPair) name() string {
	switch leaf := pp.cert.Leaf; {
	case len(leaf.DNSNames) > 0:
		return leaf.DNSNames[0]
	case len(leaf.IPAddresses) > 0:
		return leaf.IPAddresses[0].String()
	default:
		return leaf.Subject.CommonName
	}
}

// Reload reads all files again. Handshakes from now on use what they hold. A
// pair that is broken keeps its old certificate; the error names each.
func (p *Public) Reload() error {
	_, err := p.reload(true)
	return err
}

// Watch reloads the pairs whose files change, until ctx ends; then it returns
// nil. A broken new file is logged and the old certificate kept. From 14 days
// before a certificate's end it warns once a day.
func (p *Public) Watch(ctx context.Context, log *slog.Logger) error {
	log = orDiscard(log)
	return watch(ctx, func() bool {
		changed, err := p.reload(false)
		switch {
		case !changed:
		case err != nil:
			log.Error("public certificate not reloaded, the old one stays", "err", err)
		default:
			log.Info("public certificate reloaded", "not_after", p.NotAfter())
		}
		return changed
	}, func() {
		now := time.Now()
		for _, text := range p.fileWarnings(now) {
			log.Warn("certificate ends soon", "reason", text, "remedy", "renew it in place, it is reloaded when the file changes")
		}
		if p.fetched != nil && p.fetched.Certificate() != nil {
			if text := p.fetched.notice(now); text != "" {
				log.Warn("certificate ends soon", "reason", text, "remedy", cmp.Or(p.fetched.Status().Remedy, "none yet, it is being renewed"))
			}
		}
	})
}

// Warnings returns a sentence for each certificate that has ended or ends
// within 14 days of now (3/10 of its life for one that lives for less than 47
// days), and for one that is being fetched and not there yet.
func (p *Public) Warnings(now time.Time) []string {
	texts := p.fileWarnings(now)
	if p.fetched != nil {
		if text := p.fetched.notice(now); text != "" {
			texts = append([]string{text}, texts...)
		}
	}
	return texts
}

func (p *Public) fileWarnings(now time.Time) (texts []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, pp := range p.pairs {
		leaf := pp.cert.Leaf
		if text := endWarning("in "+pp.Cert, leaf.NotAfter, now, warnPublic(leaf)); text != "" {
			texts = append(texts, text)
		}
	}
	return texts
}

func (p *Public) reload(all bool) (changed bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var faults []error
	for i := range p.pairs {
		if pp := &p.pairs[i]; all || pp.stale() {
			changed = true
			faults = append(faults, pp.read())
		}
	}
	if changed {
		p.table.Store(tableOf(p.pairs))
	}
	return changed, errors.Join(faults...)
}

func (pp *publicPair) stale() bool {
	return !pp.certSeen.same(stampOf(pp.Cert)) || !pp.keySeen.same(stampOf(pp.Key))
}

// read loads the pair's files; on error the last good certificate stays.
func (pp *publicPair) read() error {
	pp.certSeen, pp.keySeen = stampOf(pp.Cert), stampOf(pp.Key)
	chain, err := readFile(pp.Cert)
	if err != nil {
		return err
	}
	key, err := readFile(pp.Key)
	if err != nil {
		return err
	}
	cert, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return fmt.Errorf("%s with key %s: %w", pp.Cert, pp.Key, err)
	}
	if now := time.Now(); pp.cert != nil && now.After(cert.Leaf.NotAfter) && now.Before(pp.cert.Leaf.NotAfter) {
		return fmt.Errorf("%s: the new certificate ended on %s, the one in use has not", pp.Cert, cert.Leaf.NotAfter.Format(time.DateOnly))
	}
	pp.cert = &cert
	return nil
}

func tableOf(pairs []publicPair) *publicTable {
	t := &publicTable{byName: make(map[string][]*tls.Certificate)}
	if len(pairs) > 0 {
		t.first = pairs[0].cert
	}
	for _, pp := range pairs {
		names := pp.Names
		if len(names) == 0 {
			names = pp.cert.Leaf.DNSNames
		}
		for _, name := range names {
			name = canonical(name)
			t.byName[name] = append(t.byName[name], pp.cert)
		}
	}
	return t
}
