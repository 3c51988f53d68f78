package interop

import (
	"context"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sallyport/test/phone"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if binariesBuilt.Load() {
			if dir, _ := build(); dir != "" {
				os.RemoveAll(dir)
			}
		}
		os.Exit(code)
	}))
}

// within bounds one story.
func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// desk is a phone of ours inside, directly at the PBX.
func desk(t *testing.T, k *Kamailio, user string) *phone.Phone {
	t.Helper()
	p := phone.New(phone.Config{AOR: "sip:" + user + "@" + k.Domain, Password: Users[user], Transport: phone.TCP, Addr: k.Addr})
	must(t, p.Connect(t.Context()))
	t.Cleanup(p.Close)
	return p
}

// incoming waits for the next call at p.
func incoming(t *testing.T, ctx context.Context, p *phone.Phone) *phone.Incoming {
	t.Helper()
	select {
	case in := <-p.Calls():
		return in
	case <-ctx.Done():
		t.Fatalf("%s was not called: %v", p.AOR(), context.Cause(ctx))
		return nil
	}
}
