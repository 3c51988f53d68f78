package e2e

import (
	"strings"
	"testing"
	"time"

	"sallyport/core/admin"
	"sallyport/core/push/pushtest"
	"sallyport/test/phone"
)

// android is a phone that sleeps and is woken by Google.
type android struct {
	*phone.Phone
	s     *scene
	token string
}

// droid makes one of bob's and lets it sleep.
func (s *scene) droid() *android {
	s.t.Helper()
	a := &android{Phone: s.new("bob"), s: s, token: pushtest.NewFCMToken()}
	a.registers()
	s.sleeps(a.Phone)
	return a
}

func (a *android) registers() {
	a.s.t.Helper()
	a.s.registersAs(a.Phone, phone.Registration{Push: a.s.FCMOf(a.token), RegID: 1})
}

// pushed waits until Google took n pushes, and returns the last.
func (a *android) pushed(n int) pushtest.FCMMessage {
	a.s.t.Helper()
	a.s.until("a push", func() bool { return len(a.s.FCM.Accepted()) >= n })
	return a.s.FCM.Accepted()[n-1]
}

// wants says what a push must be like, and that nobody but this phone got one.
func (a *android) wants(m pushtest.FCMMessage, channel, event, callID string) {
	a.s.t.Helper()
	kept := m.TTL > 0
	if m.Token != a.token || m.Priority != "high" || kept != (channel == "message") || m.CollapseKey != "" || m.Notification {
		a.s.t.Errorf("pushed %s", m)
	}
	if m.Data["channel"] != channel || m.Data["event"] != event || m.Data["call_id"] != callID {
		a.s.t.Errorf("pushed %v, want %s on %s about %s", m.Data, event, channel, callID)
	}
}

// nothingElse says that no more than n pushes have left, and that Google's
// rules were kept: one to a witness, on the same connections, comes next.
func (a *android) nothingElse(n int) {
	a.s.t.Helper()
	w := phone.New(a.s.PhoneConfig("witness", Domain, phone.TLS))
	defer w.Close()
	a.s.registersAs(w, phone.Registration{Push: a.s.FCMOf(pushtest.NewFCMToken())})
	var answer admin.PushTestAnswer
	a.s.post("/api/v1/push/test", admin.PushTestRequest{AOR: "witness@" + Domain}, &answer)
	if all := a.s.FCM.Pushes(); len(all) != n+1 || all[n].Data["to"] != "sip:witness@"+Domain {
		a.s.t.Errorf("%d pushes, want %d: %v", len(all)-1, n, all)
	}
	if all := a.s.APNs.Pushes(); len(all) != 0 {
		a.s.t.Errorf("Apple was asked too: %v", all)
	}
	for _, v := range a.s.FCM.Violations() {
		a.s.t.Errorf("rule of Google's broken: %s", v)
	}
}

func TestB12AnAndroidPhoneIsWokenThroughFCMAndRings(t *testing.T) {
	everywhere(t, Config{FCM: true}, func(s *scene) {
		alice := s.new("alice", func(c *phone.Config) { c.DisplayName = "Alice Example" })
		s.registers(alice, "alice")
		bob := s.droid()
		call := s.call(alice, "bob")
		m := bob.pushed(1)
		bob.wants(m, "voip", "call", call.CallID())
		if m.TTLText != "0s" || m.Data["from_name"] != "Alice Example" || m.Data["from_uri"] != s.uri("alice") || m.Data["to"] != s.uri("bob") {
			s.t.Errorf("pushed %s: %v", m, m.Data)
		}
		bob.registers()
		theirs := s.talks(bob.Phone, call)
		ok(s.t, call.Bye(s.ctx))
		ok(s.t, theirs.WaitBye(s.ctx))
		s.heard(bob.Phone, "INVITE", 1)
		bob.nothingElse(1)
	})
}

func TestB16AnAndroidPhoneThatDoesNotComeBackHasMissedTheCall(t *testing.T) {
	short := window(time.Second)
	short.FCM = true
	at(t, Domain, short, func(s *scene) {
		alice, bob := s.caller("alice"), s.droid()
		call := s.call(alice, "bob")
		s.ends(call, 480)
		bob.wants(bob.pushed(1), "voip", "call", call.CallID())
		bob.wants(bob.pushed(2), "message", "missed", call.CallID())
		bob.nothingElse(2)
	})
}

// An Android phone that was pushed shows what became of the call: there is no
// CallKit that rings already.
func TestB17TheCallerHangsUpOnAnAndroidPhone(t *testing.T) {
	at(t, Domain, Config{FCM: true}, func(s *scene) {
		alice, bob := s.caller("alice"), s.droid()
		call := s.call(alice, "bob")
		bob.wants(bob.pushed(1), "voip", "call", call.CallID())
		ok(s.t, call.Cancel(s.ctx))
		if took := s.ends(call, 487); took > atOnce {
			s.t.Errorf("487 after %v, want it at once", took)
		}
		bob.wants(bob.pushed(2), "message", "missed", call.CallID())
		bob.nothingElse(2)
	})
}

func TestB18AnsweredElsewhereThanOnAnAndroidPhone(t *testing.T) {
	at(t, Domain, Config{FCM: true}, func(s *scene) {
		alice, desk := s.caller("alice"), s.new("bob")
		s.registersAs(desk, phone.Registration{})
		bob := s.droid()
		call := s.call(alice, "bob")
		bob.wants(bob.pushed(1), "voip", "call", call.CallID())
		s.talks(desk, call)
		bob.wants(bob.pushed(2), "message", "answered_elsewhere", call.CallID())
		ok(s.t, call.Bye(s.ctx))
		bob.nothingElse(2)
	})
}

func TestB19ATokenThatGoogleCallsDeadIsToldAtOnce(t *testing.T) {
	at(t, Domain, Config{FCM: true}, func(s *scene) {
		alice, bob := s.caller("alice"), s.droid()
		s.FCM.Unregister(bob.token)
		if took := s.ends(s.call(alice, "bob"), 480); took > outcomeWithin+slack {
			s.t.Errorf("480 after %v, want %v at most", took, outcomeWithin)
		}
		if c, _ := s.client(bob.Phone); c.State != "gone" || len(c.Tokens) != 1 || c.Tokens[0].State != "dead" {
			s.t.Errorf("bob is %s with tokens %+v", c.State, c.Tokens)
		}
		s.ends(s.call(alice, "bob"), 480)
		bob.nothingElse(1)
	})
}

func TestTheStatusNamesWhatIsWrongWithFCM(t *testing.T) {
	at(t, Domain, Config{FCM: true}, func(s *scene) {
		alice, bob := s.caller("alice"), s.droid()
		s.FCM.Inject(pushtest.Fault{Status: 403, Count: -1})
		s.ends(s.call(alice, "bob"), 480)
		var st admin.Status
		s.get("/api/v1/status", &st)
		for _, app := range st.Push.Apps {
			if app.Provider == "fcm" && (app.OK || !strings.Contains(app.LastError, "Firebase Cloud Messaging API Admin")) {
				s.t.Errorf("the app is said to be %+v", app)
			}
		}
		if c, _ := s.client(bob.Phone); c.State != "suspended" {
			s.t.Errorf("bob is %s", c.State)
		}
	})
}
