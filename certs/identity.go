package certs

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
)

// Role is which end of the tunnel a certificate speaks for.
type Role string

// The two roles a bundle can have.
const (
	RoleEdge Role = "edge"
	RoleCore Role = "core"
)

// trustDomain is the host part of the role URI in each tunnel certificate.
const trustDomain = "sallyport"

// Errors that say why a peer's certificate was refused. [Reason] turns them,
// and those of package x509, into a label.
var (
	// ErrRole is returned for a certificate without a role of ours, or with
	// another role than expected.
	ErrRole = errors.New("wrong role")
	// ErrName is returned for a peer that is not the one that was dialled.
	ErrName = errors.New("wrong name")
	// ErrProtocol is returned for a peer that negotiated something else than
	// TLS 1.3 with the tunnel's ALPN.
	ErrProtocol = errors.New("wrong protocol")
)

// PeerName returns role and name in the certificate that the peer of a
// connection has shown. It errors with [ErrRole] when there is none, and
// trusts the handshake to have checked who signed it.
func PeerName(cs tls.ConnectionState) (Role, string, error) {
	if len(cs.PeerCertificates) == 0 {
		return "", "", fmt.Errorf("%w: the peer showed no certificate", ErrRole)
	}
	return identity(cs.PeerCertificates[0])
}

// identity reads the one role URI of a certificate and checks that its name
// is among the other subject names too.
func identity(c *x509.Certificate) (Role, string, error) {
	var found *url.URL
	for _, u := range c.URIs {
		if u.Scheme != "spiffe" {
			continue
		}
		if found != nil {
			return "", "", fmt.Errorf("%w: the certificate has more than one spiffe URI", ErrRole)
		}
		found = u
	}
	if found == nil || found.Host != trustDomain {
		return "", "", fmt.Errorf("%w: the certificate has no URI spiffe://%s/edge/NAME or /core/NAME", ErrRole, trustDomain)
	}
	role, name, ok := strings.Cut(strings.TrimPrefix(found.Path, "/"), "/")
	if !ok || name == "" || (Role(role) != RoleEdge && Role(role) != RoleCore) {
		return "", "", fmt.Errorf("%w: %q is not spiffe://%s/edge/NAME or /core/NAME", ErrRole, found, trustDomain)
	}
	if err := c.VerifyHostname(name); err != nil {
		return "", "", fmt.Errorf("%w: the certificate's URI names %q, its other names do not", ErrName, name)
	}
	return Role(role), name, nil
}

// canonical writes a name as certificates hold it: lower case without a final
// dot, an IP address in its shortest form.
func canonical(name string) string {
	if a, err := netip.ParseAddr(strings.Trim(name, "[]")); err == nil {
		return a.Unmap().String()
	}
	return strings.ToLower(strings.TrimSuffix(name, "."))
}

// Reason sorts a failed handshake into a small set of labels for a metric:
// "expired", "foreign_ca", "wrong_role", "wrong_name", "wrong_protocol",
// "no_certificate" or "other".
func Reason(err error) string {
	var (
		invalid  x509.CertificateInvalidError
		unknown  x509.UnknownAuthorityError
		hostname x509.HostnameError
	)
	switch {
	case errors.Is(err, ErrRole):
		return "wrong_role"
	case errors.Is(err, ErrName), errors.As(err, &hostname):
		return "wrong_name"
	case errors.Is(err, ErrProtocol):
		return "wrong_protocol"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "expired"
	case errors.As(err, &unknown):
		return "foreign_ca"
	case err != nil && strings.Contains(err.Error(), "client didn't provide a certificate"):
		return "no_certificate"
	default:
		return "other"
	}
}
