package tunnel_test

import (
	"context"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/tunnel"
)

// twoServices is an edge with a core for SIP and XMPP, and then another for
// services.
func twoServices(t *testing.T, services ...string) (a *tunnel.Acceptor, both *tunnel.Dialer, one, two *pbx) {
	r, names := newRoom(t), make(chan string, 2)
	ec := edge("")
	ec.Handshake = func(_ context.Context, c net.Conn) (net.Conn, string, error) { return c, <-names, nil }
	a = tunnel.NewAcceptor(ec)
	start(t, func(ctx context.Context) error { return a.Serve(ctx, r) })
	core := func(name string, b *pbx, takes []string) *tunnel.Dialer {
		names <- name
		dc := r.core(name, b.open)
		dc.Services = takes
		d := tunnel.NewDialer(dc)
		start(t, d.Run)
		synctest.Wait()
		return d
	}
	one, two = &pbx{}, &pbx{}
	both = core("core1", one, []string{"sip", "xmpp"})
	core("core2", two, services)
	return a, both, one, two
}

func TestFlowsGoToCoresThatTakeTheirService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _, one, two := twoServices(t, "sip")
		if !a.Serves("sip") || !a.Serves("xmpp") || a.Serves("h323") {
			t.Error("it is not known what the cores take")
		}
		for id := range byte(5) {
			if _, err := a.Open(tunnel.Info{UUID: [16]byte{id}, Service: "xmpp"}, newClient()); err != nil {
				t.Fatal(err)
			}
		}
		open(t, a, 9, newClient()) // to the one with fewer
		synctest.Wait()
		if one.count() != 5 || two.count() != 1 {
			t.Errorf("%d and %d flows", one.count(), two.count())
		}
		if _, err := a.Open(tunnel.Info{Service: "h323"}, newClient()); !errors.Is(err, tunnel.ErrNoCore) {
			t.Errorf("a service of nobody: %v", err)
		}
	})
}

// TU-16 with services: a core that leaves sends its clients away only where
// another takes all that it took; else they are kept until it is back.
func TestTU16_CoreOfAnotherServiceIsNoSpare(t *testing.T) {
	for name, c := range map[string]struct {
		services []string
		spare    bool
	}{"sip": {[]string{"sip"}, false}, "both": {[]string{"xmpp", "sip"}, true}, "any": {nil, true}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, both, _, _ := twoServices(t, c.services...)
				phones := [2]*client{newClient(), newClient()} // at least one of them is with the core that leaves
				for i, phone := range phones {
					if _, err := a.Open(tunnel.Info{UUID: [16]byte{byte(i)}, Service: "xmpp"}, phone); err != nil {
						t.Fatal(err)
					}
				}
				synctest.Wait()
				if err := both.Drain(t.Context()); err != nil {
					t.Fatal(err)
				}
				both.Release(t.Context())
				time.Sleep(time.Second)
				if got := len(phones[0].codes())+len(phones[1].codes()) > 0; got != c.spare {
					t.Errorf("sent away: %v", got)
				}
			})
		})
	}
}
