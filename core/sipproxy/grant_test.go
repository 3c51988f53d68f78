package sipproxy

import (
	"strings"
	"testing"
)

// What a registrar's word may change, whose word it is, and when it counts.

// credentials are what a client adds once it was challenged.
const credentials = `Authorization: Digest username="alice", realm="example.com", nonce="n", uri="sip:example.com", response="0"`

func TestR6_OnlyTheDevicesOwnRefusalEndsItsWait(t *testing.T) {
	for name, stranger := range map[string]struct {
		status int
		asks   func(ph *phone) []string
	}{
		"a requirement nobody meets": {420, func(ph *phone) []string { return ph.register("Require: nonsense") }},
		"no credentials":             {403, func(ph *phone) []string { return ph.register() }},
		"a PBX that is restarting":   {500, func(ph *phone) []string { return ph.register(credentials) }},
		"a PBX that is overloaded":   {503, func(ph *phone) []string { return ph.register(credentials) }},
		"tokens of its own": {403, func(ph *phone) []string {
			other := *ph
			other.push = strings.ReplaceAll(ph.push, "aaalice", "mallory")
			return other.register(credentials)
		}},
		"some of the tokens": {403, func(ph *phone) []string {
			other := *ph
			other.push, _, _ = strings.Cut(ph.push, "&bb")
			return other.register(credentials)
		}},
		"no tokens": {404, func(ph *phone) []string {
			other := *ph
			other.push = ""
			return other.register(credentials)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			inTown(t, func(t *testing.T, w *town) {
				ph := w.phone("alice", "tls").asleep()
				c := w.calls("call-1")
				mallory := *ph
				mallory.connects().say(stranger.asks(ph)...)
				w.pbx.say(reply(w.pbx.hearsOf(ph.callID, "REGISTER"), stranger.status)...)
				mallory.hears("SIP/2.0 ")
				w.pbx.silence() // the call is held on
				ph.wakes()
				ph.refuses(ph.rings("call-1"), 486)
				c.hears("SIP/2.0 180")
				c.ends(486)
			})
		})
	}
}

func TestAForeignRequestURIBindsNothing(t *testing.T) {
	for _, uri := range []string{"sip:evil.example.net", "sip:demo.example", "sip:alice@10.0.0.9", "tel:+4930123"} {
		inTown(t, func(t *testing.T, w *town) {
			ph := w.phone("alice", "tls").connects()
			lines := ph.register()
			lines[0] = "REGISTER " + uri + " SIP/2.0"
			ph.say(lines...)
			ph.hears("SIP/2.0 404")
			if w.pbx != nil {
				w.pbx.silence()
			}
		})
	}
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "tls").connects()
		lines := ph.register()
		lines[0] = "REGISTER sip:Example.COM:5061;transport=tls SIP/2.0" // the same domain
		ph.say(lines...)
		w.pbx.say(reply(w.pbx.hears("REGISTER sip:Example.COM"), 200)...)
		ph.hears("SIP/2.0 200")
	})
}

func TestD10_NoServiceRouteOfThePBXReachesAClient(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "tls").connects()
		ph.say(ph.register()...)
		w.accepts("Service-Route: <sip:orig@10.0.0.9;lr>", "Path: <sip:10.0.0.5;lr>")
		if ok := ph.hears("SIP/2.0 200"); first(ok, "Service-Route")+first(ok, "Path") != "" {
			t.Errorf("the client is told\n%s", ok)
		}
	})
}
