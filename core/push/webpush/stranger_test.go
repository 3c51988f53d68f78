package webpush_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"sallyport/core/push"
	"sallyport/core/push/pushtest"
)

// Whoever registers subscriptions that another key made must not be able to
// stop what goes to everybody else at the same push service.
func TestSubscriptionsOfAnotherKeyStopNobodyElse(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		s, c := w.one(pushtest.WebPushConfig{})
		other := w.client(w.config(), nil, nil).VAPID()
		honest := s.subscribe(c.VAPID())
		var foreign []push.Token
		for range 5 {
			foreign = append(foreign, s.subscribe(other))
		}
		deny := func() {
			t.Helper()
			for _, f := range foreign {
				c.Send(t.Context(), tell(f))
			}
		}
		// After a start nothing is known of the key. Calls go all the same.
		deny()
		wantOutcome(t, c.Send(t.Context(), ring(honest)), push.Accepted)
		// Our key was accepted: it is not to blame, and no alarm is raised.
		deny()
		wantOutcome(t, c.Send(t.Context(), ring(honest)), push.Accepted)
		wantOutcome(t, c.Send(t.Context(), tell(honest)), push.Accepted)
		deny()
		if ok, last := c.Health(); !ok {
			t.Errorf("clients raise an alarm: %s", last)
		}
		// It was a long time ago: now the key may well be wrong.
		time.Sleep(2 * time.Hour)
		deny()
		if ok, _ := c.Health(); ok {
			t.Error("nobody was accepted for hours, and no alarm")
		}
		wantOutcome(t, c.Send(t.Context(), ring(honest)), push.Accepted)
	})
}

// What a push service says of itself is a stranger's word: it must not fill
// the log, nor steer the terminal of who reads it.
func TestWhatAStrangerSendsIsTamed(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		cert := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
		for i := range 90 {
			cert.DNSNames = append(cert.DNSNames, fmt.Sprintf("%d.%s.example", i, strings.Repeat("x", 60)))
		}
		cert.DNSNames[0] = "\x1b[2J.example"
		der, err := x509.CreateCertificate(rand.Reader, cert, cert, &key.PublicKey, key)
		if err != nil {
			t.Fatal(err)
		}
		w.service("push.example", pushtest.WebPushConfig{})
		l := tls.NewListener(w.place("evil.example"), &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
		w.wg.Go(func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				_ = conn.(*tls.Conn).Handshake()
				_ = conn.Close()
			}
		})
		defer l.Close()
		c := w.client(w.config(), nil, nil)
		r := c.Send(t.Context(), tell(push.Token{Provider: push.ProviderWebPush, Value: "https://evil.example/x"}))
		wantOutcome(t, r, push.ProviderDown)
		if len(r.Reason) > 300 || strings.ContainsAny(r.Reason, "\x1b\n") || !strings.HasPrefix(r.Reason, "evil.example: ") {
			t.Errorf("%d bytes of reason: %q", len(r.Reason), r.Reason[:min(len(r.Reason), 400)])
		}
	})
}
