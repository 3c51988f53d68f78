package sipproxy

import (
	"testing"
	"time"

	"sallyport/core/location"
)

// R3 to R6, R9, R17 and R18: what the REGISTERs of a device that wakes can be.

// threeRegisters sends what iOS clients send after one push: without
// credentials, with them, and from another start of the app. It answers the
// first two, and returns what the phone heard of calls in between.
func threeRegisters(w *town, ph *phone) (third string) {
	ph.connects()
	first, second := ph.register(), ph.register("Authorization: Digest username=alice")
	was := ph.callID
	ph.callID = was + "-of-another-start"
	again := ph.register()
	ph.write(message(first...), message(second...), message(again...))
	one, two := w.pbx.hearsOf(was, "REGISTER"), w.pbx.hearsOf(was, "REGISTER")
	third = w.pbx.hearsOf(ph.callID, "REGISTER")
	w.pbx.say(reply(one, 401)...)
	ph.hears("SIP/2.0 401")
	ph.silence()
	w.pbx.say(reply(two, 200)...)
	ph.hears("SIP/2.0 200")
	return third
}

func TestR3_ThreeRegistersAfterOnePushBringOneInvite(t *testing.T) {
	forEachCrew(t, func(_ *testing.T, w *town, ph *phone) {
		w.atOnce("call-1")
		w.pbx.say(reply(threeRegisters(w, ph), 200)...)
		ph.hears("SIP/2.0 200")
		ph.silence()
		w.pushed(0)
	}, func(t *testing.T, w *town, phones []*phone) {
		w.asleep(phones)
		c := w.calls("call-1")
		var invites []string
		for _, ph := range phones {
			third := threeRegisters(w, ph)
			invites = append(invites, ph.rings("call-1"))
			w.pbx.say(reply(third, 200)...)
			ph.hears("SIP/2.0 200") // B20: a refresh on the same flow
			ph.silence()
			c.hears("SIP/2.0 180")
		}
		phones[0].answers(invites[0])
		c.answered(phones[0])
		for i, ph := range phones[1:] {
			ph.hangsUp(invites[i+1])
		}
		w.pushed(len(phones))
	})
}

func TestR4_RegisterBeforeThePushCallReturns(t *testing.T) {
	forEachCrew(t, comesTooLate, func(t *testing.T, w *town, phones []*phone) {
		w.asleep(phones)
		w.pushes.delay = 2 * time.Second
		c := w.calls("call-1")
		var invites []string
		for _, ph := range phones {
			ph.wakes()
			invites = append(invites, ph.rings("call-1"))
			c.hears("SIP/2.0 180")
		}
		pass(3 * time.Second)
		phones[0].answers(invites[0])
		c.answered(phones[0])
		phones[0].silence()
		for i, ph := range phones[1:] {
			ph.hangsUp(invites[i+1])
		}
		w.pushed(len(phones))
	})
}

// challenged sends a REGISTER that the PBX asks credentials for.
func (ph *phone) challenged() {
	ph.w.t.Helper()
	ph.say(ph.register()...)
	req := ph.w.pbx.hearsOf(ph.callID, "REGISTER")
	ph.w.pbx.say(reply(req, 401, `WWW-Authenticate: Digest realm="x", nonce="n"`)...)
	ph.hears("SIP/2.0 401")
}

func TestPN12_R5_AChallengeFreesNobody(t *testing.T) {
	forEachCrew(t, func(_ *testing.T, w *town, ph *phone) {
		ph.connects().challenged()
		w.atOnce("call-1") // a challenge binds nothing
		ph.registers()
		ph.silence()
		w.pushed(0)
	}, func(t *testing.T, w *town, phones []*phone) {
		w.asleep(phones)
		c := w.calls("call-1")
		for _, ph := range phones {
			ph.connects()
			for range 2 {
				ph.challenged()
				ph.silence()
			}
		}
		for _, ph := range phones {
			ph.registers()
			inv := ph.rings("call-1")
			c.hears("SIP/2.0 180")
			ph.refuses(inv, 486)
		}
		c.ends(486)
		w.pushed(len(phones))
	})
}

func TestR6_AForbiddenRegisterEndsTheWaitNow(t *testing.T) {
	forbidden := func(w *town, ph *phone) {
		w.pbx.say(reply(ph.pending(credentials), 403)...)
		ph.hears("SIP/2.0 403")
	}
	forEachCrew(t, func(_ *testing.T, w *town, ph *phone) {
		forbidden(w, ph)
		w.atOnce("call-1")
		ph.silence()
		w.pushed(0)
	}, func(t *testing.T, w *town, phones []*phone) {
		w.asleep(phones)
		start := time.Now()
		c := w.calls("call-1")
		for _, ph := range phones {
			w.pbx.silence() // while one may still come
			forbidden(w, ph)
		}
		c.ends(480)
		w.took(start, time.Second)
	})
}

func TestR9_ADeviceThatComesTooLateHearsNothing(t *testing.T) {
	forEachCrew(t, func(t *testing.T, w *town, ph *phone) {
		w.atOnce("call-1")
		pass(13 * time.Second)
		ph.wakes()
		ph.silence()
		w.pushed(0)
	}, func(t *testing.T, w *town, phones []*phone) {
		w.asleep(phones)
		c := w.calls("call-1")
		pass(13 * time.Second)
		c.ends(480)
		w.pushed(len(phones), missed(len(phones))...)
		for _, ph := range phones {
			ph.wakes()
			ph.silence()
		}
		w.pushed(len(phones), missed(len(phones))...)
	})
}

func TestR17_UnregisteringEndsTheWait(t *testing.T) {
	leaves := func(w *town, ph *phone) {
		ph.connects().say(ph.register("Expires: 0")...)
		w.accepts()
		ph.hears("SIP/2.0 200")
		ph.silence()
	}
	forEachCrew(t, func(t *testing.T, w *town, ph *phone) {
		leaves(w, ph) // and it is no error to leave without having been there
		w.atOnce("call-1")
		w.pushed(0)
	}, func(t *testing.T, w *town, phones []*phone) {
		w.asleep(phones)
		start := time.Now()
		c := w.calls("call-1")
		for _, ph := range phones {
			leaves(w, ph)
		}
		c.ends(480)
		w.took(start, 0)
		w.pushed(len(phones)) // B29: and nothing is pushed any more
		w.refused(aliceAOR, "call-2", 480)
		w.pushed(len(phones))
		if n, _ := w.loc.Count(); n != 0 {
			t.Errorf("%d devices are kept", n)
		}
	})
}

// A token that moves to another user is the phone of another user now: it must
// not be shown the calls of the one before.
func TestR18_ATokenThatMovedToAnotherAORIsPushedForThatOneAlone(t *testing.T) {
	takesOver := func(w *town, ph *phone) *phone {
		bob := w.phone("bob", ph.transport)
		bob.push = ph.push
		return bob.asleep()
	}
	bobRings := func(w *town, bob *phone, before int, notes ...string) {
		w.t.Helper()
		d := w.callsAt("sip:"+w.token(bob)+"@"+advertise, "for-bob")
		w.pushed(before+1, notes...)
		if to := w.pushes.calls[before].To; to != bob.aor() {
			w.t.Errorf("the push is for %s", to)
		}
		bob.wakes()
		bob.refuses(bob.rings("for-bob"), 486)
		d.hears("SIP/2.0 180")
		d.ends(486)
	}
	forEachCrew(t, func(t *testing.T, w *town, ph *phone) {
		bob := takesOver(w, ph)
		w.atOnce("call-1")
		w.pushed(0)
		bobRings(w, bob, 0)
	}, func(t *testing.T, w *town, phones []*phone) {
		w.asleep(phones)
		bob := takesOver(w, phones[0])
		if len(phones) == 1 {
			w.calls("call-1").ends(480) // gone: neither flow nor token
			bobRings(w, bob, 0)
			return
		}
		c := w.calls("call-1")
		w.pushed(1) // alice's other phone
		bobRings(w, bob, 1)
		phones[1].wakes()
		phones[1].refuses(phones[1].rings("call-1"), 486)
		c.hears("SIP/2.0 180")
		c.ends(486)
	})
}

func TestR18_ATokenThatMovesWhileACallWaitsIsPushedOnceAndItsCallEnds(t *testing.T) {
	forEachCrew(t, comesTooLate, func(t *testing.T, w *town, phones []*phone) {
		w.asleep(phones)
		c := w.calls("call-1")
		w.pushed(len(phones))
		bob := w.phone("bob", phones[0].transport)
		bob.push = phones[0].push
		bob.wakes()
		bob.silence() // alice's call is not bob's
		pass(13 * time.Second)
		c.ends(480)
		w.pushed(len(phones), missed(len(phones)-1)...) // and bob's phone is not told of it
		if dev, _ := w.loc.Device(phones[0].id()); len(dev.Tokens) != 0 {
			t.Errorf("alice still has %d tokens", len(dev.Tokens))
		}
	})
}

// A reinstalled app is another instance with the same token.
func TestR18_OneTokenOnTwoInstancesOfOneAORIsPushedOnce(t *testing.T) {
	forEachCrew(t, comesTooLate, func(t *testing.T, w *town, phones []*phone) {
		w.asleep(phones)
		old := phones[0]
		reinstalled := w.phone("alice4", old.transport)
		reinstalled.push = old.push
		reinstalled.asleep()
		c := w.calls("call-1")
		w.pushed(len(phones))
		for _, ph := range append([]*phone{reinstalled}, phones[1:]...) {
			ph.wakes()
			ph.refuses(ph.rings("call-1"), 486)
			c.hears("SIP/2.0 180")
		}
		c.ends(486)
		if dev, _ := w.loc.Device(location.DeviceID{AOR: aliceAOR, Instance: old.urn}); len(dev.Tokens) != 0 {
			t.Errorf("the old instance still has %d tokens", len(dev.Tokens))
		}
	})
}
