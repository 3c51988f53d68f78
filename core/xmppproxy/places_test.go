package xmppproxy

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// Who only says hello at twenty flows a second, which an edge allows, does not
// keep everybody else out.
func TestOneAddressCannotTakeAllPlacesOfLogins(t *testing.T) {
	within(t, func(c *Config) { c.Logins = 16 }, func(w *world) {
		enemies := 0
		for range 16 {
			p := w.phone("tls")
			p.say(header)
			if p.end() == "" {
				enemies++
			}
		}
		if enemies != 2 {
			t.Errorf("%d of its logins are under way", enemies)
		}
		w.remote = netip.MustParseAddrPort("198.51.100.7:4000")
		w.phone("tls").logsIn("alice")
		time.Sleep(time.Minute) // the enemy's logins are over, and their places free
		synctest.Wait()
		w.remote = netip.AddrPort{}
		w.phone("tls").logsIn("bob")
	})
}

func TestPlacesAreSharedByANetwork(t *testing.T) {
	p := newPlaces(16)
	for a, want := range map[string]bool{"2001:db8::1": true, "2001:db8::2": true, "2001:db8:0:1::1": true} {
		if got := p.take(netip.MustParseAddr(a)); got != want {
			t.Errorf("%s: %v", a, got)
		}
	}
	if p.take(netip.MustParseAddr("2001:db8::3")) {
		t.Error("a third of one network has a place")
	}
	p.give(netip.MustParseAddr("2001:db8::9"))
	if !p.take(netip.MustParseAddr("::ffff:192.0.2.1")) || !p.take(netip.MustParseAddr("192.0.2.1")) || p.take(netip.MustParseAddr("192.0.2.1")) {
		t.Error("an address has two places, however it is written")
	}
	for _, a := range []string{"2001:db8::1", "2001:db8:0:1::1", "192.0.2.1", "192.0.2.1"} {
		p.give(netip.MustParseAddr(a))
	}
	if p.taken() != 0 || len(p.by) != 0 {
		t.Errorf("%d places are taken, %d addresses known", p.taken(), len(p.by))
	}
}
