package sipproxy

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"sallyport/core/upstream"
)

// A PBX may call an address-of-record of which it holds no binding: the last
// sentences of decision 11.

// callWays are how a PBX says "alice of the domain that you serve for me".
var callWays = []string{"sip:alice@" + advertise, "sip:alice@10.0.0.5", "sip:alice@example.com", "sip:alice@EXAMPLE.com:5060;user=phone"}

func TestD11_AnAORWithoutBindingIsCalledAtAllItsDevices(t *testing.T) {
	each(t, []int{1, 2}, func(t *testing.T, w *town, phones []*phone) {
		for _, ph := range phones {
			ph.awake()
		}
		for i, uri := range callWays {
			c := w.callsAt(uri, fmt.Sprintf("call-%d", i))
			for _, ph := range phones {
				inv := ph.rings(c.id)
				c.hears("SIP/2.0 180")
				ph.refuses(inv, 486)
			}
			c.ends(486)
			w.pbx.silence()
		}
	})
}

func TestD11_AnAORWithoutBindingWakesAllItsDevices(t *testing.T) {
	each(t, []int{1, 2}, func(t *testing.T, w *town, phones []*phone) {
		for _, ph := range phones {
			ph.asleep()
		}
		c := w.callsAt("sip:alice@"+advertise, "call-1")
		w.pushed(len(phones))
		for _, ph := range phones {
			ph.wakes()
			inv := ph.rings("call-1")
			c.hears("SIP/2.0 180")
			ph.refuses(inv, 486)
		}
		c.ends(486)
	})
}

func TestD11_AnAORWithoutDevicesIsNotThere(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		w.phone("bob", "tls").awake()
		for i, uri := range callWays {
			start := time.Now()
			w.refused(uri, fmt.Sprintf("call-%d", i), 480)
			if took := time.Since(start); took != 0 {
				t.Errorf("%s waited %v", uri, took)
			}
		}
		w.refused("sip:bob@elsewhere.example", "call-x", 404) // bob of nowhere we serve
		w.refused("sip:alice@demo.example", "call-y", 404)    // whose users call one another
		w.pushed(0)
	})
}

func TestD11_APBXSpeaksForItsOwnDomainAlone(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		other := newScript(t, "the other PBX", nil)
		w.stopCore()
		w.cfg.Domains = append(w.cfg.Domains, Domain{Name: "example.net", UpstreamExpires: time.Hour})
		w.outward = func(c *upstream.Config) {
			c.Upstreams["example.net"] = []string{"sip:10.0.0.8:5060"}
			first := c.DialTCP
			c.DialTCP = func(ctx context.Context, address string) (net.Conn, error) {
				if address != "10.0.0.8:5060" {
					return first(ctx, address)
				}
				near, far := net.Pipe()
				other.connected(far)
				go other.listen(far)
				return addressed{near, netip.MustParseAddrPort(address)}, nil
			}
		}
		w.startCore()
		pass(5 * time.Second)
		w.tunnelUp()
		ph := w.phone("alice", "tls").awake() // of example.com
		for uri, want := range map[string]string{"sip:alice@" + advertise: "480", "sip:alice@example.net": "480", "sip:alice@example.com": "404"} {
			seq++
			name := fmt.Sprintf("other%d", seq)
			inv := with(w.asks("INVITE", uri, name, "Contact: <sip:x@10.0.0.8>"), "Via", "SIP/2.0/TCP 10.0.0.8:5060;branch=z9hG4bK"+name)
			other.say(inv...)
			other.hears("SIP/2.0 " + want)
			other.say(inviteOf(inv, "ACK")...)
		}
		ph.silence()
		c := w.callsAt("sip:alice@"+advertise, "call-1")
		ph.refuses(ph.rings("call-1"), 486)
		c.hears("SIP/2.0 180")
		c.ends(486)
	})
}
