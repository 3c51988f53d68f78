package e2e

import "testing"

func TestB21KillNineOfTheCoreLosesNoSleepingPhone(t *testing.T) {
	binary := build(t, "sallyport-core")
	at(t, PBXDomain, Config{}, func(s *scene) {
		proc := coreApart(s.t, s.ctx, s.Town, binary)
		alice, bob := s.caller("alice"), s.asleep("bob")
		proc.kill()
		proc.start(s.ctx)
		s.connected(alice)
		s.wakesFor(alice, bob, "bob", 1)
	})
}

func TestB21KillNineOfTheCoreWhileACallIsHeld(t *testing.T) {
	binary := build(t, "sallyport-core")
	at(t, Domain, Config{}, func(s *scene) {
		proc := coreApart(s.t, s.ctx, s.Town, binary)
		alice, bob := s.caller("alice"), s.asleep("bob")
		s.call(alice, "bob") // is lost with the core that held it
		s.pushed(1)
		proc.kill()
		proc.start(s.ctx)
		s.registers(bob, "bob") // comes for the first push, for nothing
		s.heard(bob, "INVITE", 0)
		s.sleeps(bob)
		s.wakesFor(alice, bob, "bob", 2)
		s.connected(alice)
	})
}
