package c2s

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
)

// tlsConfig is what the server at t is met with; see the package's "Whose
// certificate".
func (d *Domain) tlsConfig(t Target) *tls.Config {
	cfg := &tls.Config{
		MinVersion: tls.VersionTLS12,
		ServerName: d.cfg.Name,
		// VerifyConnection does it, for two names.
		InsecureSkipVerify: true, //nolint:gosec // see above
		VerifyConnection: func(cs tls.ConnectionState) error {
			return verify(cs, d.roots(), d.cfg.Name, t.Host)
		},
	}
	switch t.Scheme {
	case WSS:
		cfg.ServerName = t.Host
		cfg.NextProtos = []string{"http/1.1"}
	case DirectTLS:
		cfg.NextProtos = []string{"xmpp-client"}
	}
	return cfg
}

// verify checks that a server's certificate is valid, for one of the names.
func verify(cs tls.ConnectionState, roots *x509.CertPool, names ...string) error {
	if len(cs.PeerCertificates) == 0 {
		return errors.New("no certificate")
	}
	leaf := cs.PeerCertificates[0]
	between := x509.NewCertPool()
	for _, c := range cs.PeerCertificates[1:] {
		between.AddCert(c)
	}
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between}); err != nil {
		return err
	}
	var first error
	for _, name := range names {
		err := leaf.VerifyHostname(name)
		if err == nil {
			return nil
		}
		if first == nil {
			first = err
		}
	}
	return fmt.Errorf("neither for the domain nor for the upstream's host: %w", first)
}

// tlsRemedy says what to do about a failed handshake.
func (d *Domain) tlsRemedy(t Target, err error) string {
	var (
		unknown x509.UnknownAuthorityError
		name    x509.HostnameError
		invalid x509.CertificateInvalidError
		record  tls.RecordHeaderError
	)
	switch {
	case errors.As(err, &unknown):
		return "name the certificate's CA in ca_file, in PEM"
	case errors.As(err, &name):
		return fmt.Sprintf("the server must show a certificate for %s, or for %s", d.cfg.Name, t.Host)
	case errors.As(err, &invalid):
		return "renew the server's certificate, and look at both clocks"
	case errors.As(err, &record):
		return "that port does not speak TLS from the first byte: is it STARTTLS (xmpp://), or a plain one?"
	}
	return ""
}
