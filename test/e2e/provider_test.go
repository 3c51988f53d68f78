package e2e

import (
	"os"
	"testing"
	"time"

	"sallyport/core/push/pushtest"
	"sallyport/test/phone"
)

// A provider's word, or its silence, reaches the caller within outcomeWithin,
// and a busy machine gets slack to say so: the two are less than half of the
// window that the caller would wait for else. The story to the millisecond is
// told in the tests of core/push/apns and core/wake.
const (
	outcomeWithin = 2600 * time.Millisecond
	slack         = 2400 * time.Millisecond
)

func TestB19ADeadTokenIsToldAtOnceAndNotPushedAgain(t *testing.T) {
	everywhere(t, Config{}, func(s *scene) {
		alice, bob := s.caller("alice"), s.asleep("bob")
		s.APNs.Unregister(Token("bob", "voip"), time.Now())
		if took := s.ends(s.call(alice, "bob"), 480); took > outcomeWithin+slack {
			s.t.Errorf("480 after %v, want %v at most", took, outcomeWithin)
		}
		if c, _ := s.client(bob); c.State != "gone" || c.Tokens[0].State != "dead" {
			s.t.Errorf("bob is %s with tokens %+v", c.State, c.Tokens)
		}
		s.ends(s.call(alice, "bob"), 480)
		s.onlyPushes(0)
		if n := s.triedWith(Token("bob", "voip")); n != 1 {
			s.t.Errorf("the dead token was tried %d times, want once", n)
		}

		s.registersAs(bob, phone.Registration{Push: s.PushOf("bob's new phone"), RegID: 1})
		s.sleeps(bob)
		call := s.call(alice, "bob")
		if p := s.pushed(2); p.Token != Token("bob's new phone", "voip") {
			s.t.Errorf("pushed %+v, want the new token", p)
		}
		s.registersAs(bob, phone.Registration{Push: s.PushOf("bob's new phone"), RegID: 1})
		s.talks(bob, call)
	})
}

// triedWith counts the pushes to a token, refused ones included.
func (s *scene) triedWith(token string) (n int) {
	for _, p := range s.APNs.Pushes() {
		if p.Token == token {
			n++
		}
	}
	return n
}

func TestTheCallerIsToldThatTheProviderIsDown(t *testing.T) {
	ways := map[string]func(s *scene){
		"answers 503":       func(s *scene) { s.APNs.Inject(pushtest.Fault{Count: 100, Status: 503, Reason: "ServiceUnavailable"}) },
		"answers 500":       func(s *scene) { s.APNs.Inject(pushtest.Fault{Count: 100, Status: 500, Reason: "InternalServerError"}) },
		"never answers":     func(s *scene) { s.APNs.Inject(pushtest.Fault{Count: 100, Drop: true}) },
		"resets streams":    func(s *scene) { s.APNs.Inject(pushtest.Fault{Count: 100, Reset: true}) },
		"is another server": func(s *scene) { s.APNs.Inject(pushtest.Fault{Count: 100, HTML: true}) },
		"is not there":      func(s *scene) { s.Stop("apns") },
	}
	for name, fail := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			at(t, Domain, Config{}, func(s *scene) {
				alice, bob := s.caller("alice"), s.asleep("bob")
				fail(s)
				if took := s.ends(s.call(alice, "bob"), 480); took > outcomeWithin+slack {
					s.t.Errorf("480 after %v, want %v at most", took, outcomeWithin)
				}
				if c, _ := s.client(bob); c.State != "suspended" || c.Tokens[0].State != "live" {
					s.t.Errorf("bob is %s with tokens %+v: that the provider fails says nothing of him", c.State, c.Tokens)
				}
			})
		})
	}
}

func TestAProviderThatForgotOurConnectionIsAskedOnAnother(t *testing.T) {
	ways := map[string]func(*pushtest.APNs){
		"black hole": (*pushtest.APNs).BlackHole,
		"closed":     (*pushtest.APNs).Disconnect,
		"goaway":     func(a *pushtest.APNs) { a.GoAway("Shutdown") },
	}
	for name, fail := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			at(t, Domain, Config{}, func(s *scene) {
				alice, bob := s.caller("alice"), s.asleep("bob")
				call := s.call(alice, "bob")
				s.pushed(1)
				s.registers(bob, "bob")
				ok(s.t, s.rings(bob).Reject(486, "Busy Here"))
				s.ends(call, 486)
				s.sleeps(bob)
				fail(s.APNs)
				call = s.call(alice, "bob")
				s.until("the push to be tried again", func() bool { return s.ringing() > 1 })
				s.registers(bob, "bob")
				s.talks(bob, call)
			})
		})
	}
}

func TestB26APushKeyThatIsReplacedIsUsedAtTheNextCall(t *testing.T) {
	at(t, Domain, Config{}, func(s *scene) {
		alice, bob := s.caller("alice"), s.asleep("bob")
		call := s.call(alice, "bob")
		s.pushed(1)
		s.registers(bob, "bob")
		s.talks(bob, call)
		ok(s.t, call.Bye(s.ctx))
		s.sleeps(bob)

		p8, public, err := pushtest.GenerateKey()
		ok(s.t, err)
		s.APNs.AddKey(s.KeyID, pushtest.Key{Team: s.TeamID, Public: public})
		ok(s.t, os.WriteFile(s.KeyFile, p8, 0o600))
		call = s.call(alice, "bob")
		s.pushed(2)
		s.registers(bob, "bob")
		s.talks(bob, call)
	})
}
