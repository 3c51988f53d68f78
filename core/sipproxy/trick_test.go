package sipproxy

import (
	"fmt"
	"testing"
	"time"
)

func TestAFakeDialogReachesNobody(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		alice, bob := w.phone("alice", "tls"), w.phone("bob", "wss")
		alice.joins(0)
		bob.joins(0)
		_, fromBob := talk(t, alice, bob)
		for _, method := range []string{"MESSAGE", "INVITE", "NOTIFY", "ACK"} {
			lie := with(with(fromBob(method), "Call-ID", "invented"), "From", `"The CEO" <sip:ceo@demo.example>;tag=1`)
			bob.say(lie...)
			if method != "ACK" {
				bob.hears("SIP/2.0 403")
			}
		}
		alice.silence()
	})
}

func TestTheSealOfOneDialogDoesNotLeadToAnotherInstance(t *testing.T) {
	each(t, []int{2}, func(t *testing.T, w *town, phones []*phone) {
		ph := phones[1].awake()
		ok := w.dialog(ph)
		victim := phones[0].awake()
		lie := without(ph.inDialog("INFO", ok, sealedIn(ok)), "Route")
		ph.say(append(lie, "Route: <sip:"+sealedIn(ok)+"@"+public+";lr>", "Route: <sip:"+w.token(victim)+"@"+public+";lr>")...)
		w.pbx.hears("INFO") // to the PBX, as the seal says, with the rest of the Route
		victim.silence()
	})
}

func TestAnIdentityThatIsNotTheFlowsIsForbiddenWhereverItStands(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "tls").awake()
		for _, lie := range [][]string{
			{"P-Preferred-Identity: <sip:ceo@example.com>"},
			{"P-Preferred-Identity: <sip:alice@example.com>", "P-Preferred-Identity: <sip:ceo@example.com>"},
		} {
			ph.say(ph.asks("MESSAGE", "sip:carol@example.com", lie...)...)
			ph.hears("SIP/2.0 403")
			anonymous := with(ph.asks("MESSAGE", "sip:carol@example.com", lie...), "From", "<sip:anonymous@anonymous.invalid>;tag=1")
			ph.say(anonymous...)
			ph.hears("SIP/2.0 403")
		}
		w.pbx.silence()
	})
}

func TestACalleeDoesNotGetTheCallersCredentials(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		alice, bob := w.phone("alice", "tls"), w.phone("bob", "wss")
		alice.joins(0)
		bob.joins(0)
		bob.say(bob.dials("sip:alice@demo.example", "c", `Proxy-Authorization: Digest username="bob", response="0"`)...)
		bob.hears("SIP/2.0 100")
		inv := alice.rings("c")
		bob.hears("SIP/2.0 180")
		if first(inv, "Proxy-Authorization") != "" {
			t.Error("bob's credentials went to alice")
		}
		alice.say(reply(inv, 407, `Proxy-Authenticate: Digest realm="demo.example", nonce="chosen"`)...)
		alice.hears("ACK")
		if m := bob.hears("SIP/2.0 480"); first(m, "Proxy-Authenticate") != "" {
			t.Error("alice's challenge went to bob")
		}
	})
}

func TestB28_MissedCallsOfOneMinuteAreBounded(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		w.phone("alice", "tls").asleep()
		held := w.calls("held")
		for i := range 40 {
			c := w.calls(fmt.Sprint("call-", i))
			c.cancels()
			c.ends(487)
		}
		pass(14 * time.Second)
		held.ends(480)
		w.pushes.mu.Lock()
		defer w.pushes.mu.Unlock()
		if n := len(w.pushes.notes); n > maxTold {
			t.Errorf("%d pushes on the Message channel, want at most %d", n, maxTold)
		}
	})
}

func TestACallGoesOnWhenTheCallerChangesNetworks(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		alice, bob := w.phone("alice", "wss"), w.phone("bob", "tls")
		alice.joins(0)
		bob.joins(0)
		alice.say(alice.dials("sip:bob@demo.example", "c")...)
		alice.hears("SIP/2.0 100")
		inv := bob.rings("c")
		alice.hears("SIP/2.0 180")
		alice.sleeps()
		alice.joins(0)
		bob.answers(inv)
		alice.hears("SIP/2.0 200")
		bob.silence()
	})
}

func TestACallerWhoDoesNotComeBackHasHungUp(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		alice, bob := w.phone("alice", "wss"), w.phone("bob", "tls")
		alice.joins(0)
		bob.joins(0)
		alice.say(alice.dials("sip:bob@demo.example", "c")...)
		inv := bob.rings("c")
		alice.sleeps()
		bob.silence()
		pass(5 * time.Second)
		bob.hangsUp(inv)
		bob.silence()
	})
}

func TestB20_APhoneThatHoldsTheOldInviteIsAskedOnceMore(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "wss").awake()
		c := w.calls("call-1")
		ph.say(reply(ph.hears("INVITE"), 100)...)
		ph.sleeps()
		ph.wakes()
		ph.refuses(ph.hears("INVITE"), 482)
		pass(500 * time.Millisecond)
		inv := ph.hears("INVITE")
		ph.say(reply(inv, 180)...)
		c.hears("SIP/2.0 180")
		ph.refuses(inv, 486)
		c.ends(486)
	})
}

func TestOB8_TheInstancesOtherFlowIsTriedWhenOneIsSilent(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		one, two := w.phone("alice", "tls").awake(), w.phone("alice2", "wss")
		two.contact = "<" + two.uri() + two.push + `>;+sip.instance="<` + one.urn + `>";reg-id=2`
		pass(time.Second)
		two.awake()
		c := w.calls("newest")
		inv := two.hears("INVITE") // the newer flow does not answer, and loses the call
		pass(2 * time.Second)
		other := one.hears("INVITE")
		one.say(reply(other, 180)...)
		c.hears("SIP/2.0 180")
		two.say(reply(inv, 100)...) // too late: it is told so
		two.hears("CANCEL")
		one.refuses(other, 486)
		c.ends(486)

		two.fallsSilent()
		c = w.calls("hears")
		one.refuses(one.hears("INVITE"), 486) // at once, since the newer is known to be silent
		c.ends(486)
		w.pushed(2)
	})
}
