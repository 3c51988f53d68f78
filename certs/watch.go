package certs

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"time"
)

const (
	day = 24 * time.Hour
	// pollEvery is how often watched files are looked at. Polling works on
	// every file system and through the symbolic links of mounted secrets.
	pollEvery = time.Second
	// warnBefore is how long before its end a bundle is complained of, which
	// nobody renews but the operator.
	warnBefore = 30 * day
	// warnPublicBefore is the same for a public certificate at most.
	warnPublicBefore = 14 * day
	// warnEvery is how often that is repeated.
	warnEvery = day
)

// stamp tells one version of a file from another without reading it.
type stamp struct{ info os.FileInfo }

func stampOf(path string) stamp {
	info, err := os.Stat(path)
	if err != nil {
		return stamp{}
	}
	return stamp{info}
}

func (s stamp) same(t stamp) bool {
	if s.info == nil || t.info == nil {
		return s.info == nil && t.info == nil
	}
	return s.info.Size() == t.info.Size() && s.info.ModTime().Equal(t.info.ModTime()) && os.SameFile(s.info, t.info)
}

// Watch reloads the bundle when its file changes, until ctx ends; then it
// returns nil. A broken new file is logged and the old bundle kept. From 30
// days before the certificate's end it warns once a day.
func (b *Bundle) Watch(ctx context.Context, log *slog.Logger) error {
	log = orDiscard(log)
	return watch(ctx, func() bool {
		changed, err := b.reloadIfChanged()
		switch {
		case !changed:
		case err != nil:
			log.Error("bundle not reloaded, the old one stays", "err", err)
		default:
			log.Info("bundle reloaded", "file", b.path, "name", b.Name(), "not_after", b.NotAfter())
		}
		return changed
	}, func() {
		if text := EndWarning(b.path, b.NotAfter(), time.Now()); text != "" {
			remedy := fmt.Sprintf("sallyport certs issue --%s %s", b.Role(), b.Name())
			log.Warn("certificate ends soon", "reason", text, "remedy", remedy)
		}
	})
}

// watch calls poll each second, and warn at once, after each change and once
// a day, until ctx ends.
func watch(ctx context.Context, poll func() (changed bool), warn func()) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	warn()
	warned := time.Now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if poll() || time.Since(warned) >= warnEvery {
			warn()
			warned = time.Now()
		}
	}
}

// EndWarning says in a sentence that the certificate in file has ended or
// ends within 30 days of now; it returns "" for one that is good for longer.
func EndWarning(file string, notAfter, now time.Time) string {
	return endWarning("in "+file, notAfter, now, warnBefore)
}

// endWarning is EndWarning for a certificate that is which, from before its end.
func endWarning(which string, notAfter, now time.Time, before time.Duration) string {
	left := notAfter.Sub(now)
	switch {
	case left <= 0:
		return fmt.Sprintf("the certificate %s ended on %s", which, notAfter.Format(time.DateOnly))
	case left > before:
		return ""
	}
	in := fmt.Sprintf("in %d days", left/day)
	switch {
	case left < day:
		in = "within a day"
	case left < 2*day:
		in = "in 1 day"
	}
	return fmt.Sprintf("the certificate %s ends %s, on %s", which, in, notAfter.Format(time.DateOnly))
}

// warnPublic is how long before its end a public certificate is complained of:
// 14 days, by which time whatever renews it should have; for one that lives
// for less than 47 days, three tenths of its life.
func warnPublic(leaf *x509.Certificate) time.Duration {
	return min(warnPublicBefore, leaf.NotAfter.Sub(leaf.NotBefore)*3/10)
}

func orDiscard(log *slog.Logger) *slog.Logger {
	if log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return log
}
