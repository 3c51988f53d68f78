package certs

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"
)

// ACMEProtocol is the ALPN name under which a certificate authority looks for
// its challenge (TLS-ALPN-01, RFC 8737).
const ACMEProtocol = acme.ALPNProto

// How long to wait after a failed attempt: doubled each time, up to the last.
// Let's Encrypt lets a name fail 5 times at once and then every 12 minutes;
// an authority that is away counts nothing.
const (
	waitUnreached    = 15 * time.Second
	waitUnreachedMax = 10 * time.Minute
	waitRefused      = 10 * time.Minute
	waitRefusedMax   = 2 * time.Hour
	// waitAskedMax bounds what an authority may ask for by Retry-After.
	waitAskedMax = 48 * time.Hour
	// lookEvery is the longest sleep, so that a clock that jumps is noticed.
	lookEvery = time.Hour
	// renewMost is the earliest renewal before a certificate's end; short-lived
	// ones are renewed when a third of their life is left.
	renewMost = 30 * day
)

// ErrNoCertificate is returned to a handshake for which there is no
// certificate yet.
var ErrNoCertificate = errors.New("no certificate yet")

// ACMEConfig says which certificate to fetch, from whom, and where it is kept.
type ACMEConfig struct {
	Name      string // the DNS name to be certified
	Email     string // given to the authority; may be empty
	Directory string // the authority's directory URL (RFC 8555 §7.1.1); empty: Let's Encrypt
	Dir       string // directory for account key and certificates, 0700, made if need be
	// HTTP tells that [ACME.Token] is asked on port 80, so that HTTP-01 (RFC
	// 8555 §8.3) is tried where TLS-ALPN-01 fails.
	HTTP      bool
	UserAgent string       // may be empty
	Client    *http.Client // asks the authority; nil: through HTTPS_PROXY where that is set
	// RetryUnreached and RetryRefused are the first waits after an attempt in
	// which the authority was not reached, or refused. Default 15 s and 10 min.
	RetryUnreached, RetryRefused time.Duration
}

// ACMEStatus is how fetching stands.
type ACMEStatus struct {
	Name     string
	NotAfter time.Time // of the certificate that is served; zero: none yet
	Problem  string    // why the last attempt failed; "" when it did not
	Remedy   string    // what to do about it
	Next     time.Time // when it is tried again; zero: not tried yet
	// Attempts since the start, by outcome.
	Issued, Refused, Unreached uint64
}

// ACME fetches a certificate from an authority and renews it while Run runs.
// Its methods may be called from several goroutines.
type ACME struct {
	// Static after NewACME.
	cfg    ACMEConfig
	store  store
	broken error         // what was wrong with the stored certificate
	retry  chan struct{} // asks Run to try now; holds one
	first  chan struct{} // closed when there is a certificate

	// Replaced whole by Run.
	cert    atomic.Pointer[tls.Certificate]
	attempt atomic.Pointer[attempt] // under way, or nil

	// Guarded by mu.
	mu     sync.Mutex
	status ACMEStatus
}

// NewACME reads what is stored and checks that more can be; it asks nobody. A
// stored certificate that has ended is served until there is a better one.
func NewACME(cfg ACMEConfig) (*ACME, error) {
	cfg.Name = canonical(cfg.Name)
	cfg.Directory = cmp.Or(cfg.Directory, autocert.DefaultACMEDirectory)
	cfg.RetryUnreached = cmp.Or(cfg.RetryUnreached, waitUnreached)
	cfg.RetryRefused = cmp.Or(cfg.RetryRefused, waitRefused)
	if cfg.Client == nil {
		cfg.Client = &http.Client{Timeout: 30 * time.Second}
	}
	s, err := openStore(cfg.Dir, cfg.Directory)
	if err != nil {
		return nil, err
	}
	a := &ACME{cfg: cfg, store: s, retry: make(chan struct{}, 1), first: make(chan struct{})}
	a.status.Name = cfg.Name
	cert, err := s.certificate(cfg.Name)
	if err != nil {
		a.broken = err
	}
	if cert != nil {
		a.serve(cert)
	}
	return a, nil
}

// Name returns the DNS name that is certified.
func (a *ACME) Name() string { return a.cfg.Name }

// Certificate returns what is served now; nil before the first is fetched.
func (a *ACME) Certificate() *tls.Certificate { return a.cert.Load() }

// Available is closed as soon as there is a certificate.
func (a *ACME) Available() <-chan struct{} { return a.first }

// Status tells how fetching stands.
func (a *ACME) Status() ACMEStatus {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.status
}

// Retry has Run try at once what failed before, unless the authority asked to
// wait. It does nothing while all is well.
func (a *ACME) Retry() {
	select {
	case a.retry <- struct{}{}:
	default:
	}
}

// Challenge is for [tls.Config.GetCertificate] of handshakes that offer
// [ACMEProtocol] and nothing else: it returns the certificate that answers the
// challenge under way, and never one for clients.
func (a *ACME) Challenge(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	at := a.attempt.Load()
	if at == nil || len(hello.SupportedProtos) != 1 || hello.SupportedProtos[0] != ACMEProtocol {
		return nil, errors.New("no ACME challenge is under way")
	}
	return at.manager.GetCertificate(hello)
}

// Token answers an HTTP-01 request for path, on whichever of our names or
// ports it came; ok is false for what is no challenge under way.
func (a *ACME) Token(path string) (body []byte, ok bool) {
	at := a.attempt.Load()
	if at == nil || at.tokens == nil {
		return nil, false
	}
	return at.token(path)
}

// Run fetches and renews until ctx ends; then it returns nil, within a few
// seconds when an attempt is under way.
func (a *ACME) Run(ctx context.Context, log *slog.Logger) error {
	log = orDiscard(log)
	if a.broken != nil {
		log.Warn("stored certificate ignored", "err", a.broken, "remedy", "none needed, a new one is fetched")
	}
	defer a.cfg.Client.CloseIdleConnections()
	s := schedule{a: a}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		now := time.Now()
		at := s.due(now)
		if !now.Before(at) && ctx.Err() == nil {
			s.attempt(ctx, log)
			continue
		}
		a.note(func(st *ACMEStatus) { st.Next = at })
		timer.Reset(min(at.Sub(now), lookEvery))
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-a.retry:
			s.next = s.asked
			log.Info("asked to try again", "name", a.cfg.Name, "next_try", s.due(time.Now()))
		}
	}
}

// schedule says when to try. It belongs to Run.
type schedule struct {
	a        *ACME
	failures int       // in a row
	next     time.Time // after a failure
	asked    time.Time // until when the authority wants to be left alone
	renewAt  time.Time // of the certificate seen last
	seen     *tls.Certificate
}

// due is when the next attempt is to be made; not after now: it is time.
func (s *schedule) due(now time.Time) time.Time {
	if c := s.a.cert.Load(); c != s.seen {
		s.seen, s.renewAt = c, renewAt(c)
	}
	at := now
	if s.seen != nil {
		at = s.renewAt
	}
	if s.next.After(at) {
		at = s.next
	}
	return at
}

// issued has a certificate served that was fetched now. Half of what is left of
// it passes before the next is asked for: where a clock is wrong it may be due
// already, and so would be the next and the one after that.
func (s *schedule) issued(cert *tls.Certificate, now time.Time) {
	s.failures, s.next = 0, now.Add(cert.Leaf.NotAfter.Sub(now)/2)
	s.a.serve(cert)
}

// attempt makes one and learns from it.
func (s *schedule) attempt(ctx context.Context, log *slog.Logger) {
	cert, failed, unkept := s.a.fetch(ctx)
	if ctx.Err() != nil && cert == nil {
		return
	}
	if failed == nil {
		s.issued(cert, time.Now())
		s.a.note(func(st *ACMEStatus) { st.Issued++ })
		log.Info("certificate fetched", "name", s.a.cfg.Name, "not_after", cert.Leaf.NotAfter)
		if unkept != nil {
			log.Error("certificate not stored: after a restart it is fetched again, which authorities allow a few times a week", "err", unkept)
		}
		return
	}
	first, longest := s.a.cfg.RetryRefused, waitRefusedMax
	if failed.unreached {
		first, longest = s.a.cfg.RetryUnreached, waitUnreachedMax
	}
	wait := min(first<<min(s.failures, 12), longest)
	wait += time.Duration(rand.Int64N(int64(wait)/10 + 1))
	s.failures++
	now := time.Now()
	s.next, s.asked = now.Add(wait), now.Add(min(failed.retryAfter, waitAskedMax))
	if s.asked.After(s.next) {
		s.next = s.asked
	}
	s.a.note(func(st *ACMEStatus) {
		st.Problem, st.Remedy = failed.text, failed.remedy
		if failed.unreached {
			st.Unreached++
		} else {
			st.Refused++
		}
	})
	what := "certificate not fetched: clients are refused"
	if c := s.a.cert.Load(); c != nil {
		what = "certificate not renewed: the old one is served"
	}
	log.Error(what, "name", s.a.cfg.Name, "err", failed.text, "remedy", failed.remedy, "next_try", s.next)
}

// renewAt is when a certificate is to be renewed: when a third of its life is
// left, or 30 days, up to an hour sooner or a tenth of that.
func renewAt(c *tls.Certificate) time.Time {
	margin := renewMargin(c.Leaf.NotBefore, c.Leaf.NotAfter)
	jitter := rand.Int64N(int64(min(margin/10, time.Hour)) + 1)
	return c.Leaf.NotAfter.Add(-margin - time.Duration(jitter))
}

func renewMargin(notBefore, notAfter time.Time) time.Duration {
	return max(0, min(notAfter.Sub(notBefore)/3, renewMost))
}

// serve puts a certificate into use.
func (a *ACME) serve(cert *tls.Certificate) {
	before := a.cert.Swap(cert)
	a.note(func(st *ACMEStatus) {
		st.NotAfter, st.Problem, st.Remedy = cert.Leaf.NotAfter, "", ""
	})
	if before == nil {
		close(a.first)
	}
}

func (a *ACME) note(change func(*ACMEStatus)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	change(&a.status)
}

// notice is a sentence for operators on what is wrong as of now, or "".
func (a *ACME) notice(now time.Time) string {
	st := a.Status()
	cert := a.cert.Load()
	if cert == nil {
		if st.Problem == "" {
			return fmt.Sprintf("the certificate for %s is being fetched", st.Name)
		}
		return fmt.Sprintf("no certificate for %s: %s", st.Name, st.Problem)
	}
	text := endWarning("for "+st.Name, cert.Leaf.NotAfter, now, warnPublic(cert.Leaf))
	if text != "" && st.Problem != "" {
		text += ": " + st.Problem
	}
	return text
}
