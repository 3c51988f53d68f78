package interop

import (
	"context"
	"encoding/pem"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/test/phone"
)

// smallPBX is the phone package's PBX with WebSocket in front; it returns the
// WebSocket's URL and the file of its CA.
func smallPBX(t *testing.T) (addr, url, cafile string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	x := phone.NewPBX("example.com", Users, nil)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- x.Serve(ctx, l) }()
	s := httptest.NewTLSServer(x.WebSocket(ctx))
	t.Cleanup(func() {
		cancel()
		s.Close()
		must(t, <-done)
	})
	cafile = filepath.Join(t.TempDir(), "ca.pem")
	must(t, os.WriteFile(cafile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600))
	return l.Addr().String(), strings.Replace(s.URL, "https://", "wss://", 1) + "/ws", cafile
}

func TestJsSIPRegistersCallsAndIsCalled(t *testing.T) {
	ctx := within(t, 25*time.Second)
	addr, url, cafile := smallPBX(t)
	page := StartJsSIP(t, WebPhoneConfig{
		URL: url, AOR: "sip:bob@example.com", Password: Users["bob"], CAFile: cafile,
		Push: map[string]string{"pn-provider": "webpush", "pn-prid": "token"},
	})
	page.Expect(ctx, "registered")

	alice := phone.New(phone.Config{AOR: "sip:alice@example.com", Password: Users["alice"], Transport: phone.TCP, Addr: addr})
	must(t, alice.Connect(ctx))
	t.Cleanup(alice.Close)
	if _, err := alice.Register(ctx, phone.Registration{}); err != nil {
		t.Fatal(err)
	}

	call, err := alice.Call(ctx, "sip:bob@example.com")
	must(t, err)
	page.Expect(ctx, "incoming")
	page.Tell("answer")
	must(t, call.Answered(ctx))
	page.Expect(ctx, "confirmed")
	page.Tell("renegotiate")
	<-call.Reinvited()
	page.Expect(ctx, "renegotiated")
	page.Tell("hangup")
	must(t, call.WaitBye(ctx))

	page.Call("sip:alice@example.com")
	d := answer(t, ctx, alice)
	page.Expect(ctx, "confirmed")
	must(t, d.Bye(ctx))
	page.Expect(ctx, "ended")

	page.Tell("sleep")
	page.Expect(ctx, "disconnected")
	page.Tell("wake")
	page.Expect(ctx, "registered")
}
