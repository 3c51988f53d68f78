package sipproxy

import (
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/core/location"
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

// slowStore is a store that has lost its cluster: each write takes 3 s while
// slow is set.
type slowStore struct {
	location.Store
	slow atomic.Bool
}

func (s *slowStore) Put(key string, value []byte) error { s.wait(); return s.Store.Put(key, value) }
func (s *slowStore) Delete(key string) error            { s.wait(); return s.Store.Delete(key) }

func (s *slowStore) wait() {
	if s.slow.Load() {
		time.Sleep(3 * time.Second)
	}
}

// slowly has the store of a town take its time from now on.
func (w *town) slowly() *slowStore {
	s := &slowStore{Store: w.store}
	w.store = s
	w.restart()
	s.slow.Store(true)
	return s
}

// authorized connects a phone of the stand-alone domain, and is its REGISTER
// with the answer to a challenge.
func (ph *phone) authorized(extra ...string) []string {
	ph.w.t.Helper()
	ph.domain = "demo.example"
	if ph.script == nil {
		ph.connects()
	}
	ph.say(ph.register()...)
	challenge := first(ph.hears("SIP/2.0 401"), "WWW-Authenticate")
	return ph.register(append(extra, digest(challenge, ph.user, "secret-"+ph.user, "REGISTER", "sip:demo.example"))...)
}

// hearsAtLast is hears after what says that an answer takes its time.
func (s *script) hearsAtLast(start string) string {
	s.t.Helper()
	s.mu.Lock()
	for len(s.heard) > 1 && strings.HasPrefix(s.heard[0], "SIP/2.0 100") {
		s.heard = s.heard[1:]
	}
	s.mu.Unlock()
	return s.hears(start)
}

func TestNoFlowWaitsForTheStoreOnAccountOfAnother(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		store := w.slowly()
		store.slow.Store(false)
		ph, sleeper := w.phone("alice", "tls").awake(), w.phone("alice2", "wss").awake()
		lone := w.phone("bob", "tls")
		lone.joins(0)
		store.slow.Store(true)
		start := time.Now()
		ph.say(ph.register()...) // a refresh
		ph.hears("SIP/2.0 200")
		for _, name := range []string{"bob2", "bob3", "bob4", "bob5"} { // more than there are workers
			bob := w.phone(name, "tls")
			bob.say(bob.authorized()...)
			bob.silence() // its 200 waits for the store
			defer bob.hearsAtLast("SIP/2.0 200")
		}
		sleeper.say(sleeper.asks("OPTIONS", "sip:example.com")...)
		sleeper.hears("SIP/2.0 200")
		lone.say(lone.asks("OPTIONS", "sip:demo.example")...)
		lone.hears("SIP/2.0 200")
		if took := time.Since(start); took != 0 {
			t.Errorf("others waited %v for the store", took)
		}
		pass(25 * time.Second)
	})
}

func TestRegistrationsOfADeviceAreAnsweredInOrder(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		w.slowly()
		bob := w.phone("bob", "tls")
		one, two := bob.authorized(), bob.authorized("Expires: 0")
		bob.say(one...)
		pass(time.Second)
		bob.say(two...)
		pass(20 * time.Second)
		for _, want := range [][]string{one, two} {
			ok := bob.hearsAtLast("SIP/2.0 200")
			if got, asked := first(ok, "CSeq"), first(strings.Join(want, "\r\n"), "CSeq"); got != asked {
				t.Errorf("%s is the answer to %s, want %s", firstLine(ok), got, asked)
			}
		}
	})
}

func TestPN10_R4_AnInviteNeverPrecedesThe2xxToRegister(t *testing.T) {
	each(t, []int{1}, func(t *testing.T, w *town, phones []*phone) {
		ph := phones[0]
		for _, push := range []string{ph.push, ""} { // a device without a token is waited for (B30)
			ph.push = push
			store := w.slowly()
			ph.connects().say(ph.register()...)
			w.accepts()
			ph.silence() // the store has not got it yet
			id := "call" + push
			c := w.calls(id)
			ph.silence()
			w.pbx.silence()
			pass(3 * time.Second)
			ph.hearsOf(ph.callID, "SIP/2.0 200")
			ph.refuses(ph.rings(id), 486)
			c.hears("SIP/2.0 180")
			c.ends(486)
			store.slow.Store(false)
			ph.say(ph.register("Expires: 0")...)
			w.accepts()
			ph.hears("SIP/2.0 200")
			ph.sleeps()
		}
	})
}

func TestR10_AnOlderRegistersAnswerTakesNothingBack(t *testing.T) {
	for name, older := range map[string]struct {
		extra   []string
		contact string
	}{
		"a registration":           {},
		"one that leaves":          {extra: []string{"Expires: 0"}},
		"one that takes all away":  {extra: []string{"Expires: 0"}, contact: "*"},
		"one of another lifetime":  {extra: []string{"Expires: 1200"}},
		"one that is on this flow": {contact: "same flow"},
	} {
		t.Run(name, func(t *testing.T) {
			inTown(t, func(t *testing.T, w *town) {
				ph := w.phone("alice", "tls").connects()
				one := *ph
				if one.contact = older.contact; older.contact == "same flow" {
					one.contact = ""
				}
				one.say(one.register(older.extra...)...)
				late := w.pbx.hears("REGISTER")
				if older.contact != "same flow" {
					one.sleeps()
					ph.connects()
				}
				ph.registers()
				w.pbx.say(reply(late, 200)...)
				pass(time.Second)
				dev, ok := w.loc.Device(ph.id())
				if !ok || dev.Flow() == "" || w.proxy.State(dev).String() != "foreground" {
					t.Fatalf("known %v, %v", ok, w.proxy.State(dev))
				}
				if left := time.Until(dev.Bindings[0].Expires); left > 10*time.Minute {
					t.Errorf("bound for %v", left)
				}
				if older.contact == "same flow" {
					ph.hears("SIP/2.0 200")
				}
				c := w.calls("call-1")
				ph.refuses(ph.rings("call-1"), 486)
				c.hears("SIP/2.0 180")
				c.ends(486)
			})
		})
	}
}

func TestR10_AnOlderRegistersAnswerDoesNotBringBackWhoLeft(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "tls").connects()
		ph.say(ph.register()...)
		late := w.pbx.hears("REGISTER")
		ph.say(ph.register("Expires: 0")...)
		w.accepts()
		ph.hears("SIP/2.0 200")
		w.pbx.say(reply(late, 200)...)
		ph.hears("SIP/2.0 200")
		if _, ok := w.loc.Device(ph.id()); ok {
			t.Error("B29: who left is still there")
		}
	})
}

func TestR10_ADeadFlowDoesNotReplaceALiveOne(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "tls").awake()
		other := *ph
		other.connects().say(other.register()...)
		late := w.pbx.hears("REGISTER")
		other.sleeps()
		w.pbx.say(reply(late, 200)...)
		c := w.calls("call-1")
		ph.refuses(ph.rings("call-1"), 486)
		c.hears("SIP/2.0 180")
		c.ends(486)
		ph.sleeps()
		other.connects().say(other.register()...) // the same, but nobody is there
		late = w.pbx.hears("REGISTER")
		other.sleeps()
		w.pbx.say(reply(late, 200)...)
		synctest.Wait()
		if dev, _ := w.loc.Device(ph.id()); w.proxy.State(dev).String() != "suspended" {
			t.Errorf("the device is %v", w.proxy.State(dev))
		}
	})
}
