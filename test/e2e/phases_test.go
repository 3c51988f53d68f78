package e2e

import (
	"testing"

	"sallyport/test/phone"
)

// A phase is a moment in the life of a call to a phone that slept.
type phase int

const (
	pushedFor phase = iota // the push is accepted, the phone not yet back
	invited                // the INVITE has reached the phone, which has said nothing
	ringing                // the caller has heard 180
	talking                // ACK has arrived
)

var phases = []struct {
	phase
	name string
}{{pushedFor, "pushed"}, {invited, "invited"}, {ringing, "ringing"}, {talking, "talking"}}

// ongoing is a call that was brought to a phase.
type ongoing struct {
	call *phone.Dialog   // the caller's
	in   *phone.Incoming // from invited on
	end  *phone.Dialog   // the callee's, from talking on
}

// bring calls bob, who sleeps, and goes on to a phase.
func (s *scene) bring(caller, bob *phone.Phone, to phase) *ongoing {
	s.t.Helper()
	o := &ongoing{call: s.call(caller, "bob")}
	s.pushed(1)
	if to == pushedFor {
		return o
	}
	s.registers(bob, "bob")
	if to == talking {
		o.end = s.talks(bob, o.call)
		return o
	}
	o.in = s.rings(bob)
	if to == ringing {
		ok(s.t, o.in.Ring())
		must[*phone.Message](s.t)(o.call.Wait(s.ctx, 180))
	}
	return o
}

// A core that is killed takes the calls with it that were being set up, and
// nothing else: no socket of a client, no binding, no call that stands.
func TestB21KillNineOfTheCoreInEachPhaseOfAHeldCall(t *testing.T) {
	binary := build(t, "sallyport-core")
	for _, p := range phases {
		t.Run(p.name, func(t *testing.T) {
			at(t, PBXDomain, Config{}, func(s *scene) {
				proc := coreApart(s.t, s.ctx, s.Town, binary)
				alice, bob := s.caller("alice"), s.asleep("bob")
				o := s.bring(alice, bob, p.phase)
				proc.kill()
				proc.start(s.ctx)
				s.connected(alice)
				switch p.phase {
				case talking:
					s.connected(bob)
					must[*phone.Message](s.t)(o.call.Reinvite(s.ctx))
					must[*phone.Message](s.t)(o.end.Reinvite(s.ctx))
					ok(s.t, o.end.Bye(s.ctx))
					ok(s.t, o.call.WaitBye(s.ctx))
				case pushedFor:
					s.registers(bob, "bob") // for the first push, in vain
				default:
					s.connected(bob)
				}
				again := s.call(alice, "bob")
				s.talks(bob, again)
				ok(s.t, again.Bye(s.ctx))
			})
		})
	}
}

// An edge that is killed takes the sockets of its clients. The calls are the
// core's: whoever comes back in time gets its call, in every phase.
func TestB21KillNineOfTheEdgeInEachPhaseOfAHeldCall(t *testing.T) {
	binary := build(t, "sallyport-edge")
	for _, p := range phases {
		t.Run(p.name, func(t *testing.T) {
			var cfg Config
			withEdgeAdmin(t, &cfg)
			for _, tr := range []phone.Transport{phone.TLS, phone.WSS} {
				t.Run(string(tr), func(t *testing.T) {
					cfg := cfg
					cfg.PBX = true
					town, ctx := inTown(t, cfg)
					s := &scene{Town: town, t: t, ctx: ctx, domain: PBXDomain, transport: tr}
					s.edgeDies(edgeApart(t, ctx, town, binary), p.phase)
				})
			}
		})
	}
}

// triesAgain registers as a client does whose edge was away: again and again,
// until the edge has a core.
func (s *scene) triesAgain(p *phone.Phone, user string) {
	s.t.Helper()
	s.until(p.AOR()+" registers", func() bool {
		if p.Connect(s.ctx) != nil {
			return false
		}
		_, err := p.Register(s.ctx, phone.Registration{Push: s.PushOf(user), RegID: 1})
		return err == nil
	})
}

func (s *scene) edgeDies(proc *half, at phase) {
	desk := s.new("alice", func(c *phone.Config) {
		*c = phone.Config{AOR: c.AOR, Password: c.Password, Transport: phone.TCP, Addr: s.PBXSIP, Log: c.Log}
	})
	s.registersAs(desk, phone.Registration{})
	bob := s.new("bob")
	s.triesAgain(bob, "bob")
	s.sleeps(bob)
	o := s.bring(desk, bob, at)
	proc.kill()
	if at > pushedFor {
		s.loses(bob)
	}
	proc.start(s.ctx)
	s.triesAgain(bob, "bob")
	if at == talking {
		must[*phone.Message](s.t)(o.call.Reinvite(s.ctx))
		must[*phone.Message](s.t)(o.end.Reinvite(s.ctx))
		ok(s.t, o.end.Bye(s.ctx))
		ok(s.t, o.call.WaitBye(s.ctx))
		return
	}
	in := s.rings(bob)
	if in.CallID() != o.call.CallID() {
		s.t.Errorf("bob rings for %s, want the call that was held, %s", in.CallID(), o.call.CallID())
	}
	end := must[*phone.Dialog](s.t)(in.Answer())
	ok(s.t, o.call.Answered(s.ctx))
	ok(s.t, end.WaitAck(s.ctx))
	ok(s.t, o.call.Bye(s.ctx))
	if n := len(s.APNs.Accepted()); n != 1 {
		s.t.Errorf("%d pushes for one call, want 1", n)
	}
}
