package location_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"sallyport/core/location"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	alice = "sip:alice@example.com"
	bobs  = "sip:bob@example.com"
	phone = "<urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6>"
	keep  = 30 * 24 * time.Hour
)

var alicesPhone = location.DeviceID{AOR: alice, Instance: phone}

// binding is alice's phone on flow, for an hour.
func binding(flow string) location.Binding {
	return location.Binding{
		AOR: alice, Instance: phone, RegID: 1,
		Contact: "<sip:alice@10.0.0.1:40001;transport=tls>;+sip.instance=\"" + phone + "\"",
		URI:     "sip:alice@10.0.0.1:40001;transport=tls",
		CallID:  "call", CSeq: 1, Token: "T0KEN", Flow: flow, Edge: "edge1",
		Expires: time.Now().Add(time.Hour),
	}
}

func voip(value string) location.Token {
	return location.Token{Provider: "apns", Kind: "voip", App: "org.example.phone", Value: value}
}

func alert(value string) location.Token {
	return location.Token{Provider: "apns", Kind: "alert", App: "org.example.phone", Value: value}
}

func mustBind(t testing.TB, l *location.Location, b location.Binding, tokens ...location.Token) {
	t.Helper()
	if err := l.Bind(b, tokens, "split"); err != nil {
		t.Fatal(err)
	}
}

// dead tells that a provider called a token dead.
func dead(l *location.Location, id location.DeviceID, provider, kind, value, reason string, since time.Time) {
	l.Told(id, location.Answer{
		Token: location.TokenID{Provider: provider, Kind: kind, Value: value}, At: time.Now(), Reason: reason, Dead: true, Since: since,
	})
}

// device returns the device, or the zero one with no tokens and bindings.
func device(l *location.Location, id location.DeviceID) location.Device {
	d, _ := l.Device(id)
	return d
}

func values(d location.Device) []string {
	var vs []string
	for _, t := range d.Tokens {
		vs = append(vs, t.Value)
	}
	return vs
}

func wantTokens(t *testing.T, l *location.Location, id location.DeviceID, want ...string) {
	t.Helper()
	if got := values(device(l, id)); !slices.Equal(got, want) {
		t.Errorf("tokens of %s: %v, want %v", id, got, want)
	}
}

// test runs f in a bubble with a running Location over store.
func test(t *testing.T, store location.Store, f func(t *testing.T, l *location.Location)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { running(t, store, func(l *location.Location) { f(t, l) }) })
}

// running is one life of a core with this store.
func running(t *testing.T, store location.Store, f func(l *location.Location)) {
	t.Helper()
	l := location.New(location.Config{DeviceKeep: keep, Core: "core1"}, store, nil)
	if err := l.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	runUntilDone(t, l, f)
}

func runUntilDone(t *testing.T, l *location.Location, f func(l *location.Location)) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- l.Run(ctx) }()
	f(l)
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Run: %v", err)
	}
}

var errDisk = errors.New("disk full")

// flaky is a store whose disk is full while full is set.
type flaky struct {
	location.Memory
	mu   sync.Mutex
	full bool
	puts int
}

func (f *flaky) fill(full bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.full = full
}

func (f *flaky) tries() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.puts
}

func (f *flaky) try() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.puts++
	if f.full {
		return errDisk
	}
	return nil
}

func (f *flaky) Put(key string, value []byte) error {
	if err := f.try(); err != nil {
		return err
	}
	return f.Memory.Put(key, value)
}

func (f *flaky) Delete(key string) error {
	if err := f.try(); err != nil {
		return err
	}
	return f.Memory.Delete(key)
}
