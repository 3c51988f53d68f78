package phone

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// startPBX runs a PBX for the test and returns it with its address.
func startPBX(t *testing.T) (*PBX, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	x := NewPBX("example.com", map[string]string{"alice": "secret", "bob": "hidden"}, nil)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- x.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		must(t, <-done)
	})
	return x, l.Addr().String()
}

// secure puts TLS and WebSocket in front of x.
func secure(t *testing.T, x *PBX) *httptest.Server {
	t.Helper()
	s := httptest.NewTLSServer(x.WebSocket(t.Context()))
	t.Cleanup(s.Close)
	return s
}

func connected(t *testing.T, cfg Config) *Phone {
	t.Helper()
	p := New(cfg)
	must(t, p.Connect(t.Context()))
	t.Cleanup(p.Close)
	return p
}

func TestRegisterAnswersTheChallengeAndUnregisterRemoves(t *testing.T) {
	x, addr := startPBX(t)
	p := connected(t, Config{AOR: "sip:alice@example.com", Password: "secret", Transport: TCP, Addr: addr})
	resp, err := p.Register(t.Context(), Registration{
		Expires: time.Hour, RegID: 1, ClientState: "active",
		Push: Linphone("TEAM.org.example.phone", "v1", "r1", true),
	})
	must(t, err)
	if got := p.Granted(resp); got != time.Hour {
		t.Errorf("granted %v", got)
	}
	all := x.Contacts("alice")
	if want := ";pn-provider=apns.dev;pn-param=TEAM.org.example.phone.voip&remote;pn-prid=v1:voip&r1:remote"; len(all) != 1 || !strings.HasSuffix(all[0], want) {
		t.Errorf("the registrar has %q, want one that ends in %q", all, want)
	}
	must(t, p.Unregister(t.Context()))
	if all := x.Contacts("alice"); len(all) != 0 {
		t.Errorf("left over: %q", all)
	}
}

func TestAWrongPasswordIsRefused(t *testing.T) {
	x, addr := startPBX(t)
	p := connected(t, Config{AOR: "sip:alice@example.com", Password: "wrong", Transport: TCP, Addr: addr})
	if _, err := p.Register(t.Context(), Registration{}); Status(err) != 401 {
		t.Errorf("got %v, want 401", err)
	}
	if n := x.Count("REGISTER"); n != 2 {
		t.Errorf("%d REGISTERs, want 2: a phone does not insist", n)
	}
	if _, err := p.Register(t.Context(), Registration{Anonymous: true}); Status(err) != 401 {
		t.Errorf("unauthenticated: got %v, want 401", err)
	}
}

func TestPhonesCallEachOtherThroughAPBX(t *testing.T) {
	x, addr := startPBX(t)
	ws := secure(t, x)
	pool := ws.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	alice := connected(t, Config{AOR: "sip:alice@example.com", Password: "secret", Transport: TCP, Addr: addr})
	bob := connected(t, Config{
		AOR: "sip:bob@example.com", Password: "hidden", Transport: WSS, Addr: ws.Listener.Addr().String(),
		TLS: &tls.Config{RootCAs: pool, ServerName: "example.com"},
	})
	for _, p := range []*Phone{alice, bob} {
		if _, err := p.Register(t.Context(), Registration{}); err != nil {
			t.Fatal(err)
		}
	}
	for name, way := range map[string][2]*Phone{"to WebSocket": {alice, bob}, "from WebSocket": {bob, alice}} {
		t.Run(name, func(t *testing.T) {
			call, err := way[0].Call(t.Context(), way[1].AOR())
			must(t, err)
			in := ring(t, way[1])
			answered, err := in.Answer()
			must(t, err)
			must(t, call.Answered(t.Context()))
			must(t, answered.WaitAck(t.Context()))
			must(t, call.Bye(t.Context()))
			must(t, answered.WaitBye(t.Context()))
		})
	}
	must(t, bob.Ping(t.Context()))
}

func TestConnectOverTLSChecksTheServer(t *testing.T) {
	x, _ := startPBX(t)
	ws := secure(t, x) // any TLS listener will do for the handshake
	p := New(Config{AOR: "sip:alice@example.com", Transport: TLS, Addr: ws.Listener.Addr().String(), TLS: &tls.Config{NextProtos: []string{"http/1.1"}}})
	var unknown *tls.CertificateVerificationError
	if err := p.Connect(t.Context()); !errors.As(err, &unknown) {
		t.Errorf("got %v, want a certificate that is not trusted", err)
	}
}

func TestAFaultyConfigIsToldByConnect(t *testing.T) {
	for want, cfg := range map[string]Config{
		`AOR "alice"`:     {AOR: "alice", Transport: TCP},
		`transport "udp"`: {AOR: "sip:a@b", Transport: "udp"},
	} {
		if err := New(cfg).Connect(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want it to name %s", err, want)
		}
	}
}
