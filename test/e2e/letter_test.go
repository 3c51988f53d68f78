package e2e

import (
	"fmt"
	"testing"

	"sallyport/test/phone"
)

// texts has one phone send another a message, which must be taken with status.
func (s *scene) texts(from *phone.Phone, user, text string, status int) {
	s.t.Helper()
	m := must[*phone.Message](s.t)(from.Message(s.ctx, s.uri(user), text))
	if m.Status != status {
		s.t.Errorf("%q was answered %d, want %d", text, m.Status, status)
	}
}

// reads takes the next message that a phone gets.
func (s *scene) reads(p *phone.Phone, want string) (m *phone.Message) {
	s.t.Helper()
	select {
	case m = <-p.Messages():
	case <-s.ctx.Done():
		s.t.Fatalf("%s never got %q", p.AOR(), want)
	}
	if m.Method != "MESSAGE" || string(m.Body) != want {
		s.t.Errorf("%s got %s %q, want %q", p.AOR(), m.Method, m.Body, want)
	}
	return m
}

// TestTSM1B7B10ASleepingPhonesMessagesWaitAndComeInOrder also shows R15: the
// pushes of one conversation are merged.
func TestTSM1B7B10ASleepingPhonesMessagesWaitAndComeInOrder(t *testing.T) {
	everywhere(t, Config{}, func(s *scene) {
		alice, bob := s.caller("alice"), s.asleep("bob")
		for i := range 50 {
			s.texts(alice, "bob", fmt.Sprint("text ", i), 202)
		}
		p := s.pushed(1)
		if p.Channel != "message" || p.Event != "message" || p.Token != Token("bob", "alert") || p.Topic != App {
			s.t.Errorf("pushed %+v, want one on the Message channel", p)
		}
		if c, _ := s.client(bob); c.Held != 50 {
			s.t.Errorf("%d messages are held, want 50", c.Held)
		}
		s.registers(bob, "bob")
		for i := range 50 {
			if m := s.reads(bob, fmt.Sprint("text ", i)); m.Get("Date") == "" {
				s.t.Error("a message says not when it was sent")
			}
		}
		s.until("nothing is held", func() bool { c, _ := s.client(bob); return c.Held == 0 })
		s.heard(bob, "MESSAGE", 50)
		if n := len(s.pushes()); n > 2 {
			s.t.Errorf("%d pushes for one conversation", n)
		}
	})
}

func TestB5AMessageToAPhoneThatLooksIsNotHeldAndNotPushed(t *testing.T) {
	everywhere(t, Config{}, func(s *scene) {
		alice, bob := s.caller("alice"), s.online("bob")
		s.texts(alice, "bob", "hello", 200)
		s.reads(bob, "hello")
		s.onlyPushes(0)
	})
}

func TestTSM5B21KillNineBetween202AndDeliveryLosesNoMessage(t *testing.T) {
	binary := build(t, "sallyport-core")
	for _, domain := range []string{Domain, PBXDomain} {
		at(t, domain, Config{}, func(s *scene) {
			proc := coreApart(s.t, s.ctx, s.Town, binary)
			alice, bob := s.caller("alice"), s.asleep("bob")
			for i := range 3 {
				s.texts(alice, "bob", fmt.Sprint("text ", i), 202)
			}
			proc.kill()
			proc.start(s.ctx)
			s.registers(bob, "bob")
			for i := range 3 {
				s.reads(bob, fmt.Sprint("text ", i))
			}
			s.heard(bob, "MESSAGE", 3)
		})
	}
}

// A stand-alone domain knows its users, also those who have no phone yet.
func TestAMessageForAUserWithoutAPhoneWaitsForTheFirst(t *testing.T) {
	at(t, Domain, Config{}, func(s *scene) {
		alice := s.caller("alice")
		s.texts(alice, "bob", "welcome", 202)
		if _, err := alice.Message(s.ctx, s.uri("nobody"), "hello?"); phone.Status(err) != 404 {
			s.t.Errorf("a message to nobody: %v, want 404", err)
		}
		bob := s.online("bob")
		s.reads(bob, "welcome")
		s.onlyPushes(0)
	})
}
