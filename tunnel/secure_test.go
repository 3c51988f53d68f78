package tunnel_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"math/big"
	"net"
	"testing"
	"time"

	"sallyport/tunnel"
)

// certificate returns a self-signed certificate for both ends.
func certificate(t testing.TB) (tls.Certificate, *x509.CertPool) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"node"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, pool
}

// securePair runs an edge and a core over TLS on loopback and returns the edge
// once the session is up. Each wrap is applied to both TCP connections.
func securePair(t testing.TB, take func(*tunnel.Flow) tunnel.Handler, wrap ...func(net.Conn) net.Conn) *tunnel.Acceptor {
	cert, pool := certificate(t)
	cfg := &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert}, RootCAs: pool, ClientCAs: pool,
		ClientAuth: tls.RequireAndVerifyClientCert, ServerName: "node",
		DynamicRecordSizingDisabled: true, SessionTicketsDisabled: true,
	}
	wrapped := func(c net.Conn) net.Conn {
		for _, w := range wrap {
			c = w(c)
		}
		return c
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	up := make(ups, 2)
	a := tunnel.NewAcceptor(tunnel.AcceptorConfig{
		Name: "node", Log: slog.New(up),
		Handshake: func(ctx context.Context, c net.Conn) (net.Conn, string, error) {
			tc := tls.Server(wrapped(c), cfg)
			return tc, "node", tc.HandshakeContext(ctx)
		},
	})
	d := tunnel.NewDialer(tunnel.DialerConfig{
		Name: "node", Edges: []string{l.Addr().String()}, Open: take, Log: slog.New(up),
		Dial: func(ctx context.Context, edge string) (net.Conn, string, error) {
			c, err := (&net.Dialer{}).DialContext(ctx, "tcp", edge)
			if err != nil {
				return nil, "", err
			}
			tc := tls.Client(wrapped(c), cfg)
			return tc, "node", tc.HandshakeContext(ctx)
		},
	})
	start(t, func(ctx context.Context) error { return a.Serve(ctx, l) })
	start(t, d.Run)
	<-up
	<-up
	return a
}

// ups is a log that listens for sessions that come up.
type ups chan struct{}

func (u ups) Handle(_ context.Context, r slog.Record) error {
	if r.Message == "tunnel up" {
		select {
		case u <- struct{}{}:
		default:
		}
	}
	return nil
}
func (u ups) Enabled(context.Context, slog.Level) bool { return true }
func (u ups) WithAttrs([]slog.Attr) slog.Handler       { return u }
func (u ups) WithGroup(string) slog.Handler            { return u }
