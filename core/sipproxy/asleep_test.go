package sipproxy

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// What the core answers for a phone that sleeps (B27), and how long it waits
// for one (B28 to B30).

func TestB27_OptionsIsAnsweredWithoutWaking(t *testing.T) {
	each(t, []int{1, 2}, func(t *testing.T, w *town, phones []*phone) {
		for _, ph := range phones {
			ph.asleep()
		}
		w.pbx.say(w.asks("OPTIONS", "sip:"+w.token(phones[0])+"@"+advertise, "qualify")...)
		w.pbx.hears("SIP/2.0 200")
		w.pushed(0)
	})
}

func TestB27_OtherRequestsGet480(t *testing.T) {
	for _, method := range []string{"SUBSCRIBE", "REFER", "INFO", "FROBNICATE"} {
		inTown(t, func(t *testing.T, w *town) {
			ph := w.phone("alice", "tls").asleep()
			w.pbx.say(w.asks(method, "sip:"+w.token(ph)+"@"+advertise, "x")...)
			w.pbx.hears("SIP/2.0 480")
			w.pushed(0)
		})
	}
}

func TestB27_TheNewestNotifyOfEachPackageIsDeliveredOnReturn(t *testing.T) {
	each(t, []int{1}, func(t *testing.T, w *town, phones []*phone) {
		ph := phones[0].asleep()
		at := "sip:" + w.token(ph) + "@" + advertise
		for _, n := range [][2]string{{"message-summary", "old"}, {"dialog", "d1"}, {"message-summary", "new"}} {
			w.pbx.say(w.asks("NOTIFY", at, n[1], "Event: "+n[0], "", n[1])...)
			w.pbx.hears("SIP/2.0 200")
		}
		w.pushed(0)
		ph.wakes()
		for _, want := range []string{"new", "d1"} {
			n := ph.hears("NOTIFY " + ph.uri())
			if !strings.HasSuffix(n, want) || len(header(n, "Via")) != 1 {
				t.Errorf("heard %q", n)
			}
			ph.say(reply(n, 200)...)
		}
		ph.silence()
		w.pbx.silence() // its 200 went out long ago
		ph.sleeps()
		ph.wakes()
		ph.silence()
	})
}

func TestB27_ANotifyForASilentPhoneComesWhenItLooksAgain(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "wss").awake()
		at := "sip:" + w.token(ph) + "@" + advertise
		ph.fallsSilent()
		w.pbx.say(w.asks("NOTIFY", at, "n1", "Event: dialog")...)
		w.pbx.hears("SIP/2.0 200")
		ph.silence()
		ph.hearsAgain()
		ph.say(reply(ph.hears("NOTIFY"), 200)...)
		ph.say(ph.asks("OPTIONS", "sip:example.com", "Client-State: inactive")...)
		ph.hears("SIP/2.0 200")
		w.pbx.say(w.asks("NOTIFY", at, "n2", "Event: dialog")...)
		w.pbx.hears("SIP/2.0 200")
		ph.silence()
		ph.say(ph.asks("OPTIONS", "sip:example.com", "Client-State: active")...)
		ph.hears("SIP/2.0 200")
		ph.say(reply(ph.hears("NOTIFY"), 200)...)
	})
}

func TestB27_WhatIsKeptOfNotifyIsBounded(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "tls").asleep()
		at := "sip:" + w.token(ph) + "@" + advertise
		for i := range 20 {
			w.pbx.say(w.asks("NOTIFY", at, fmt.Sprint("n", i), fmt.Sprint("Event: package-", i))...)
			w.pbx.hears("SIP/2.0 200")
		}
		w.pbx.say(w.asks("NOTIFY", at, "big", "Event: package-0", "", strings.Repeat("x", maxNoteSize+1))...)
		w.pbx.hears("SIP/2.0 200")
		if n, size := len(w.proxy.notes.of[ph.id()]), w.proxy.notes.size; n != maxPackages || size > maxPackages*(noteOverhead+1<<10) {
			t.Errorf("%d packages of %d bytes are kept", n, size)
		}
		ph.connects().say(ph.register("Expires: 0")...)
		w.accepts()
		if w.proxy.notes.size != 0 {
			t.Error("notes of a device that unregistered are kept")
		}
	})
}

// dialog sets up a call that alice answers.
func (w *town) dialog(ph *phone) (ok string) {
	w.t.Helper()
	c := w.calls("dlg")
	inv := ph.rings("dlg")
	c.hears("SIP/2.0 180")
	ph.answers(inv)
	return c.answered(ph)
}

func TestB27_InADialogRequestsAreKeptForTheNextFlow(t *testing.T) {
	each(t, []int{1}, func(t *testing.T, w *town, phones []*phone) {
		ph := phones[0].awake()
		ok := w.dialog(ph)
		w.pushed(1) // B4's
		ph.sleeps()
		pass(10 * time.Second)
		for _, m := range []string{"INVITE", "UPDATE", "INFO", "BYE"} {
			w.pbx.say(dialogRequest(m, ok)...)
		}
		w.pbx.hears("SIP/2.0 100") // of the re-INVITE
		pass(3500 * time.Millisecond)
		for range 3 {
			w.pbx.hears("SIP/2.0 100") // RFC 4320 §4.1
		}
		pass(8 * time.Second)
		w.pushed(1)
		ph.wakes()
		for _, m := range []string{"INVITE", "UPDATE", "INFO", "BYE"} { // in order
			req := ph.hears(m + " " + ph.uri())
			ph.say(reply(req, 200)...)
			w.pbx.hears("SIP/2.0 200")
		}
		ph.silence()
		w.pushed(1)
	})
}

func TestB27_InADialogNobodyWaitsForEver(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "tls").awake()
		ok := w.dialog(ph)
		ph.sleeps()
		for method, wait := range map[string]time.Duration{"UPDATE": 13 * time.Second, "INVITE": 13 * time.Second, "BYE": 30 * time.Second} {
			req := dialogRequest(method, ok)
			w.pbx.say(req...)
			pass(wait - time.Millisecond)
			w.pbx.hears("SIP/2.0 100")
			w.pbx.silence()
			pass(time.Millisecond)
			w.pbx.hears("SIP/2.0 480") // PN-18: never 481
			if method == "INVITE" {
				w.pbx.say(inviteOf(req, "ACK")...)
			}
		}
		w.pushed(1)
	})
}

func TestB27_AByeWhoseFlowDiesUnderItIsKeptToo(t *testing.T) {
	each(t, []int{1}, func(t *testing.T, w *town, phones []*phone) {
		ph := phones[0].awake()
		ok := w.dialog(ph)
		w.pbx.say(dialogRequest("BYE", ok)...)
		ph.hears("BYE")
		ph.sleeps()
		w.pbx.silence()
		ph.wakes()
		ph.say(reply(ph.hears("BYE"), 200)...)
		w.pbx.hears("SIP/2.0 200")
	})
}

func TestB28_TenPushesAMinute(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		w.phone("alice", "tls").asleep()
		for i := range 10 {
			c := w.calls(fmt.Sprint("call-", i))
			c.cancels()
			c.ends(487)
		}
		missed := strings.Fields(strings.Repeat("missed ", 7)) // all but the last three
		w.pushed(10, missed...)
		w.calls("call-11").ends(480)
		w.pushed(10, missed...)
		pass(time.Minute)
		c := w.calls("call-12")
		c.cancels()
		c.ends(487)
		w.pushes.mu.Lock()
		defer w.pushes.mu.Unlock()
		if n := len(w.pushes.calls); n != 11 {
			t.Errorf("%d pushes, want 11", n)
		}
	})
}

func TestB28_OnlyTheLastThreeEndedCallsAreShown(t *testing.T) {
	each(t, []int{1}, func(t *testing.T, w *town, phones []*phone) {
		ph := phones[0].asleep()
		for i := range 5 {
			c := w.calls(fmt.Sprint("call-", i))
			c.cancels()
			c.ends(487)
		}
		w.pushed(5, "missed", "missed") // the two that make room
		ph.wakes()
		for i := 2; i < 5; i++ {
			ph.hangsUp(ph.rings(fmt.Sprint("call-", i)))
		}
		ph.silence()
		w.pushed(5, "missed", "missed")
	})
}

func TestB29_ADeviceOutlivesItsRegistration(t *testing.T) {
	each(t, []int{1}, func(t *testing.T, w *town, phones []*phone) {
		ph := phones[0].asleep()
		token := w.token(ph)
		pass(40 * time.Hour)
		c := w.callsAt("sip:"+token+"@"+advertise, "call-1")
		w.pushed(1)
		ph.wakes()
		ph.refuses(ph.rings("call-1"), 486)
		c.hears("SIP/2.0 180")
		c.ends(486)
		ph.sleeps()
		pass(deviceKeep)
		w.refused("sip:"+token+"@"+advertise, "call-2", 480)
		w.pushed(1)
	})
}

func TestB29_StarRemovesEveryDeviceOfTheAOR(t *testing.T) {
	each(t, []int{1, 2}, func(t *testing.T, w *town, phones []*phone) {
		for _, ph := range phones {
			ph.asleep()
		}
		c := w.calls("call-1")
		ph := phones[0].connects()
		ph.say(with(ph.register("Expires: 0"), "Contact", "*")...)
		if got := first(w.pbx.heard[0], "Contact"); got != "*" {
			t.Errorf("Contact to the PBX is %q", got)
		}
		w.accepts()
		ph.hears("SIP/2.0 200")
		c.ends(480)
		if n, _ := w.loc.Count(); n != 0 {
			t.Errorf("%d devices are kept", n)
		}
	})
}

func TestB30_ADeviceWithoutTokenIsWaitedForAShortWhile(t *testing.T) {
	each(t, []int{1}, func(t *testing.T, w *town, phones []*phone) {
		ph := phones[0]
		ph.push = ""
		ph.awake().sleeps()
		pass(2 * time.Second)
		c := w.calls("call-1")
		pass(2 * time.Second)
		ph.wakes()
		ph.refuses(ph.rings("call-1"), 486)
		c.hears("SIP/2.0 180")
		c.ends(486)
		ph.sleeps()
		pass(2 * time.Second)
		start := time.Now()
		c = w.calls("call-2")
		pass(3 * time.Second)
		c.ends(480)
		if took := time.Since(start); took != 3*time.Second {
			t.Errorf("480 after %v, want when the 5 s are over", took)
		}
		w.calls("call-3").ends(480) // and at once from now on
		w.pushed(0)
	})
}
