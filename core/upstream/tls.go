package upstream

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"time"
)

// tlsFor is what a server of the domain is met with. The name that its
// certificate must show is the one the operator wrote (RFC 5922 §4).
func (d *domain) tlsFor(t Target) *tls.Config {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if d.tls != nil {
		cfg = d.tls()
	}
	cfg.ServerName = t.Host
	return cfg
}

// dialStream connects to an address, over TLS where secure is not nil.
func (u *Upstream) dialStream(ctx context.Context, a netip.AddrPort, secure *tls.Config) (*Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, u.cfg.DialTimeout)
	defer cancel()
	nc, err := u.cfg.DialTCP(ctx, a.String())
	if err != nil {
		return nil, err
	}
	transport := tcp
	if secure != nil {
		transport = tlsTransport
		tc := tls.Client(nc, secure)
		if err := tc.HandshakeContext(ctx); err != nil {
			nc.Close()
			return nil, err
		}
		nc = tc
	}
	c := u.newStream(nc, transport, a, true)
	if !u.admit(c, c.serve) {
		nc.Close()
		return nil, ErrClosed
	}
	return c, nil
}

// handshakeTime bounds the TLS handshake of a connection that was accepted.
const handshakeTime = 5 * time.Second

// shake completes the handshake of an accepted TLS connection.
func (c *Conn) shake() error {
	tc, ok := c.stream.(*tls.Conn)
	if !ok || c.dialled {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), handshakeTime)
	defer cancel()
	return tc.HandshakeContext(ctx)
}

// secureListener makes TLS of what it accepts; the handshake is each
// connection's own.
func (u *Upstream) secureListener(l net.Listener) net.Listener {
	return tls.NewListener(l, u.cfg.ServerTLS)
}
