package certs

import (
	"crypto/tls"
	"fmt"
	"time"
)

// ALPN is the protocol name that both ends of the tunnel negotiate; its
// number is the tunnel's major version.
const ALPN = "sallyport/1"

// ServerConfig is the TLS side of an accepting end: TLS 1.3 only, a client
// certificate demanded, signed by the bundle's CA and of the role expect. It
// follows reloads: each handshake uses the bundle as it is then.
func (b *Bundle) ServerConfig(expect Role) *tls.Config {
	c := b.serverConfig(expect)
	c.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		return b.serverConfig(expect), nil
	}
	return c
}

func (b *Bundle) serverConfig(expect Role) *tls.Config {
	m := b.current.Load()
	return &tls.Config{
		Certificates:           []tls.Certificate{m.cert},
		ClientAuth:             tls.RequireAndVerifyClientCert,
		ClientCAs:              m.roots,
		MinVersion:             tls.VersionTLS13,
		NextProtos:             []string{ALPN},
		SessionTicketsDisabled: true,
		VerifyConnection: func(cs tls.ConnectionState) error {
			return m.verify(cs, expect, "")
		},
	}
}

// ClientConfig is the TLS side of a dialling end. The peer must show a
// certificate signed by the bundle's CA, of the role expect and issued for
// name: the host, DNS name or IP address, of the address that is dialled. Ask
// for a new one for each dial, so that a reload of the bundle is followed.
func (b *Bundle) ClientConfig(expect Role, name string) *tls.Config {
	m := b.current.Load()
	name = canonical(name)
	return &tls.Config{
		Certificates:           []tls.Certificate{m.cert},
		RootCAs:                m.roots,
		ServerName:             name,
		MinVersion:             tls.VersionTLS13,
		NextProtos:             []string{ALPN},
		SessionTicketsDisabled: true,
		VerifyConnection: func(cs tls.ConnectionState) error {
			return m.verify(cs, expect, name)
		},
	}
}

// verify checks what package tls does not: role, name and protocol. It runs
// on every handshake, a resumed one too, and therefore checks the signature
// and the dates again, which a resumed handshake skips.
func (m *material) verify(cs tls.ConnectionState, expect Role, name string) error {
	if cs.Version != tls.VersionTLS13 || cs.NegotiatedProtocol != ALPN {
		return fmt.Errorf("%w: the peer did not negotiate TLS 1.3 with ALPN %q", ErrProtocol, ALPN)
	}
	role, peer, err := PeerName(cs)
	if err != nil {
		return err
	}
	if err := verifyChain(cs.PeerCertificates[0], m.roots, time.Now()); err != nil {
		return fmt.Errorf("%s %s: %w", role, peer, err)
	}
	if role != expect {
		return fmt.Errorf("%w: the peer %q is certified as %s, not as %s", ErrRole, peer, role, expect)
	}
	if name != "" && peer != name {
		return fmt.Errorf("%w: dialled %q, but the peer is certified as %q", ErrName, name, peer)
	}
	return nil
}
