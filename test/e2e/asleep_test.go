package e2e

import (
	"strings"
	"testing"
	"time"

	"sallyport/core"
	"sallyport/test/phone"
	"sallyport/tunnel/unit"
)

// window makes the wake window short.
func window(d time.Duration) Config {
	return Config{Core: func(c *core.Config) { c.Wake.Window = unit.Duration{Duration: d} }}
}

func TestB6B9ASleepingPhoneIsPushedOnceOnTheVoIPChannelAndRings(t *testing.T) {
	everywhere(t, Config{}, func(s *scene) {
		alice := s.new("alice", func(c *phone.Config) { c.DisplayName = "Alice Example" })
		s.registers(alice, "alice")
		bob := s.asleep("bob")
		call := s.call(alice, "bob")
		want := push{
			Token: Token("bob", "voip"), Topic: App + ".voip", Channel: "voip", Event: "call", CallID: call.CallID(),
			FromURI: s.uri("alice"), FromName: "Alice Example", Number: "alice", To: s.uri("bob"),
		}
		if got := s.pushed(1); got != want {
			s.t.Errorf("pushed %+v, want %+v", got, want)
		}
		s.registers(bob, "bob")
		theirs := s.talks(bob, call)
		ok(s.t, call.Bye(s.ctx))
		ok(s.t, theirs.WaitBye(s.ctx))
		s.heard(bob, "INVITE", 1)
		s.onlyPushes(1)
	})
}

func TestB9AVideoCallAndALargeOfferGetThrough(t *testing.T) {
	// 60 KB leaves room for the headers in the edge's 64 KiB.
	offer := "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n" +
		"m=audio 9 RTP/AVP 0\r\nm=video 9 RTP/AVP 96\r\n"
	offer += strings.Repeat("a=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\n", (60_000-len(offer))/44)
	everywhere(t, Config{}, func(s *scene) {
		alice, bob := s.caller("alice"), s.asleep("bob")
		req := alice.Request("INVITE", s.uri("bob"))
		req.Add("Contact", "<sip:alice@alice.invalid>")
		req.Add("Content-Type", "application/sdp")
		req.Body = []byte(offer)
		answer := make(chan error, 1)
		go func() { _, err := alice.Do(s.ctx, req); answer <- err }()
		if p := s.pushed(1); !p.Video {
			s.t.Errorf("pushed %+v, want a video call", p)
		}
		s.registers(bob, "bob")
		in := s.rings(bob)
		if got := string(in.Request.Body); got != offer {
			s.t.Errorf("the offer has %d bytes, want the %d that were sent", len(got), len(offer))
		}
		ok(s.t, in.Reject(486, "Busy Here"))
		if err := <-answer; phone.Status(err) != 486 {
			s.t.Errorf("the caller hears %v, want 486", err)
		}
	})
}

func TestB8AClientWithOneTokenGetsBothOnIt(t *testing.T) {
	everywhere(t, window(time.Second), func(s *scene) {
		alice, bob := s.caller("alice"), s.new("bob")
		token := Token("bob", "only")
		s.registersAs(bob, phone.Registration{Push: phone.RFC8599("apns", s.TeamID+"."+App, token)})
		s.sleeps(bob)
		s.ends(s.call(alice, "bob"), 480)
		for i, event := range []string{"call", "missed"} {
			if p := s.pushed(i + 1); p.Event != event || p.Token != token || p.Topic != App {
				s.t.Errorf("pushed %+v, want %s at the one token", p, event)
			}
		}
	})
}

func TestB12ATokenOfAProviderThatIsNotServedIsNeverPushed(t *testing.T) {
	everywhere(t, Config{}, func(s *scene) {
		alice, bob := s.caller("alice"), s.new("bob")
		s.registersAs(bob, phone.Registration{Push: phone.RFC8599("fcm", App, Token("bob", "fcm"))})
		if c, _ := s.client(bob); len(c.Tokens) != 1 || c.Tokens[0].State != "no app" {
			s.t.Errorf("tokens %+v, want one that no app fits", c.Tokens)
		}
		s.sleeps(bob)
		s.ends(s.call(alice, "bob"), 480)
		s.onlyPushes(0)
	})
}

func TestB13AnOfficePhoneCallsARemoteOneAndIsCalled(t *testing.T) {
	at(t, PBXDomain, Config{}, func(s *scene) {
		desk := s.new("alice", func(c *phone.Config) {
			c.Transport, c.Addr, c.Public, c.TLS = phone.TCP, s.PBXSIP, "", nil
		})
		s.registersAs(desk, phone.Registration{})
		bob := s.asleep("bob")
		call := s.call(desk, "bob")
		if p := s.pushed(1); p.Number != "alice" {
			s.t.Errorf("pushed %+v", p)
		}
		s.registers(bob, "bob")
		theirs := s.talks(bob, call)
		ok(s.t, call.Bye(s.ctx))
		ok(s.t, theirs.WaitBye(s.ctx))

		call = s.call(bob, "alice")
		theirs = s.talks(desk, call)
		ok(s.t, theirs.Bye(s.ctx))
		ok(s.t, call.WaitBye(s.ctx))
		s.onlyPushes(1)
	})
}

func TestB14WithPushSwitchedOffASleepingPhoneIsNotWaitedFor(t *testing.T) {
	off := Config{Core: func(c *core.Config) { c.Push.Enabled = false }}
	everywhere(t, off, func(s *scene) {
		alice, _ := s.caller("alice"), s.asleep("bob")
		if took := s.ends(s.call(alice, "bob"), 480); took > atOnce {
			s.t.Errorf("480 after %v, want it at once", took)
		}
		if n := len(s.APNs.Pushes()); n != 0 {
			s.t.Errorf("%d pushes", n)
		}
	})
}

func TestB15RingbackWhileThePhoneWakes(t *testing.T) {
	ringback := Config{Core: func(c *core.Config) {
		c.Wake.Ringback, c.Wake.RingbackAfter = "180", unit.Duration{Duration: time.Second}
	}}
	everywhere(t, ringback, func(s *scene) {
		alice, bob := s.caller("alice"), s.asleep("bob")
		call := s.call(alice, "bob")
		m := must[*phone.Message](s.t)(call.Wait(s.ctx, 180))
		if !strings.Contains(m.Get("To"), ";tag=") {
			s.t.Errorf("To %q has no tag of ours", m.Get("To"))
		}
		s.registers(bob, "bob")
		must[*phone.Dialog](s.t)(s.rings(bob).Answer())
		ok(s.t, call.Answered(s.ctx))
	})
}

func TestB16APhoneThatDoesNotComeBackHasMissedTheCall(t *testing.T) {
	everywhere(t, window(time.Second), func(s *scene) {
		alice, bob := s.caller("alice"), s.asleep("bob")
		call := s.call(alice, "bob")
		s.ends(call, 480)
		for i, want := range []push{{Channel: "voip", Event: "call"}, {Channel: "message", Event: "missed"}} {
			if p := s.pushed(i + 1); p.Channel != want.Channel || p.Event != want.Event || p.CallID != call.CallID() {
				s.t.Errorf("pushed %+v, want %s", p, want.Event)
			}
		}
		s.registers(bob, "bob") // too late
		s.heard(bob, "INVITE", 0)
		s.onlyPushes(2)
	})
}

func TestB17TheCallerHangsUpFirst(t *testing.T) {
	everywhere(t, Config{}, func(s *scene) {
		alice, bob := s.caller("alice"), s.asleep("bob")
		call := s.call(alice, "bob")
		s.pushed(1)
		ok(s.t, call.Cancel(s.ctx, phone.Header{Name: "Reason", Value: `SIP;cause=487;text="changed my mind"`}))
		if took := s.ends(call, 487); took > atOnce {
			s.t.Errorf("487 after %v, want it at once", took)
		}
		s.registers(bob, "bob")
		in := s.rings(bob)
		ok(s.t, in.WaitCancel(s.ctx))
		if in.CallID() != call.CallID() || !strings.Contains(in.Reason(), "changed my mind") {
			s.t.Errorf("CANCEL of %s says %q", in.CallID(), in.Reason())
		}
		s.onlyPushes(1)
	})
}

func TestB17TheCallerHangsUpOnAPhoneThatNeverWakes(t *testing.T) {
	everywhere(t, window(4*time.Second), func(s *scene) {
		alice, _ := s.caller("alice"), s.asleep("bob")
		call := s.call(alice, "bob")
		s.pushed(1)
		ok(s.t, call.Cancel(s.ctx))
		s.ends(call, 487)
		if p := s.pushed(2); p.Channel != "message" || p.Event != "missed" {
			s.t.Errorf("pushed %+v, want a missed call", p)
		}
	})
}

func TestB18AnsweredElsewhere(t *testing.T) {
	at(t, Domain, Config{}, func(s *scene) {
		alice, desk := s.caller("alice"), s.new("bob")
		s.registersAs(desk, phone.Registration{})
		bob := s.asleep("bob")
		call := s.call(alice, "bob")
		s.pushed(1)
		s.talks(desk, call)
		if p := s.pushed(2); p.Event != "answered_elsewhere" || p.Channel != "message" || p.Token != Token("bob", "alert") {
			s.t.Errorf("pushed %+v, want answered_elsewhere", p)
		}
		s.registers(bob, "bob")
		in := s.rings(bob)
		ok(s.t, in.WaitCancel(s.ctx))
		if !strings.HasPrefix(in.Reason(), "SIP;cause=200") {
			s.t.Errorf("CANCEL says %q", in.Reason())
		}
		ok(s.t, call.Bye(s.ctx))
		s.onlyPushes(2)
	})
}

func TestB18TwoPhonesThatAreAwakeAndOneAnswers(t *testing.T) {
	at(t, Domain, Config{}, func(s *scene) {
		alice, one, other := s.caller("alice"), s.online("bob"), s.new("bob")
		s.registers(other, "carol") // tokens are one device's alone
		call := s.call(alice, "bob")
		in := s.rings(other)
		ok(s.t, in.Ring())
		must[*phone.Dialog](s.t)(s.rings(one).Answer())
		ok(s.t, call.Answered(s.ctx))
		ok(s.t, in.WaitCancel(s.ctx))
		if !strings.HasPrefix(in.Reason(), "SIP;cause=200") {
			s.t.Errorf("CANCEL says %q", in.Reason())
		}
	})
}

func TestB20ThreeRegistersBringOneInvite(t *testing.T) {
	everywhere(t, Config{}, func(s *scene) {
		alice, bob := s.caller("alice"), s.asleep("bob")
		call := s.call(alice, "bob")
		s.pushed(1)
		s.registers(bob, "bob") // with a challenge
		for range 2 {
			must[*phone.Message](s.t)(bob.Register(s.ctx, phone.Registration{Push: s.PushOf("bob"), RegID: 1}))
		}
		s.talks(bob, call)
		s.heard(bob, "INVITE", 1)
		s.onlyPushes(1)
	})
}
