package certs

import (
	"crypto/tls"
	"time"
)

// DueAfter is when the next certificate is asked for after c was fetched now.
func DueAfter(c *tls.Certificate, now time.Time) time.Time {
	s := schedule{a: &ACME{first: make(chan struct{})}}
	s.issued(c, now)
	return s.due(now)
}
