package phone

import (
	"context"
	"net"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pair is two phones that are each other's server, over a pipe.
func pair(t *testing.T) (alice, bob *Phone) {
	t.Helper()
	a, b := net.Pipe()
	end := func(aor string, c net.Conn) *Phone {
		p := New(Config{AOR: aor, Transport: TCP, Addr: "pipe", Dial: func(context.Context, string, string) (net.Conn, error) { return c, nil }})
		if err := p.Connect(t.Context()); err != nil {
			t.Fatal(err)
		}
		return p
	}
	alice, bob = end("sip:alice@example.com", a), end("sip:bob@example.com", b)
	t.Cleanup(func() { alice.Close(); bob.Close() })
	return alice, bob
}

// contactOf is where to send requests so that p takes them for its own.
func contactOf(p *Phone) string {
	l, err := p.current()
	if err != nil {
		panic(err)
	}
	return p.contactURI(l)
}

// ring waits for the next call at p.
func ring(t *testing.T, p *Phone) *Incoming {
	t.Helper()
	select {
	case in := <-p.Calls():
		return in
	case <-t.Context().Done():
		t.Fatal("no call")
		return nil
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func contextFor(t *testing.T, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(t.Context(), d)
}
