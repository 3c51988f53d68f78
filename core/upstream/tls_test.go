package upstream

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// authority is a CA that lives for one test.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, pool: x509.NewCertPool()}
	a.cert, a.key = a.sign(&x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	a.pool.AddCert(a.cert)
	return a
}

func (a *authority) sign(template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.Subject = pkix.Name{CommonName: "test"}
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := template, key
	if a.cert != nil {
		parent, signer = a.cert, a.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert, key
}

// shows is a certificate for names and addresses.
func (a *authority) shows(names ...string) tls.Certificate {
	a.t.Helper()
	template := &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, n)
		}
	}
	cert, key := a.sign(template)
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}
}

// securePBX accepts TLS on loopback and hands over what connects.
func securePBX(t *testing.T, cfg *tls.Config) (address string, conns chan *tls.Conn) {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", cfg)
	if err != nil {
		t.Fatal(err)
	}
	conns = make(chan *tls.Conn, 16)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			tc := c.(*tls.Conn)
			_ = tc.SetDeadline(time.Now().Add(20 * time.Second))
			if tc.Handshake() != nil {
				c.Close()
				continue
			}
			conns <- tc
		}
	}()
	return l.Addr().String(), conns
}

func secured(address string) map[string][]string {
	return map[string][]string{"example.com": {"sip:" + address + ";transport=tls"}}
}

func trusting(cfg *tls.Config) map[string]func() *tls.Config {
	return map[string]func() *tls.Config{"example.com": cfg.Clone}
}

func TestOverTLSMessagesGoBothWaysOnTheConnectionThatTheCoreMade(t *testing.T) {
	ca := newAuthority(t)
	address, conns := securePBX(t, &tls.Config{Certificates: []tls.Certificate{ca.shows("127.0.0.1")}})
	seen := &recorder{answer: func(c *Conn, p []byte) { _ = c.Send([]byte("heard")) }}
	u := onLoopback(t, Config{Upstreams: secured(address), ClientTLS: trusting(&tls.Config{RootCAs: ca.pool})}, seen)
	c, err := u.Conn(within(t, 10*time.Second), "example.com", "")
	if err != nil {
		t.Fatal(err)
	}
	if c.Transport() != "TLS" || !c.Trusted() || !c.Dialled() || !strings.HasPrefix(c.ID(), "tls/") {
		t.Errorf("%+v", c)
	}
	far := <-conns
	defer far.Close()
	if v := far.ConnectionState().Version; v < tls.VersionTLS12 {
		t.Errorf("TLS version %x", v)
	}
	if err := c.Send([]byte(message(1, "out"))); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, len(message(1, "out")))
	if _, err := io.ReadFull(far, buf); err != nil || string(buf) != message(1, "out") {
		t.Errorf("%q, %v", buf, err)
	}
	_, _ = io.WriteString(far, message(2, "in")) // RFC 5923: requests may come back on it
	if _, err := io.ReadFull(far, buf[:5]); err != nil || string(buf[:5]) != "heard" {
		t.Errorf("%q, %v", buf[:5], err)
	}
	if got := seen.messages(); len(got) != 1 || got[0] != message(2, "in") {
		t.Errorf("%q", got)
	}
	if again, err := u.Dial(t.Context(), "tls:"+address); err != nil || again != c {
		t.Errorf("the next hop of a dialog: %v, %v", again, err)
	}
}

func TestOverTLSTheServerMustShowTheNameAndComeFromACA(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	for name, show := range map[string]tls.Certificate{"another name": ca.shows("pbx.example.com"), "another CA": other.shows("127.0.0.1")} {
		address, _ := securePBX(t, &tls.Config{Certificates: []tls.Certificate{show}})
		u := onLoopback(t, Config{Upstreams: secured(address), ClientTLS: trusting(&tls.Config{RootCAs: ca.pool})}, &recorder{})
		c, err := u.Conn(within(t, 10*time.Second), "example.com", "")
		if !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), "certificate") {
			t.Errorf("%s: %v, %v", name, c, err)
		}
		if st := u.Status()[0]; st.Up || !strings.Contains(st.LastError, "certificate") {
			t.Errorf("%s: status %+v", name, st)
		}
	}
	address, _ := securePBX(t, &tls.Config{Certificates: []tls.Certificate{ca.shows("127.0.0.1")}})
	u := onLoopback(t, Config{Upstreams: secured(address)}, &recorder{})
	if _, err := u.Conn(within(t, 10*time.Second), "example.com", ""); err == nil {
		t.Error("without a private CA the system's roots decide, and they do not know this one")
	}
}

func TestOverTLSAClientCertificateIsShownToWhoAsks(t *testing.T) {
	ca := newAuthority(t)
	address, conns := securePBX(t, &tls.Config{
		Certificates: []tls.Certificate{ca.shows("127.0.0.1")}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.pool,
	})
	mine := ca.shows("core1.example.com")
	u := onLoopback(t, Config{Upstreams: secured(address), ClientTLS: trusting(&tls.Config{RootCAs: ca.pool,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &mine, nil }})}, &recorder{})
	if _, err := u.Conn(within(t, 10*time.Second), "example.com", ""); err != nil {
		t.Fatal(err)
	}
	if got := (<-conns).ConnectionState().PeerCertificates[0].DNSNames; len(got) != 1 || got[0] != "core1.example.com" {
		t.Errorf("shown %v", got)
	}
}

func TestATLSListenerTakesThePBXAndDropsWhoDoesNotShakeHands(t *testing.T) {
	ca := newAuthority(t)
	seen := &recorder{answer: func(c *Conn, p []byte) { _ = c.Send([]byte("via " + c.Transport() + "\n")) }}
	u := onLoopback(t, Config{
		Listen: []string{"tls:127.0.0.1:0"}, Trusted: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
		ServerTLS: &tls.Config{Certificates: []tls.Certificate{ca.shows("127.0.0.1")}},
	}, seen)
	plain, err := net.Dial("tcp", u.Addrs()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	_ = plain.SetDeadline(time.Now().Add(10 * time.Second))
	_, _ = io.WriteString(plain, message(1, ""))
	if rest, err := io.ReadAll(plain); err != nil && !errors.Is(err, net.ErrClosed) && len(rest) > 64 {
		t.Errorf("plain text was answered %q, %v", rest, err)
	}
	c, err := tls.Dial("tcp", u.Addrs()[0].String(), &tls.Config{RootCAs: ca.pool})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	_, _ = io.WriteString(c, message(2, ""))
	if line, err := bufio.NewReader(c).ReadString('\n'); err != nil || line != "via TLS\n" {
		t.Errorf("%q, %v", line, err)
	}
	if got := seen.messages(); len(got) != 1 || got[0] != message(2, "") {
		t.Errorf("heard %q", got)
	}
}
