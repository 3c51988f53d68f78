package sipproxy

import (
	"testing"
	"time"

	"sallyport/core/push"
)

// How a call ends for a device, for every provider: B16 to B18, P4, P5, P21 to
// P23, and quiet hours.

var providers = []string{"apns", "fcm", "webpush"}

// forEachProvider tells the story of a phone of alice's that sleeps.
func forEachProvider(t *testing.T, story func(t *testing.T, w *town, ph *phone, provider string)) {
	t.Helper()
	for _, provider := range providers {
		t.Run(provider, func(t *testing.T) {
			inTown(t, func(t *testing.T, w *town) { story(t, w, w.phone("alice", "tls").of(provider).asleep(), provider) })
		})
	}
}

func TestP4_InTheForegroundACallIsOnePushAndAnInviteWithTheSameUUID(t *testing.T) {
	for _, provider := range providers {
		inTown(t, func(t *testing.T, w *town) {
			ph := w.phone("alice", "wss").of(provider).awake()
			c := w.calls("call-1")
			inv := ph.rings("call-1")
			c.hears("SIP/2.0 180")
			w.pushed(1)
			if sent, got := push.CallUUID(w.pushes.calls[0].CallID), push.CallUUID(first(inv, "Call-ID")); sent != got {
				t.Errorf("the push names %s, the INVITE %s", sent, got)
			}
			ph.refuses(inv, 486)
			c.ends(486)
			w.pbx.say(w.asks("MESSAGE", aliceAOR, "m1")...)
			ph.say(reply(ph.hears("MESSAGE"), 200)...)
			w.pbx.hears("SIP/2.0 200")
			w.pushed(1) // and none for the message
		})
	}
}

func TestP5_WhoClaimsToBeThereAndDoesNotAnswerIsPushedOnce(t *testing.T) {
	for _, foreground := range []bool{false, true} { // whether a push goes beside the INVITE anyway
		for _, provider := range providers {
			inTown(t, func(t *testing.T, w *town) {
				stale := w.phone("alice", "tls").of(provider).awake()
				c := w.calls("call-1")
				stale.hears("INVITE")
				pass(8 * time.Second)
				w.pushed(1)
				ph := *stale
				ph.wakes()
				ph.refuses(ph.rings("call-1"), 486)
				c.hears("SIP/2.0 180")
				c.ends(486)
				w.pushed(1)
			}, func(c *Config) { c.PushInForeground = foreground })
		}
	}
}

func TestP21_ACallThatIsCancelledRingsNoMoreAndIsMissedOnce(t *testing.T) {
	forEachProvider(t, func(t *testing.T, w *town, ph *phone, provider string) {
		c := w.calls("call-1")
		pass(3 * time.Second)
		c.cancels()
		c.ends(487)
		pass(time.Minute)
		w.pushed(1, "missed")
		pass(10 * time.Minute)
		ph.wakes()
		ph.silence()
		w.pushed(1, "missed")
	})
}

func TestP21_ACallThatWasAnsweredOrDeclinedElsewhereIsNotMissed(t *testing.T) {
	for reason, note := range map[string][]string{
		reasonElsewhere: {"answered_elsewhere"}, `Q.850;cause=26`: {"answered_elsewhere"}, reasonBusy: nil, `SIP;cause=603`: nil,
	} {
		forEachProvider(t, func(t *testing.T, w *town, ph *phone, provider string) {
			c := w.calls("call-1")
			c.cancels("Reason: " + reason)
			c.ends(487)
			pass(time.Minute)
			w.pushed(1, note...)
		})
	}
}

// The device gives up on a call that still rings elsewhere: what becomes of it
// there decides.
func TestP21_ACallThatRingsElsewhereIsNotMissedYet(t *testing.T) {
	for name, tt := range map[string]struct {
		end  func(c *call, by *phone, inv string)
		note string
	}{
		"answered": {func(c *call, by *phone, inv string) { by.answers(inv); c.answered(by) }, "answered_elsewhere"},
		"declined": {func(c *call, by *phone, inv string) { by.refuses(inv, 603); c.ends(603) }, ""},
		"refused":  {func(c *call, by *phone, inv string) { by.refuses(inv, 486); c.ends(486) }, "missed"},
		"hung up":  {func(c *call, by *phone, inv string) { c.cancels(); by.hangsUp(inv); c.ends(487) }, "missed"},
	} {
		t.Run(name, func(t *testing.T) {
			forEachProvider(t, func(t *testing.T, w *town, ph *phone, provider string) {
				w.proxy.cfg.PushInForeground = false
				other := w.phone("alice4", "wss").awake()
				c := w.calls("call-1")
				inv := other.rings("call-1")
				c.hears("SIP/2.0 180")
				pass(20 * time.Second)
				w.pushed(1)
				tt.end(c, other, inv)
				pass(time.Second)
				if tt.note == "" {
					w.pushed(1)
				} else {
					w.pushed(1, tt.note)
				}
			})
		})
	}
}

func TestP22_WhoRegistersAfterTheCallEndedIsShownThatAtOnce(t *testing.T) {
	forEachProvider(t, func(t *testing.T, w *town, ph *phone, provider string) {
		c := w.calls("call-1")
		c.cancels("Reason: Q.850;cause=16")
		c.ends(487)
		pass(5 * time.Second)
		start := time.Now()
		ph.wakes()
		if provider != "apns" { // its push asked the app to ring only while the call does
			ph.silence()
			w.pushed(1, "missed")
			return
		}
		inv := ph.hears("INVITE " + ph.uri())
		pass(200*time.Millisecond - time.Since(start)) // the phone takes its time
		if got := first(ph.hangsUp(inv), "Reason"); got != "Q.850;cause=16" {
			t.Errorf("Reason %q", got)
		}
		pass(time.Minute)
		w.pushed(1)
	})
}

func TestP23_ADeadTokenEndsTheCallAtOnce(t *testing.T) {
	forEachProvider(t, func(t *testing.T, w *town, ph *phone, provider string) {
		w.pushes.result, w.pushes.delay = push.Result{Outcome: push.DeadToken, Reason: "gone"}, 2*time.Second
		start := time.Now()
		c := w.calls("call-1")
		pass(2 * time.Second)
		c.ends(480)
		if took := time.Since(start); took > 2500*time.Millisecond {
			t.Errorf("480 after %v", took)
		}
		w.calls("call-2").ends(480)
		w.pushed(1)
	})
}

var quietNow = push.Result{Outcome: push.Quiet, Channel: push.VoIP, Reason: "quiet hours until 07:00"}

func TestQuietHoursEndACallAtOnceAndLeaveItMissed(t *testing.T) {
	forEachProvider(t, func(t *testing.T, w *town, ph *phone, provider string) {
		w.pushes.result = quietNow
		w.pushes.quiet = true
		start := time.Now()
		w.calls("call-1").ends(480)
		if took := time.Since(start); took != 0 {
			t.Errorf("480 after %v", took)
		}
		w.pushed(0, "missed")
		steps, _, failed := w.steps("call-1")
		if steps != "invite state push_sent push_refused push_sent push_accepted" || failed != "push_refused" {
			t.Errorf("trace %q, failed step %q", steps, failed)
		}
		other := w.phone("alice4", "wss").awake() // who looks gets the INVITE, and no push
		c := w.calls("call-2")
		inv := other.rings("call-2")
		c.hears("SIP/2.0 180")
		w.pushed(0, "missed")
		other.answers(inv)
		c.answered(other)
		w.pushed(0, "missed") // answered elsewhere, and nothing was shown here
	})
}

func TestQuietHoursASilentPhoneIsInvitedAndMayMissTheCall(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		w.pushes.result, w.pushes.quiet = quietNow, true
		ph := w.phone("alice", "tls").awake()
		ph.fallsSilent()
		c := w.calls("call-1")
		ph.hears("INVITE")
		w.pushed(0)
		pass(13 * time.Second)
		c.ends(480)
		w.pushed(0, "missed")
	})
}

func TestQuietHoursACallerWhoHangsUpOnASilentPhoneIsMissed(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		w.pushes.result, w.pushes.quiet = quietNow, true
		ph := w.phone("alice", "tls").awake()
		ph.fallsSilent()
		c := w.calls("call-1")
		ph.hears("INVITE") // and nobody answers it
		pass(3 * time.Second)
		c.cancels()
		c.ends(487)
		pass(time.Minute)
		w.pushed(0, "missed")
		c = w.calls("call-2")
		ph.hears("INVITE")
		pass(3 * time.Second)
		c.cancels(`Reason: SIP;cause=200`)
		c.ends(487)
		pass(time.Minute)
		w.pushed(0, "missed") // it was not missed: somebody answered
	})
}

// A call to oneself comes back to the phone that makes it.
func TestNoPushForAPhonesOwnCall(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "tls").awake()
		out := ph.dials(aliceAOR, "self")
		ph.say(out...)
		ph.hears("SIP/2.0 100")
		inv := w.pbx.hears("INVITE")
		c := w.calls("leg-2", `P-Asserted-Identity: <sip:alice@example.com>`)
		ph.refuses(ph.hearsOf("leg-2", "INVITE"), 486)
		c.ends(486)
		w.pushed(0)
		w.pbx.say(reply(inv, 486)...)
		w.pbx.hears("ACK")
		ph.hears("SIP/2.0 486")
		ph.say(inviteOf(out, "ACK")...)
		pass(time.Minute)
		d := w.calls("later", `P-Asserted-Identity: <sip:alice@example.com>`) // from a desk of hers
		ph.refuses(ph.rings("later"), 486)
		d.hears("SIP/2.0 180")
		d.ends(486)
		w.pushed(1)
	})
}
