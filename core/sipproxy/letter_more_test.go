package sipproxy

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"sallyport/core/location"
)

// Limits of what is held, and users with several devices (ADR 33).

// full takes the answer to a message for which there is no room.
func (w *town) full() {
	w.t.Helper()
	if got := w.pbx.hears("SIP/2.0 480"); !strings.Contains(firstLine(got), "Too Many Messages Held") {
		w.t.Errorf("heard %q", firstLine(got))
	}
}

func TestWhatIsHeldForADeviceIsBoundedAndWhatIsHeldStays(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "tls").asleep()
		for i := range 12 {
			w.pbx.say(w.texts("sip:alice@example.com", []string{"carol", "dave"}[i%2], fmt.Sprint("m", i), 1, "x")...)
		}
		w.hears202(12)
		w.pbx.say(w.texts("sip:alice@example.com", "erin", "m12", 1, "y")...)
		w.full()
		ph.wakes()
		for range 12 {
			ph.reads("x")
		}
		ph.silence()
	})
}

func TestOneSenderDoesNotFillAUsersBox(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "tls").asleep()
		for i := range 6 {
			w.pbx.say(w.texts("sip:alice@example.com", "mallory", fmt.Sprint("m", i), 1, "buy!")...)
		}
		w.hears202(6)
		w.pbx.say(w.texts("sip:alice@example.com", "mallory", "m6", 1, "buy!")...)
		w.full()
		w.pbx.say(w.texts("sip:alice@example.com", "carol", "m7", 1, "hello")...)
		w.hears202(1)
		ph.wakes()
		for range 6 {
			ph.reads("buy!")
		}
		ph.reads("hello")
		ph.silence()
	})
}

// two are two devices of alice.
func two(t *testing.T, story func(t *testing.T, w *town, a, b *phone), with ...func(*Config)) {
	t.Helper()
	inTown(t, func(t *testing.T, w *town) {
		all := w.phones(2, "tls")
		story(t, w, all[0], all[1])
	}, with...)
}

func TestEachDeviceOfAUserGetsACopy(t *testing.T) {
	two(t, func(t *testing.T, w *town, a, b *phone) {
		a.awake()
		b.asleep()
		w.pbx.say(w.texts("sip:alice@example.com", "carol", "m1", 1, "hello")...)
		m := a.hears("MESSAGE")
		w.pushed(0, "message")
		w.pbx.silence() // the best answer is still to come
		a.say(reply(m, 200)...)
		w.pbx.hears("SIP/2.0 200")
		b.wakes()
		b.reads("hello")
		a.silence()
		b.silence()
	})
}

func TestTheSenderHearsTheBestOfTheAnswers(t *testing.T) {
	for _, c := range []struct {
		a, b, want int
	}{{603, 200, 200}, {200, 480, 200}, {603, 480, 202}, {404, 603, 404}} {
		two(t, func(t *testing.T, w *town, a, b *phone) {
			a.awake()
			b.awake()
			w.pbx.say(w.texts("sip:alice@example.com", "carol", "m1", 1, "hello")...)
			a.say(reply(a.hears("MESSAGE"), c.a)...)
			b.say(reply(b.hears("MESSAGE"), c.b)...)
			w.pbx.hears(fmt.Sprint("SIP/2.0 ", c.want))
			w.pbx.silence()
		})
	}
}

// A PBX that forks sends a request per contact; each is answered for itself.
func TestAPBXsBranchesAreEachAnswered(t *testing.T) {
	two(t, func(t *testing.T, w *town, a, b *phone) {
		a.awake()
		b.asleep()
		for _, ph := range []*phone{a, b} {
			w.pbx.say(w.texts("sip:"+w.token(ph)+"@"+advertise, "carol", "m1", 1, "hello")...)
		}
		w.pbx.hears("SIP/2.0 202")
		a.reads("hello")
		w.pbx.hears("SIP/2.0 200")
		b.wakes()
		b.reads("hello")
		a.silence()
	})
}

// What waits for a phone that is gone for good goes to another of the user's,
// but not if that has had it.
func TestR15_WhatWaitsForAPhoneThatIsGoneGoesToAnotherUnlessThatHasHadIt(t *testing.T) {
	two(t, func(t *testing.T, w *town, a, b *phone) {
		a.awake()
		b.asleep()
		w.pbx.say(w.texts("sip:alice@example.com", "carol", "m1", 1, "to both")...)
		a.reads("to both")
		w.pbx.hears("SIP/2.0 200")
		w.pbx.say(w.texts("sip:"+w.token(b)+"@"+advertise, "carol", "m2", 1, "to one")...)
		w.pbx.hears("SIP/2.0 202")
		pass(2 * time.Hour) // longer than anybody remembers
		w.loc.Remove(b.id())
		a.sleeps()
		a.wakes()
		a.reads("to one")
		a.silence()
		b.wakes()
		b.reads("to both")
		b.silence()
		if !w.im.Empty() {
			t.Error("something is held still")
		}
	})
}

// A phone whose token for calls is dead is gone for calls only: its messages are
// pushed, and wait for it.
func TestB19_WhatWaitsForAPhoneWithATokenForMessagesStaysItsOwn(t *testing.T) {
	two(t, func(t *testing.T, w *town, a, b *phone) {
		a.awake()
		b.asleep()
		w.loc.Told(b.id(), location.Answer{Token: location.TokenID{Provider: "apns", Kind: "voip", Value: "aaalice2"}, At: time.Now(), Dead: true})
		w.pbx.say(w.texts("sip:"+w.token(b)+"@"+advertise, "carol", "m1", 1, "for the phone")...)
		w.pbx.hears("SIP/2.0 202")
		w.pushed(0, "message")
		a.silence()
		a.sleeps()
		a.wakes()
		a.silence()
		b.wakes()
		b.reads("for the phone")
	})
}

// A push brings the phone, and it goes back to sleep before it has taken the
// message: its user is not told of that message without end.
func TestB7_APhoneThatWakesAndTakesNothingIsToldLessAndLessOften(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "tls").asleep()
		w.pbx.say(w.texts("sip:alice@example.com", "carol", "m1", 1, "hello")...)
		w.pbx.hears("SIP/2.0 202")
		for start := time.Now(); time.Since(start) < time.Hour; {
			ph.wakes()
			ph.hears("MESSAGE")
			ph.sleeps()
			pass(10 * time.Second)
		}
		if n := len(w.pushes.notes); n < 2 || n > 10 {
			t.Errorf("%d pushes for one message in an hour", n)
		}
		ph.wakes()
		ph.reads("hello")
	})
}

func TestAUserWhoIsInUseElsewhereIsNotPushed(t *testing.T) {
	active := func(c *Config) { c.DesktopActive = 5 * time.Minute }
	two(t, func(t *testing.T, w *town, desk, ph *phone) {
		desk.awake()
		ph.asleep()
		send := func(n int) {
			t.Helper()
			w.pbx.say(w.texts("sip:alice@example.com", "carol", fmt.Sprint("m", n), 1, "hello")...)
			desk.reads("hello")
			w.pbx.hears("SIP/2.0 200")
		}
		send(1)
		w.pushed(0, "message") // registered is not in use
		desk.say(append(desk.asks("MESSAGE", "sip:carol@example.com", "Content-Type: message/imdn+xml"), "", "<imdn/>")...)
		w.pbx.say(reply(w.pbx.hears("MESSAGE"), 200)...)
		desk.hears("SIP/2.0 200")
		send(2)
		w.pushed(0, "message", "message") // nor is one that sends receipts
		desk.say(append(desk.asks("MESSAGE", "sip:carol@example.com", "Content-Type: text/plain"), "", "hi")...)
		w.pbx.say(reply(w.pbx.hears("MESSAGE"), 200)...)
		desk.hears("SIP/2.0 200")
		pass(5*time.Minute - time.Second)
		send(3)
		w.pushed(0, "message", "message")
		pass(time.Second)
		send(4)
		w.pushed(0, "message", "message", "message")
		ph.wakes()
		for range 4 {
			ph.reads("hello")
		}
	}, active)
}
