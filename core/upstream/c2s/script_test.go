package c2s_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/core/upstream/c2s"
)

const (
	header = "<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' id='s1' from='example.com' version='1.0'>"
	scram  = "<mechanism>SCRAM-SHA-1</mechanism>"
	plus   = "<mechanism>SCRAM-SHA-1-PLUS</mechanism>"
)

// features are those of a server with these mechanisms, and whatever else.
func features(mechanisms string, more ...string) string {
	return "<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>" + mechanisms + "</mechanisms>" +
		strings.Join(more, "") + "</stream:features>"
}

// script is a server: it has a connection until it returns.
type script func(c net.Conn, in *bufio.Reader)

// serve runs a script for each connection, and returns its address.
func serve(t testing.TB, run script) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			stop := context.AfterFunc(t.Context(), func() { c.Close() })
			wg.Go(func() {
				defer stop()
				defer c.Close()
				run(c, bufio.NewReader(c))
			})
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return l.Addr().String()
}

// until reads up to the first end.
func until(in *bufio.Reader, end string) string {
	var all strings.Builder
	for !strings.HasSuffix(all.String(), end) {
		b, err := in.ReadByte()
		if err != nil {
			return all.String()
		}
		all.WriteByte(b)
	}
	return all.String()
}

// says answers a stream's header with these words, and reads to the end.
func says(words ...string) script {
	return func(c net.Conn, in *bufio.Reader) {
		until(in, "version='1.0'>")
		for _, w := range words {
			_, _ = io.WriteString(c, w)
		}
		_, _ = io.Copy(io.Discard, in)
	}
}

// overTLS puts a script behind TLS.
func overTLS(cert tls.Certificate, run script) script {
	return func(c net.Conn, in *bufio.Reader) {
		tc := tls.Server(wrapped{c, in}, &tls.Config{Certificates: []tls.Certificate{cert}})
		if tc.Handshake() != nil {
			return
		}
		run(tc, bufio.NewReader(tc))
	}
}

// wrapped is a connection of which some was read.
type wrapped struct {
	net.Conn
	in *bufio.Reader
}

func (w wrapped) Read(p []byte) (int, error) { return w.in.Read(p) }

// startTLS offers STARTTLS, and goes on over TLS; behind is sent with the
// go-ahead.
func startTLS(cert tls.Certificate, behind string, run script) script {
	return func(c net.Conn, in *bufio.Reader) {
		until(in, "version='1.0'>")
		_, _ = io.WriteString(c, header+"<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:features>")
		until(in, "/>")
		_, _ = io.WriteString(c, "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"+behind)
		overTLS(cert, run)(c, in)
	}
}

// certificate signs itself, for these names.
func certificate(t testing.TB, until time.Time, names ...string) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "server"}, NotBefore: until.Add(-48 * time.Hour), NotAfter: until,
		BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	for _, name := range names {
		if a := net.ParseIP(name); a != nil {
			tmpl.IPAddresses = append(tmpl.IPAddresses, a)
		} else {
			tmpl.DNSNames = append(tmpl.DNSNames, name)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	must(t, err)
	leaf, err := x509.ParseCertificate(der)
	must(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// domain is example.com behind an upstream.
func domain(t testing.TB, upstream string, change ...func(*c2s.Config)) *c2s.Domain {
	t.Helper()
	cfg := c2s.Config{Name: "example.com", Upstream: upstream, OpenTimeout: 5 * time.Second}
	for _, f := range change {
		f(&cfg)
	}
	d, err := c2s.New(cfg, nil)
	must(t, err)
	return d
}

// opened opens a stream, which is closed in the end.
func opened(t testing.TB, d *c2s.Domain) *c2s.Stream {
	t.Helper()
	s, err := d.Open(within(t, 10*time.Second), netip.Addr{})
	must(t, err)
	t.Cleanup(func() { s.Close(false) })
	return s
}

func trusting(pool *x509.CertPool) func(*c2s.Config) {
	return func(c *c2s.Config) { c.Roots = func() *x509.CertPool { return pool } }
}

func shared(c *c2s.Config) { c.SharedCert = true }
