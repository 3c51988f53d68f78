package sipproxy

import (
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"strings"
	"testing"
)

// A stand-alone domain: no PBX, the core is the registrar (decision 9).

// digest answers a challenge.
func digest(challenge, user, password, method, uri string) string {
	sum := func(h hash.Hash, s string) string { h.Write([]byte(s)); return hex.EncodeToString(h.Sum(nil)) }
	newHash, alg := sha256.New, "SHA-256"
	if strings.Contains(challenge, "MD5") {
		newHash, alg = md5.New, "MD5"
	}
	param := func(name string) string {
		_, v, _ := strings.Cut(challenge, name+`="`)
		v, _, _ = strings.Cut(v, `"`)
		return v
	}
	ha1 := sum(newHash(), user+":"+param("realm")+":"+password)
	response := sum(newHash(), ha1+":"+param("nonce")+":00000001:c:auth:"+sum(newHash(), method+":"+uri))
	return fmt.Sprintf(`Authorization: Digest username="%s", realm="%s", nonce="%s", uri="%s", response="%s", algorithm=%s, qop=auth, nc=00000001, cnonce="c"`,
		user, param("realm"), param("nonce"), uri, response, alg)
}

// joins registers a phone in the stand-alone domain, by the nth challenge.
func (ph *phone) joins(n int) {
	ph.w.t.Helper()
	ph.domain = "demo.example"
	ph.connects().say(ph.register()...)
	challenges := header(ph.hears("SIP/2.0 401"), "WWW-Authenticate")
	if len(challenges) != 2 || !strings.Contains(challenges[0], "SHA-256") || !strings.Contains(challenges[1], "MD5") {
		ph.w.t.Fatalf("challenges %q", challenges)
	}
	ph.say(ph.register(digest(challenges[n], ph.user, "secret-"+ph.user, "REGISTER", "sip:demo.example"))...)
	ph.hears("SIP/2.0 200")
	pass(1)
}

// talk has alice call bob, and returns how each side's requests look then.
func talk(t *testing.T, alice, bob *phone) (fromAlice, fromBob func(method string) []string) {
	t.Helper()
	alice.say(alice.dials("sip:bob@demo.example", "talk", "P-Asserted-Identity: <sip:boss@demo.example>", "P-Preferred-Identity: <sip:alice@demo.example>")...)
	alice.hears("SIP/2.0 100")
	inv := bob.rings("talk")
	if strings.Contains(inv, "pn-") || first(inv, "P-Asserted-Identity") != "" || first(inv, "P-Preferred-Identity") != "" {
		t.Errorf("bob hears of alice\n%s", inv)
	}
	if len(header(inv, "Via")) != 1 {
		t.Errorf("Via %q", header(inv, "Via"))
	}
	alice.hears("SIP/2.0 180")
	bob.answers(inv)
	ok := alice.hears("SIP/2.0 200")
	if strings.Contains(ok, "pn-") {
		t.Error("bob's push tokens went to alice")
	}
	rr := header(ok, "Record-Route")
	if len(rr) != 2 {
		t.Fatalf("Record-Route %q, want two", rr)
	}
	n := 1
	request := func(from *phone, to, fromH, toH string, route []string) func(string) []string {
		return func(method string) []string {
			n++
			req := from.asks(method, to)
			req = with(with(with(req, "From", fromH), "To", toH), "Call-ID", "talk")
			for _, r := range route {
				req = append(req, "Route: "+r)
			}
			return req
		}
	}
	fromAlice = request(alice, bob.uri(), first(ok, "From"), first(ok, "To"), []string{rr[1], rr[0]})
	fromBob = request(bob, alice.uri(), first(ok, "To"), first(ok, "From"), []string{rr[0], rr[1]})
	alice.say(fromAlice("ACK")...)
	if ack := bob.hears("ACK " + bob.uri()); len(header(ack, "Route")) != 0 {
		t.Errorf("Route %q in the ACK", header(ack, "Route"))
	}
	return fromAlice, fromBob
}

func TestD9_TwoClientsCallEachOther(t *testing.T) {
	for _, transports := range [][2]string{{"tls", "wss"}, {"wss", "tls"}, {"wss", "wss"}} {
		for _, hangsUp := range []string{"alice", "bob"} {
			inTown(t, func(t *testing.T, w *town) {
				alice, bob := w.phone("alice", transports[0]), w.phone("bob", transports[1])
				alice.joins(0)
				bob.joins(1)
				fromAlice, fromBob := talk(t, alice, bob)
				alice.say(fromAlice("INVITE")...) // a re-INVITE
				alice.hears("SIP/2.0 100")
				bob.answers(bob.hears("INVITE " + bob.uri()))
				alice.hears("SIP/2.0 200")
				alice.say(fromAlice("ACK")...)
				bob.hears("ACK")
				from, to, make := alice, bob, fromAlice
				if hangsUp == "bob" {
					from, to, make = bob, alice, fromBob
				}
				from.say(make("BYE")...)
				bye := to.hears("BYE " + to.uri())
				if len(header(bye, "Via")) != 1 || len(header(bye, "Route")) != 0 {
					t.Errorf("BYE: Via %q, Route %q", header(bye, "Via"), header(bye, "Route"))
				}
				to.say(reply(bye, 200)...)
				from.hears("SIP/2.0 200")
				alice.silence()
				bob.silence()
				if w.pbx != nil {
					w.pbx.silence()
				}
			})
		}
	}
}

func TestD9_AByeFindsTheOtherOnItsNextFlow(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		alice, bob := w.phone("alice", "tls"), w.phone("bob", "wss")
		alice.joins(0)
		bob.joins(0)
		fromAlice, _ := talk(t, alice, bob)
		bob.sleeps()
		alice.say(fromAlice("BYE")...)
		bob.joins(0)
		bob.say(reply(bob.hears("BYE"), 200)...)
		alice.hears("SIP/2.0 200")
	})
}

func TestD9_WhoIsNotThere(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		alice := w.phone("alice", "tls")
		alice.joins(0)
		for uri, status := range map[string]string{
			"sip:nobody@demo.example": "404", "sip:bob@demo.example": "480", "sip:bob@elsewhere.example": "404",
			"sip:carol@example.com": "404", "tel:+4930123": "404", "sip:alice@demo.example": "480",
		} {
			out := alice.dials(uri, uri)
			alice.say(out...)
			if got := alice.hears("SIP/2.0 "); !strings.HasPrefix(got, "SIP/2.0 "+status) {
				t.Errorf("%s: %q, want %s", uri, firstLine(got), status)
			}
			alice.say(inviteOf(out, "ACK")...)
			alice.silence()
		}
	})
}

func TestD9_WrongCredentialsAreChallengedAndOthersForbidden(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "tls")
		ph.domain = "demo.example"
		ph.connects().say(ph.register()...)
		challenge := first(ph.hears("SIP/2.0 401"), "WWW-Authenticate")
		ph.say(ph.register(digest(challenge, "alice", "wrong", "REGISTER", "sip:demo.example"))...)
		fresh := first(ph.hears("SIP/2.0 401"), "WWW-Authenticate")
		ph.say(ph.register(digest(fresh, "bob", "secret-bob", "REGISTER", "sip:demo.example"))...)
		ph.hears("SIP/2.0 403") // bob, but not for alice's AOR
		if n, _ := w.loc.Count(); n != 0 {
			t.Errorf("%d devices are bound", n)
		}
	})
}

func TestPX6_D9_ACallForksToEveryDeviceAndTheLoserIsTold(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		alice, one, two := w.phone("alice", "tls"), w.phone("bob", "tls"), w.phone("bob2", "wss")
		alice.joins(0)
		one.joins(0)
		two.joins(1)
		alice.say(alice.dials("sip:bob@demo.example", "fork")...)
		alice.hears("SIP/2.0 100")
		won, lost := one.rings("fork"), two.rings("fork")
		alice.hears("SIP/2.0 180")
		alice.hears("SIP/2.0 180")
		one.answers(won)
		alice.hears("SIP/2.0 200")
		if got := first(two.hangsUp(lost), "Reason"); got != reasonElsewhere {
			t.Errorf("PX-6: Reason %q, want %q", got, reasonElsewhere)
		}
		alice.silence()
	})
}

func TestD9_ASleepingPhoneIsWokenByAnother(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		alice, bob := w.phone("alice", "tls"), w.phone("bob", "wss")
		alice.joins(0)
		bob.joins(0)
		bob.sleeps()
		alice.say(alice.dials("sip:bob@demo.example", "wake")...)
		alice.hears("SIP/2.0 100")
		w.pushed(1)
		bob.joins(0)
		inv := bob.rings("wake")
		alice.hears("SIP/2.0 180")
		bob.answers(inv)
		alice.hears("SIP/2.0 200")
	})
}

func TestD9_CancelFromAClient(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		alice, bob := w.phone("alice", "tls"), w.phone("bob", "wss")
		alice.joins(0)
		bob.joins(0)
		out := alice.dials("sip:bob@demo.example", "c")
		alice.say(out...)
		alice.hears("SIP/2.0 100")
		inv := bob.rings("c")
		alice.hears("SIP/2.0 180")
		alice.say(inviteOf(out, "CANCEL", "Reason: SIP;cause=487")...)
		alice.hears("SIP/2.0 200")
		if got := first(bob.hangsUp(inv), "Reason"); got != "SIP;cause=487" {
			t.Errorf("Reason %q", got)
		}
		alice.hears("SIP/2.0 487")
		alice.say(inviteOf(out, "ACK")...)
	})
}
