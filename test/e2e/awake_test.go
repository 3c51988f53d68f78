package e2e

import (
	"testing"

	"sallyport/core"
	"sallyport/test/phone"
)

func TestB4ACallInTheForegroundIsSetUpBySIPAndPushedOnce(t *testing.T) {
	everywhere(t, Config{}, func(s *scene) {
		alice, bob := s.caller("alice"), s.online("bob")
		call := s.call(alice, "bob")
		s.talks(bob, call)
		if p := s.pushed(1); p.Channel != "voip" || p.CallID != call.CallID() {
			s.t.Errorf("pushed %+v", p)
		}
		ok(s.t, call.Bye(s.ctx))
		s.onlyPushes(1)
		s.heard(bob, "INVITE", 1)
	})
}

func TestB4WithoutCallPushInForeground(t *testing.T) {
	quiet := Config{Core: func(c *core.Config) { c.Wake.CallPushInForeground = false }}
	everywhere(t, quiet, func(s *scene) {
		alice, bob := s.caller("alice"), s.online("bob")
		call := s.call(alice, "bob")
		s.talks(bob, call)
		ok(s.t, call.Bye(s.ctx))
		s.onlyPushes(0)
	})
}

func TestB5AMessageInTheForegroundIsDeliveredWithoutAPush(t *testing.T) {
	everywhere(t, Config{}, func(s *scene) {
		alice, bob := s.caller("alice"), s.online("bob")
		must[*phone.Message](s.t)(alice.Message(s.ctx, s.uri("bob"), "are you there?"))
		if m := <-bob.Messages(); string(m.Body) != "are you there?" {
			s.t.Errorf("bob read %q", m.Body)
		}
		s.onlyPushes(0)
	})
}

// ways are how a client says that it goes to the background, and comes back.
var ways = map[string]func(s *scene, p *phone.Phone, user, state string){
	"REGISTER": func(s *scene, p *phone.Phone, user, state string) {
		s.t.Helper()
		must[*phone.Message](s.t)(p.Register(s.ctx, phone.Registration{Push: s.PushOf(user), RegID: 1, ClientState: state}))
	},
	"OPTIONS": func(s *scene, p *phone.Phone, _, state string) {
		s.t.Helper()
		if state == "active" {
			ok(s.t, p.Active(s.ctx))
		} else {
			ok(s.t, p.Inactive(s.ctx))
		}
	},
}

func TestASilentPhoneIsPushedAtOnceAndHearsTheInvite(t *testing.T) {
	for method, say := range ways {
		t.Run(method, func(t *testing.T) {
			// Without the foreground push, a push says that the phone is known to be silent.
			quiet := Config{Core: func(c *core.Config) { c.Wake.CallPushInForeground = false }}
			everywhere(t, quiet, func(s *scene) {
				alice, bob := s.caller("alice"), s.online("bob")
				say(s, bob, "bob", "inactive")
				if c, _ := s.client(bob); c.State != "silent" {
					s.t.Errorf("bob is %s, want silent", c.State)
				}
				call := s.call(alice, "bob")
				if p := s.pushed(1); p.Channel != "voip" || p.Event != "call" {
					s.t.Errorf("pushed %+v", p)
				}
				s.talks(bob, call)
				ok(s.t, call.Bye(s.ctx))

				say(s, bob, "bob", "active")
				call = s.call(alice, "bob")
				s.talks(bob, call)
				ok(s.t, call.Bye(s.ctx))
				s.onlyPushes(1)
			})
		})
	}
}

// again is the same phone with another connection: its old one is not known
// to be dead.
func (s *scene) again(p *phone.Phone, user string) *phone.Phone {
	return s.new(user, func(c *phone.Config) { c.Instance = p.Instance() })
}

func TestB20ANewFlowTakesTheCallOverFromASilentOne(t *testing.T) {
	for name, trying := range map[string]bool{"that said nothing": false, "that said 100": true} {
		t.Run(name, func(t *testing.T) {
			everywhere(t, Config{}, func(s *scene) {
				alice, old := s.caller("alice"), s.online("bob")
				ok(s.t, old.Inactive(s.ctx))
				call := s.call(alice, "bob")
				in := s.rings(old)
				if trying {
					ok(s.t, in.Provisional(100, "Trying"))
					ok(s.t, old.Ping(s.ctx))
				}
				s.pushed(1)
				bob := s.again(old, "bob")
				s.registers(bob, "bob")
				if s.talks(bob, call); trying {
					ok(s.t, in.WaitCancel(s.ctx))
				}
				s.heard(old, "INVITE", 1)
				s.heard(bob, "INVITE", 1)
				ok(s.t, call.Bye(s.ctx))
				s.onlyPushes(1)
			})
		})
	}
}

func TestB20AfterAn18xTheBranchStays(t *testing.T) {
	everywhere(t, Config{}, func(s *scene) {
		alice, old := s.caller("alice"), s.online("bob")
		ok(s.t, old.Inactive(s.ctx))
		call := s.call(alice, "bob")
		in := s.rings(old)
		ok(s.t, in.Ring())
		must[*phone.Message](s.t)(call.Wait(s.ctx, 180))
		bob := s.again(old, "bob")
		s.registers(bob, "bob")
		s.heard(bob, "INVITE", 0)
		must[*phone.Dialog](s.t)(in.Answer())
		ok(s.t, call.Answered(s.ctx))
	})
}

func TestAPhoneThatSaysNothingToAnInviteIsSilentAndPushed(t *testing.T) {
	quiet := Config{Core: func(c *core.Config) { c.Wake.CallPushInForeground = false }}
	everywhere(t, quiet, func(s *scene) {
		alice, old := s.caller("alice"), s.online("bob")
		call := s.call(alice, "bob")
		s.rings(old)
		s.pushed(1) // after 2 s without a word
		if c, _ := s.client(old); c.State != "silent" {
			s.t.Errorf("bob is %s, want silent", c.State)
		}
		bob := s.again(old, "bob")
		s.registers(bob, "bob")
		s.talks(bob, call)
		s.onlyPushes(1)
	})
}
