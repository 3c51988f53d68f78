package sipproxy

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/core/push"
)

// A call to a phone that sleeps or looks: what carol, alice and the push
// service hear of it.

func TestB6_B9_ASleepingPhoneIsWokenAndRings(t *testing.T) {
	each(t, []int{1}, func(t *testing.T, w *town, phones []*phone) {
		ph := phones[0].asleep()
		c := w.callsAt("sip:"+w.token(ph)+"@"+advertise, "call-1",
			"", "v=0", "m=audio 4000 RTP/AVP 0", "m=video 4002 RTP/AVP 96")
		w.pushed(1)
		w.pbx.silence()
		p := w.pushes.calls[0]
		if p.CallID != "call-1" || p.FromURI != "sip:carol@example.com" || p.FromName != "Carol" ||
			p.Number != "carol" || p.To != "sip:alice@example.com" || !p.Video {
			t.Errorf("the push says %+v", p)
		}
		ph.wakes()
		inv := ph.rings("call-1")
		ph.silence()
		if v := header(inv, "Via"); len(v) != 1 || !strings.HasPrefix(v[0], "SIP/2.0/"+strings.ToUpper(ph.transport)+" edge.example.com:5061;") {
			t.Errorf("Via to the client: %q", v)
		}
		if strings.Contains(inv, "pn-") {
			t.Error("PN-16: push parameters went out in the INVITE")
		}
		uriT := map[string]string{"tls": "tls", "wss": "ws"}[ph.transport]
		rr := strings.Join(header(inv, "Record-Route"), "\n")
		if !strings.HasPrefix(sealedIn(inv), w.token(ph)) {
			t.Errorf("Record-Route %q does not name the instance", rr)
		}
		want := "<sip:" + sealedIn(inv) + "@" + public + ";transport=" + uriT + ";lr>\n<sip:" + w.token(ph) + "@" + advertise +
			";transport=tcp;lr>\n<sip:10.0.0.9;lr>"
		if rr != want {
			t.Errorf("Record-Route\n%s, want\n%s", rr, want)
		}
		if !strings.Contains(inv, "m=video 4002") {
			t.Error("the body is not what carol offered")
		}
		c.hears("SIP/2.0 180")
		ph.answers(inv)
		ok := c.answered(ph)
		if v := header(ok, "Via"); len(v) != 2 || !strings.Contains(v[1], "z9hG4bKdesk") {
			t.Errorf("Via of the 200: %q", v)
		}
		if strings.Contains(ok, "pn-") {
			t.Error("PN-16: the callee's push parameters went out in the 200")
		}
		w.pbx.say(dialogRequest("BYE", ok)...)
		bye := ph.hears("BYE " + "sip:alice@192.0.2.7:50000")
		if len(header(bye, "Route")) != 0 || len(header(bye, "Via")) != 1 {
			t.Errorf("BYE: Route %q, Via %q", header(bye, "Route"), header(bye, "Via"))
		}
		ph.say(reply(bye, 200)...)
		w.pbx.hears("SIP/2.0 200")
		w.pushed(1)
		steps, outcome, failed := w.steps("call-1")
		if steps != "invite state push_sent push_accepted registered invite_out ringing answered" || outcome != "answered" || failed != "" {
			t.Errorf("trace %q, %q, %q", steps, outcome, failed)
		}
	})
}

func TestB4_InTheForegroundACallGoesDownTheFlowAndIsPushedToo(t *testing.T) {
	each(t, []int{1, 2}, func(t *testing.T, w *town, phones []*phone) {
		for _, ph := range phones {
			ph.awake()
		}
		w.pushes.delay = time.Second
		c := w.calls("call-1")
		for _, ph := range phones {
			ph.refuses(ph.rings("call-1"), 486) // the call does not wait for the push
			c.hears("SIP/2.0 180")
		}
		c.ends(486)
		pass(time.Minute)
		w.pushed(len(phones))
	})
}

func TestPN15_B4_WithoutPushInForegroundNothingIsPushed(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "tls").awake()
		c := w.calls("call-1")
		ph.refuses(ph.rings("call-1"), 486)
		c.hears("SIP/2.0 180")
		c.ends(486)
		w.pushed(0)
	}, func(c *Config) { c.PushInForeground = false })
}

func TestB5_AMessageToAPhoneThatLooksIsNotPushed(t *testing.T) {
	each(t, []int{1, 2}, func(t *testing.T, w *town, phones []*phone) {
		for _, ph := range phones {
			ph.awake()
			pass(time.Second)
		}
		w.pbx.say(w.asks("MESSAGE", "sip:alice@example.com", "m1", "Content-Type: text/plain", "", "hello")...)
		for _, ph := range phones {
			m := ph.hears("MESSAGE " + ph.uri())
			if !strings.HasSuffix(m, "hello") {
				t.Errorf("the message is %q", m)
			}
			ph.say(reply(m, 200)...)
		}
		w.pbx.hears("SIP/2.0 200")
		w.pbx.silence()
		w.pushed(0)
	})
}

func TestB14_WithPushOffASuspendedPhoneIsNotThere(t *testing.T) {
	each(t, []int{1, 2}, func(t *testing.T, w *town, phones []*phone) {
		w.proxy.cfg.PushEnabled = false
		for _, ph := range phones {
			ph.awake().sleeps() // and no grace is waited for: it has a token
		}
		w.calls("call-1").ends(480)
		w.pushed(0)
	})
}

func TestB15_RingbackAfter5sWithAToTagOfOurs(t *testing.T) {
	for _, status := range []int{180, 183} {
		inTown(t, func(t *testing.T, w *town) {
			ph := w.phone("alice", "tls").asleep()
			c := w.calls("call-1")
			pass(5*time.Second - time.Millisecond)
			w.pbx.silence()
			pass(time.Millisecond)
			own := c.hears("SIP/2.0 " + map[int]string{180: "180", 183: "183"}[status])
			if !strings.Contains(first(own, "To"), ";tag=") {
				t.Errorf("To %q has no tag", first(own, "To"))
			}
			ph.wakes()
			inv := ph.rings("call-1")
			if got := first(c.hears("SIP/2.0 180"), "To"); got == first(own, "To") || !strings.Contains(got, "tag=callee") {
				t.Errorf("To of the phone's 180: %q", got)
			}
			ph.answers(inv)
			c.answered(ph)
		}, func(c *Config) { c.Ringback = status })
	}
}

func TestPX8_B15_ByDefaultTheCallerHearsOnly100(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		w.phone("alice", "tls").asleep()
		c := w.calls("call-1")
		pass(12 * time.Second)
		w.pbx.silence()
		pass(time.Second)
		c.ends(480)
	})
}

func TestB15_RingbackBeyondTheWindowNeverComes(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		w.phone("alice", "tls").asleep()
		c := w.calls("call-1")
		pass(13 * time.Second)
		c.ends(480)
	}, func(c *Config) { c.Ringback, c.RingbackAfter = 180, 13*time.Second })
}

func TestB16_ADeviceThatDoesNotComeEndsWith480AndAMissedCall(t *testing.T) {
	each(t, []int{1, 2}, func(t *testing.T, w *town, phones []*phone) {
		for _, ph := range phones {
			ph.asleep()
		}
		start := time.Now()
		c := w.calls("call-1")
		pass(13*time.Second - time.Millisecond)
		w.pbx.silence()
		pass(time.Millisecond)
		c.ends(480)
		if took := time.Since(start); took != 13*time.Second {
			t.Errorf("480 after %v, want 13s", took)
		}
		w.pushed(len(phones), []string{"missed", "missed"}[:len(phones)]...)
		steps, outcome, failed := w.steps("call-1")
		if steps != "invite state push_sent push_accepted window_over push_sent push_accepted" ||
			outcome != "not delivered" || failed != "window_over" {
			t.Errorf("trace %q, %q, failed %q", steps, outcome, failed)
		}
	})
}

func TestB16_ADeviceThatRegistersInTheLastMomentStillRings(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "tls").asleep()
		c := w.calls("call-1")
		pass(12900 * time.Millisecond)
		ph.wakes()
		inv := ph.hears("INVITE")
		pass(300 * time.Millisecond) // a slow radio
		ph.say(reply(inv, 180)...)
		c.hears("SIP/2.0 180")
		ph.refuses(inv, 486)
		c.ends(486)
	})
}

func TestB17_OnAndroidAHangUpIsAMissedCallAndNoInvite(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "tls").of("fcm").asleep()
		c := w.calls("call-1")
		w.pushed(1)
		c.cancels()
		c.ends(487)
		w.pushed(1, "missed")
		ph.wakes()
		ph.silence()
	})
}

func TestB17_OnIOSAPhoneThatNeverComesHasAMissedCall(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		w.phone("alice", "tls").asleep()
		c := w.calls("call-1")
		c.cancels()
		c.ends(487)
		w.pushed(1)
		pass(13 * time.Second)
		w.pushed(1, "missed")
	})
}

func TestB17_ASilentPhoneThatWasPushedIsToldOnItsNewFlow(t *testing.T) {
	each(t, []int{1}, func(t *testing.T, w *town, phones []*phone) {
		stale := phones[0].awake()
		stale.fallsSilent()
		c := w.calls("call-1")
		stale.hears("INVITE")
		w.pushed(1)
		c.cancels("Reason: Q.850;cause=16")
		c.ends(487)
		ph := *stale
		ph.wakes()
		if got := first(ph.hangsUp(ph.rings("call-1")), "Reason"); got != "Q.850;cause=16" {
			t.Errorf("Reason %q", got)
		}
		w.pushed(1)
	})
}

func TestB17_AnswerToAGhostIsHungUp(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "tls").asleep()
		c := w.calls("call-1")
		c.cancels()
		c.ends(487)
		ph.wakes()
		inv := ph.hears("INVITE")
		ph.answers(inv)
		ph.hears("ACK")
		bye := ph.hears("BYE")
		ph.say(reply(bye, 200)...)
		w.pbx.silence()
	})
}

func TestB19_ATokenThatIsDeadIsNotPushedUntilTheClientBringsANewOne(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "tls").asleep()
		w.pushes.result = push.Result{Outcome: push.DeadToken, Reason: "Unregistered"}
		w.calls("call-1").ends(480)
		w.pushes.result = pushAccepted
		w.pushed(1)
		start := time.Now()
		w.calls("call-2").ends(480)
		if time.Since(start) != 0 {
			t.Error("a call to a dead token waited")
		}
		w.pushed(1) // and none on the Message channel
		ph.push = strings.ReplaceAll(ph.push, "aaalice", "ccalice")
		ph.asleep()
		c := w.calls("call-3")
		w.pushed(2)
		c.cancels()
		c.ends(487)
		synctest.Wait()
	})
}
