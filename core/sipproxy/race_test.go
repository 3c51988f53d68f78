package sipproxy

import (
	"strings"
	"testing"
	"time"

	"sallyport/core/push"
)

// The race matrix: what may happen at the same time, and what then must.

func TestR1_InviteAndCancelInOneSegment(t *testing.T) {
	each(t, []int{0, 1, 2}, func(t *testing.T, w *town, phones []*phone) {
		for _, ph := range phones {
			ph.asleep()
		}
		w.pushes.connect = 20 * time.Millisecond
		inv := []string{
			"INVITE sip:alice@example.com SIP/2.0",
			"Via: SIP/2.0/TCP 10.0.0.9:5060;branch=z9hG4bKboth",
			"Max-Forwards: 69", "From: <sip:carol@example.com>;tag=c", "To: <sip:alice@example.com>",
			"Call-ID: both", "CSeq: 1 INVITE",
		}
		w.pbx.write(message(inv...) + message(inviteOf(inv, "CANCEL")...))
		if len(phones) == 0 {
			w.pbx.hears("SIP/2.0 480")
			w.pbx.hears("SIP/2.0 200") // the CANCEL is matched all the same
			return
		}
		w.pbx.hears("SIP/2.0 100")
		w.pbx.hears("SIP/2.0 200")
		w.pbx.hears("SIP/2.0 487")
		w.pbx.say(inviteOf(inv, "ACK")...)
		pass(time.Minute)
		w.pushed(0)
		w.pbx.silence()
	})
}

func TestR2_CancelBeforeThePushLeftStopsIt(t *testing.T) {
	each(t, []int{1, 2}, func(t *testing.T, w *town, phones []*phone) {
		for _, ph := range phones {
			ph.asleep()
		}
		w.pushes.connect = time.Second
		c := w.calls("call-1")
		pass(500 * time.Millisecond)
		c.cancels()
		c.ends(487)
		pass(time.Minute)
		w.pushed(0)
		for _, ph := range phones {
			ph.wakes()
			ph.silence() // B28: no late INVITE where no push left
		}
	})
}

func TestR2_CancelAfterThePushBeforeRegister(t *testing.T) {
	each(t, []int{1, 2}, func(t *testing.T, w *town, phones []*phone) {
		for _, ph := range phones {
			ph.asleep()
		}
		c := w.calls("call-1")
		w.pushed(len(phones))
		start := time.Now()
		c.cancels(`Reason: SIP;cause=480;text="gone"`)
		c.ends(487)
		if took := time.Since(start); took != 0 {
			t.Errorf("487 after %v, want at once", took)
		}
		for _, ph := range phones {
			ph.wakes()
			inv := ph.rings("call-1")
			if got := first(ph.hangsUp(inv), "Reason"); got != `SIP;cause=480;text="gone"` {
				t.Errorf("Reason %q", got)
			}
		}
		w.pushed(len(phones)) // and no missed call: the phone was shown the end
		w.pbx.silence()
	})
}

func TestR2_CancelBetweenRegisterAndIts2xx(t *testing.T) {
	each(t, []int{1}, func(t *testing.T, w *town, phones []*phone) {
		ph := phones[0].asleep()
		c := w.calls("call-1")
		ph.connects().say(ph.register()...)
		reg := w.pbx.hearsOf(ph.callID, "REGISTER")
		c.cancels()
		c.ends(487)
		ph.silence()
		w.pbx.say(reply(reg, 200, "Contact: "+first(reg, "Contact"))...)
		ph.hears("SIP/2.0 200")
		ph.hangsUp(ph.rings("call-1"))
		w.pushed(1)
	})
}

func TestR2_CancelAfterTheInviteLeftAndBeforeA1xx(t *testing.T) {
	each(t, []int{1}, func(t *testing.T, w *town, phones []*phone) {
		ph := phones[0].asleep()
		c := w.calls("call-1")
		ph.wakes()
		inv := ph.hears("INVITE")
		start := time.Now()
		c.cancels()
		ph.silence() // RFC 3261 §9.1: no CANCEL before a response
		pass(cancelPatienceQuiet)
		c.ends(487)
		if took := time.Since(start); took > time.Second {
			t.Errorf("487 after %v", took)
		}
		ph.say(reply(inv, 180)...)
		ph.hangsUp(inv)
		pass(time.Minute)
		w.pushed(1)
		w.pbx.silence() // the late 180 and 487 are nobody's
	})
}

func TestR2_CancelCrossing200(t *testing.T) {
	each(t, []int{1, 2}, func(t *testing.T, w *town, phones []*phone) {
		for _, ph := range phones {
			ph.awake()
		}
		c := w.calls("call-1")
		var invites []string
		for _, ph := range phones {
			invites = append(invites, ph.rings("call-1"))
			c.hears("SIP/2.0 180")
		}
		c.cancels()
		for i, ph := range phones {
			ph.hearsOf("call-1", "CANCEL")
			if i > 0 {
				ph.refuses(invites[i], 487)
			}
		}
		phones[0].answers(invites[0]) // it was on its way
		c.answered(phones[0])         // PX-4: any 2xx goes through
		if len(phones) == 1 {
			w.pbx.silence()
		}
	})
}

func TestR2_200AfterThe487HasGoneOut(t *testing.T) {
	each(t, []int{1}, func(t *testing.T, w *town, phones []*phone) {
		ph := phones[0].awake()
		c := w.calls("call-1")
		inv := ph.hears("INVITE")
		c.cancels()
		pass(cancelPatienceQuiet)
		c.ends(487)
		ph.answers(inv)
		c.answered(ph)
		w.pbx.silence()
	})
}

func TestR3_ThreeRegistersAfterOnePushBringOneInvite(t *testing.T) {
	each(t, []int{1, 2}, func(t *testing.T, w *town, phones []*phone) {
		for _, ph := range phones {
			ph.asleep()
		}
		c := w.calls("call-1")
		ph := phones[0].connects()
		unauthenticated, authenticated := ph.register(), ph.register("Authorization: Digest username=alice")
		ph.callID = "reg-of-another-start"
		again := ph.register()
		ph.write(message(unauthenticated...), message(authenticated...), message(again...))
		first := w.pbx.hears("REGISTER")
		second, third := w.pbx.hears("REGISTER"), w.pbx.hears("REGISTER")
		w.pbx.say(reply(first, 401)...)
		ph.hears("SIP/2.0 401")
		ph.silence()
		w.pbx.say(reply(second, 200)...)
		ph.hears("SIP/2.0 200")
		inv := ph.rings("call-1")
		w.pbx.say(reply(third, 200)...)
		ph.hears("SIP/2.0 200") // B20: a refresh on the same flow
		ph.silence()
		c.hears("SIP/2.0 180")
		ph.answers(inv)
		c.answered(ph)
		w.pushed(len(phones), strings.Fields(strings.Repeat("answered_elsewhere ", len(phones)-1))...)
	})
}

func TestR4_RegisterBeforeThePushCallReturns(t *testing.T) {
	each(t, []int{1}, func(t *testing.T, w *town, phones []*phone) {
		ph := phones[0].asleep()
		w.pushes.delay = 2 * time.Second
		c := w.calls("call-1")
		ph.wakes()
		inv := ph.rings("call-1")
		c.hears("SIP/2.0 180")
		pass(3 * time.Second)
		ph.answers(inv)
		c.answered(ph)
		ph.silence()
		w.pushed(1)
	})
}

func TestR5_AChallengeFreesNobody(t *testing.T) {
	each(t, []int{1}, func(t *testing.T, w *town, phones []*phone) {
		ph := phones[0].asleep()
		c := w.calls("call-1")
		ph.connects()
		for range 2 {
			ph.say(ph.register()...)
			w.pbx.say(reply(w.pbx.hears("REGISTER"), 401, `WWW-Authenticate: Digest realm="x", nonce="n"`)...)
			ph.hears("SIP/2.0 401")
			ph.silence()
		}
		ph.registers()
		inv := ph.rings("call-1")
		c.hears("SIP/2.0 180")
		ph.refuses(inv, 603)
		c.ends(603)
	})
}

func TestR6_AForbiddenRegisterEndsTheWaitNow(t *testing.T) {
	each(t, []int{1, 2}, func(t *testing.T, w *town, phones []*phone) {
		for _, ph := range phones {
			ph.asleep()
		}
		start := time.Now()
		c := w.calls("call-1")
		for _, ph := range phones {
			ph.connects().say(ph.register(credentials)...)
			w.pbx.say(reply(w.pbx.hearsOf(ph.callID, "REGISTER"), 403)...)
			ph.hears("SIP/2.0 403")
		}
		c.ends(480)
		if took := time.Since(start); took > time.Second {
			t.Errorf("480 after %v, want at once", took)
		}
	})
}

func TestR7_AFailedPushEndsTheWaitNow(t *testing.T) {
	for outcome, push := range map[string]push.Result{
		"410":     {Outcome: push.DeadToken, Reason: "Unregistered", Status: 410},
		"5xx":     {Outcome: push.ProviderDown, Reason: "ServiceUnavailable", Status: 503},
		"timeout": {Outcome: push.ProviderDown, Reason: "timeout"},
	} {
		t.Run(outcome, func(t *testing.T) {
			each(t, []int{1, 2}, func(t *testing.T, w *town, phones []*phone) {
				for _, ph := range phones {
					ph.asleep()
				}
				w.pushes.result = push
				if outcome == "timeout" {
					w.pushes.delay = 2500 * time.Millisecond
				}
				c := w.calls("call-1")
				pass(w.pushes.delay)
				c.ends(480)
				steps, _, failed := w.steps("call-1")
				if steps != "invite state push_sent push_refused" || failed != "push_refused" {
					t.Errorf("trace %q, failed step %q", steps, failed)
				}
				w.pushes.result, w.pushes.delay = pushAccepted, 0
				w.pushed(len(phones))
				d := w.calls("call-2")
				if outcome == "410" { // B19: gone for calls, and nothing more is pushed
					d.ends(480)
					w.pushed(len(phones))
					return
				}
				w.pushed(2 * len(phones))
				d.cancels()
				d.ends(487)
			})
		})
	}
}

var pushAccepted = push.Result{Outcome: push.Accepted}
