package e2e

import (
	"strings"
	"testing"

	"sallyport/test/phone"
)

func TestAWrongPasswordLeavesNoBinding(t *testing.T) {
	everywhere(t, Config{}, func(s *scene) {
		alice := s.caller("alice")
		bob := s.new("bob", func(c *phone.Config) { c.Password = "guessed" })
		ok(s.t, bob.Connect(s.ctx))
		if _, err := bob.Register(s.ctx, phone.Registration{Push: s.PushOf("bob"), RegID: 1}); phone.Status(err) != 401 {
			s.t.Errorf("REGISTER answered %v, want 401", err)
		}
		if c, known := s.client(bob); known {
			s.t.Errorf("bound: %+v", c)
		}
		s.ends(s.call(alice, "bob"), 480)
		s.heard(bob, "INVITE", 0)
		s.onlyPushes(0)
	})
}

func TestAnotherUsersFromIsForbidden(t *testing.T) {
	everywhere(t, Config{}, func(s *scene) {
		mallory, bob := s.caller("carol"), s.online("bob")
		for _, method := range []string{"INVITE", "MESSAGE", "SUBSCRIBE", "INFO"} {
			req := mallory.Request(method, s.uri("bob"))
			req.Set("From", "<"+s.uri("alice")+">;tag=1")
			req.Add("Contact", "<sip:carol@carol.invalid>")
			if _, err := mallory.Do(s.ctx, req); phone.Status(err) != 403 {
				s.t.Errorf("%s answered %v, want 403", method, err)
			}
			s.heard(bob, method, 0)
		}
		s.onlyPushes(0)
	})
}

func TestWhoHasNotRegisteredMayNotCall(t *testing.T) {
	everywhere(t, Config{}, func(s *scene) {
		bob, stranger := s.online("bob"), s.new("alice")
		ok(s.t, stranger.Connect(s.ctx))
		s.ends(s.call(stranger, "bob"), 403)
		s.heard(bob, "INVITE", 0)
	})
}

func TestAPreloadedRouteIsForbidden(t *testing.T) {
	everywhere(t, Config{}, func(s *scene) {
		alice, bob := s.caller("alice"), s.online("bob")
		for _, route := range []string{"<sip:192.0.2.1;lr>", "<sip:127.0.0.1:1;transport=tcp;lr>", "<sip:nobody@localhost;lr>"} {
			call := s.call(alice, "bob", phone.Header{Name: "Route", Value: route})
			s.ends(call, 403)
		}
		s.heard(bob, "INVITE", 0)
	})
}

func TestAStrangerWhoKnowsInstanceAndTokensStealsNothing(t *testing.T) {
	everywhere(t, Config{}, func(s *scene) {
		alice, bob := s.caller("alice"), s.asleep("bob")
		call := s.call(alice, "bob")
		s.pushed(1)

		stranger := s.new("bob", func(c *phone.Config) { c.Instance, c.Password = bob.Instance(), "guessed" })
		ok(s.t, stranger.Connect(s.ctx))
		for _, r := range []phone.Registration{
			{Push: s.PushOf("bob"), RegID: 1, Anonymous: true},
			{Push: s.PushOf("bob"), RegID: 1},
			{Push: s.PushOf("mallory"), RegID: 1},
			{Expires: -1, RegID: 1},
		} {
			if _, err := stranger.Register(s.ctx, r); phone.Status(err) != 401 {
				s.t.Errorf("REGISTER answered %v, want 401", err)
			}
		}
		s.heard(stranger, "INVITE", 0)

		s.registers(bob, "bob")
		s.talks(bob, call)
		s.heard(stranger, "INVITE", 0)
		s.onlyPushes(1)
	})
}

func TestWhatIsNoSIPEndsTheFlowAndNothingElse(t *testing.T) {
	everywhere(t, Config{}, func(s *scene) {
		alice, bob := s.caller("alice"), s.online("bob")
		for name, garbage := range map[string]string{
			"a web request": "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
			"a huge header": "OPTIONS sip:x SIP/2.0\r\nX: " + strings.Repeat("x", 70_000),
			"no headers":    "OPTIONS sip:x SIP/2.0\r\n\r\n",
		} {
			vandal := s.new("carol")
			ok(s.t, vandal.Connect(s.ctx))
			ok(s.t, vandal.Write([]byte(garbage)))
			select {
			case <-vandal.Gone():
			case <-s.ctx.Done():
				s.t.Fatalf("%s did not end the flow", name)
			}
		}
		call := s.call(alice, "bob")
		s.talks(bob, call)
	})
}
