package sipproxy

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// What clients go through after their PBX was away.

// crew are n phones of as many users, awake, with an hour of registration.
func (w *town) crew(n int) (all []*phone) {
	for i := range n {
		ph := w.phone("alice", []string{"tls", "wss"}[i%2])
		ph.user, ph.callID = fmt.Sprintf("user%d", i), fmt.Sprintf("reg-%d", i)
		ph.urn = fmt.Sprintf("urn:uuid:00000000-0000-4000-8000-%012x", i)
		token := fmt.Sprintf("%064x", i)
		ph.push = ";pn-provider=apns;pn-param=ABCDE12345.org.example.phone.voip&remote;pn-prid=" + token + ":voip&" + token[1:] + "f:remote"
		ph.connects().registers("Expires: 3600")
		all = append(all, ph)
	}
	return all
}

// left are those whose flow was ended with "reconnect".
func left(all []*phone) (n int) {
	synctest.Wait()
	for _, ph := range all {
		if ph.endedBy() == "reconnect" {
			n++
		}
	}
	return n
}

// endedBy is the reason for which the phone's flow was ended, "" while it lives.
func (s *script) endedBy() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended
}

func TestAfterAnOutageTheNextREGISTEROfEachFlowGoesToThePBX(t *testing.T) {
	each(t, []int{1, 2}, func(t *testing.T, w *town, phones []*phone) {
		onOutage(t, w)
		for _, ph := range phones {
			ph.connects().registers("Expires: 100")
			ph.say(ph.register("Expires: 100")...)
			ph.hears("SIP/2.0 200") // by the grant
			w.pbx.silence()
		}
		w.outage()
		for _, ph := range phones {
			ph.say(ph.register("Expires: 100")...)
			w.accepts()
			ph.hears("SIP/2.0 200")
			ph.say(ph.register("Expires: 100")...)
			ph.hears("SIP/2.0 200") // by the new grant
			w.pbx.silence()
		}
	})
}

func TestAConnectionThatOnlyDroppedVoidsNoGrant(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "tls").awake()
		pass(10 * time.Second)
		w.pbx.conn.Close()
		pass(time.Second)
		ph.say(ph.register()...)
		ph.hears("SIP/2.0 200")
		w.pbx.silence()
		pass(10 * time.Minute)
		if left([]*phone{ph}) != 0 {
			t.Error("the flow was ended")
		}
	})
}

// onOutage waits until a connection that drops is dialled again at once.
func onOutage(t *testing.T, w *town) { t.Helper(); pass(5 * time.Second) }

// outage takes the PBX away for a while.
func (w *town) outage() {
	w.t.Helper()
	w.pbxGoes()
	pass(20 * time.Second)
	w.pbxReturns()
}

func (w *town) pbxGoes() {
	w.pbxDown.Store(true)
	synctest.Wait()
	w.pbx.conn.Close()
	synctest.Wait()
}

func (w *town) pbxReturns() {
	w.pbxDown.Store(false)
	pass(31 * time.Second)
}

func TestAfterAnOutageIdleFlowsAreEndedWithReconnectAtABoundedRate(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		const n = 300
		all := w.crew(n)
		pass(5 * time.Second)
		w.pbxGoes()
		pass(20 * time.Second)
		w.pbxDown.Store(false)
		for w.proxy.livePBX("example.com") == nil {
			pass(100 * time.Millisecond)
		}
		if left(all) != 0 {
			t.Error("flows were ended while the PBX was away, or at once")
		}
		worst, before := 0, 0
		for range 20 {
			pass(time.Second)
			now := left(all)
			worst, before = max(worst, now-before), now
		}
		if before != n || worst > flowsPerSecond {
			t.Errorf("%d of %d were asked, up to %d a second", before, n, worst)
		}
		w.pushed(0)
	})
}

func TestAfterAnOutageNobodyIsDisturbedWhoTalksOrWaitsOrComesSoon(t *testing.T) {
	onFarm(t, func(t *testing.T, w *town, f *farm) {
		talker, asker, refresher, fresh := w.phone("alice", "tls"), w.phone("bob", "tls"), w.phone("carol2", "wss"), w.phone("dave", "wss")
		for ph, expires := range map[*phone]string{talker: "Expires: 3600", asker: "Expires: 3600", refresher: "Expires: 110", fresh: "Expires: 3600"} {
			ph.connects().registers(expires)
		}
		talker.say(talker.dials("sip:erin@example.com", "talk")...)
		talker.hears("SIP/2.0 100")
		f.a.say(reply(f.a.hears("INVITE"), 200, "Contact: <sip:erin@10.0.0.33>")...)
		ok := talker.hears("SIP/2.0 200")
		talker.say(dialogRequestOf(talker, "ACK", ok)...)
		f.a.hears("ACK")
		f.fails(serverA, serverB)
		pass(20 * time.Second)
		f.returns(serverA)
		asker.say(asker.asks("MESSAGE", "sip:erin@example.com")...)
		msg := f.a.hears("MESSAGE")
		fresh.say(fresh.register("Expires: 3600")...) // of its own accord
		w.accepts()
		fresh.hears("SIP/2.0 200")
		pass(10 * time.Second)
		if fresh.endedBy() != "" || talker.endedBy() != "" || refresher.endedBy() != "" {
			t.Errorf("ended: talker %q, refresher %q, fresh %q", talker.endedBy(), refresher.endedBy(), fresh.endedBy())
		}
		f.a.say(reply(msg, 200)...)
		pass(3 * time.Minute)
		talker.say(dialogRequestOf(talker, "BYE", ok)...)
		f.a.say(reply(f.a.hears("BYE"), 200)...)
		talker.hears("SIP/2.0 200")
		if talker.endedBy() != "" {
			t.Error("a call was disturbed")
		}
		pass(3 * time.Minute)
		if talker.endedBy() != "reconnect" || fresh.endedBy() != "" {
			t.Errorf("afterwards: talker %q, fresh %q", talker.endedBy(), fresh.endedBy())
		}
	})
}

func TestACallThatIsOverIsOverThoughIts200IsRepeated(t *testing.T) {
	onFarm(t, func(t *testing.T, w *town, f *farm) {
		ph := w.phone("alice", "tls").awake()
		ph.say(ph.dials("sip:erin@example.com", "talk")...)
		ph.hears("SIP/2.0 100")
		ok := reply(f.a.hears("INVITE"), 200, "Contact: <sip:erin@10.0.0.33>")
		f.a.say(ok...)
		mine := ph.hears("SIP/2.0 200")
		ph.say(dialogRequestOf(ph, "BYE", mine)...)
		f.a.say(reply(f.a.hears("BYE"), 200)...)
		ph.hears("SIP/2.0 200")
		f.a.say(ok...) // crossed the ACK
		ph.hears("SIP/2.0 200")
		if w.proxy.talks.busy(ph.id()) {
			t.Error("the client would keep its flow for half a day")
		}
	})
}

// A callee's call counts like a caller's.
func TestAfterAnOutageACalleeIsNotDisturbedEither(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "tls").connects()
		ph.registers("Expires: 3600")
		pass(5 * time.Second)
		c := w.calls("call-1")
		inv := ph.rings("call-1")
		c.hears("SIP/2.0 180")
		ph.answers(inv)
		ok := c.answered(ph)
		w.outage()
		pass(2 * time.Minute)
		if ph.endedBy() != "" {
			t.Fatalf("ended with %q", ph.endedBy())
		}
		w.pbx.say(dialogRequest("BYE", ok)...)
		ph.say(reply(ph.hears("BYE"), 200)...)
		w.pbx.hears("SIP/2.0 200")
		pass(2 * time.Minute)
		if ph.endedBy() != "reconnect" {
			t.Errorf("after the call: %q", ph.endedBy())
		}
	}, func(c *Config) { c.PushInForeground = false })
}

// So does the call of an instance that took over the token of another.
func TestAfterAnOutageAnHeirIsNotDisturbedInItsCall(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		old := w.phone("alice", "tls").asleep()
		c := w.calls("call-1")
		ph := old.reborn().connects()
		ph.registers("Expires: 3600")
		inv := ph.rings("call-1")
		c.hears("SIP/2.0 180")
		ph.answers(inv)
		c.answered(ph)
		w.outage()
		pass(2 * time.Minute)
		if ph.endedBy() != "" {
			t.Errorf("ended with %q", ph.endedBy())
		}
	})
}

func TestAfterAnOutageSleepingDevicesGetOneBackgroundPushEachAndNoVoIP(t *testing.T) {
	each(t, []int{1, 2}, func(t *testing.T, w *town, phones []*phone) {
		for _, ph := range phones {
			ph.asleep()
		}
		mute := w.phone("bob", "tls")
		mute.push = strings.Replace(strings.Replace(mute.push, "&bbbob:remote", "", 1), "&remote", "", 1) // VoIP alone
		mute.asleep()
		pass(time.Minute)
		w.outage()
		pass(5 * time.Minute)
		var want []string
		for _, ph := range phones {
			want = append(want, "register")
			ph.silence()
		}
		w.pushed(0, want...)
		for _, n := range w.pushes.notes {
			if n.To != "sip:alice@example.com" || n.CallID != "" {
				t.Errorf("a note %+v", n)
			}
		}
	})
}

func TestADeviceThatDoesNotComeBackByItselfIsPushed(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		ph := w.phone("alice", "tls").connects()
		ph.registers("Expires: 3600")
		pass(5 * time.Second)
		w.pbxGoes()
		pass(20 * time.Second)
		w.pbxDown.Store(false)
		for ph.endedBy() != "reconnect" {
			pass(100 * time.Millisecond)
		}
		pass(20 * time.Second)
		w.pushed(0)
		pass(2 * time.Minute)
		w.pushed(0, "register")
	})
}

func TestWhileThePBXIsAwayAgainNobodyIsAsked(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		const n = 200
		all := w.crew(n)
		sleeper := w.phone("alice", "tls").asleep()
		pass(time.Minute)
		w.pbxGoes()
		pass(20 * time.Second)
		w.pbxDown.Store(false)
		for left(all) < 20 {
			pass(100 * time.Millisecond)
		}
		w.pbxGoes()
		some := left(all)
		notes := len(w.pushes.notes)
		pass(10 * time.Minute)
		if now := left(all); now != some || len(w.pushes.notes) != notes || some == n {
			t.Errorf("%d were asked before it went again, %d are now, %d notes", some, now, len(w.pushes.notes))
		}
		w.pbxReturns()
		pass(2 * time.Minute)
		if now := left(all); now != n {
			t.Errorf("%d of %d are asked in the end", now, n)
		}
		sleeper.silence()
	})
}

func TestAPBXThatComesAndGoesBringsNoStormOfPushes(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		off, heeds := w.phone("alice", "tls").asleep(), w.phone("alice2", "tls").asleep()
		pass(time.Minute)
		for range 4 {
			w.outage()
		}
		w.pushed(0, "register", "register") // one each
		heeds.wakes()
		heeds.sleeps()
		w.outage()
		pass(time.Minute)
		w.pushed(0, "register", "register", "register") // the PBX may have forgotten it again
		pass(askAgain)
		w.outage()
		w.pushed(0, "register", "register", "register", "register", "register")
		off.silence()
	})
}

func TestAfterAnOutageNothingIsPushedWherePushIsOffOrTheGrantHasEnded(t *testing.T) {
	story := func(t *testing.T, w *town) {
		w.phone("alice", "tls").asleep()
		pass(25 * time.Hour) // the PBX's grant was for 24
		w.outage()
		pass(10 * time.Minute)
		w.pushed(0)
	}
	inTown(t, story)
	inTown(t, func(t *testing.T, w *town) {
		w.phone("alice", "tls").asleep()
		w.outage()
		pass(10 * time.Minute)
		w.pushed(0)
	}, func(c *Config) { c.PushEnabled = false })
}

func TestTalksAreForgottenInTime(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		id := w.phone("alice", "tls").id()
		w.proxy.talks.begin("a", id)
		w.proxy.talks.begin("a", id)
		w.proxy.talks.begin("b", id)
		w.proxy.talks.end("a")
		if !w.proxy.talks.busy(id) {
			t.Error("b goes on")
		}
		pass(talkTime - time.Minute)
		w.proxy.talks.heard("b")
		pass(talkTime - time.Minute)
		if !w.proxy.talks.busy(id) {
			t.Error("there was a word of b")
		}
		pass(2 * time.Minute)
		if w.proxy.talks.busy(id) || len(w.proxy.talks.byCall) != 0 || len(w.proxy.talks.devices) != 0 {
			t.Error("nothing was heard of b for too long")
		}
	})
}
