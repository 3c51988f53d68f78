package e2e

import (
	"context"
	"testing"
	"time"

	"sallyport/core"
	"sallyport/test/phone"
	"sallyport/tunnel/unit"
)

func TestB27TheCoreAnswersForASleepingPhone(t *testing.T) {
	at(t, PBXDomain, Config{}, func(s *scene) {
		alice, bob := s.caller("alice"), s.asleep("bob")
		must[*phone.Message](s.t)(alice.Options(s.ctx, s.uri("bob")))
		for _, text := range []string{"old", "new"} {
			notify := alice.Request("NOTIFY", s.uri("bob"))
			notify.Add("Event", "message-summary")
			notify.Add("Subscription-State", "active")
			notify.Add("Content-Type", "application/simple-message-summary")
			notify.Body = []byte(text)
			must[*phone.Message](s.t)(alice.Do(s.ctx, notify))
		}
		if _, err := alice.Do(s.ctx, alice.Request("INFO", s.uri("bob"))); phone.Status(err) != 480 {
			s.t.Errorf("INFO answered %v, want 480", err)
		}
		s.onlyPushes(0)
		s.registers(bob, "bob")
		if m := <-bob.Messages(); m.Method != "NOTIFY" || string(m.Body) != "new" {
			s.t.Errorf("kept for bob: %s %q", m.Method, m.Body)
		}
		s.heard(bob, "NOTIFY", 1)
		s.heard(bob, "OPTIONS", 0)
	})
}

func TestB27WhatADialogBringsIsKeptForTheNextFlow(t *testing.T) {
	requests := map[string]func(ctx context.Context, call *phone.Dialog) error{
		"BYE": func(ctx context.Context, call *phone.Dialog) error { return call.Bye(ctx) },
		"re-INVITE": func(ctx context.Context, call *phone.Dialog) error {
			_, err := call.Reinvite(ctx)
			return err
		},
		"UPDATE": func(ctx context.Context, call *phone.Dialog) error {
			_, err := call.Do(ctx, "UPDATE", nil)
			return err
		},
	}
	for name, send := range requests {
		t.Run(name, func(t *testing.T) {
			everywhere(t, Config{Core: func(c *core.Config) { c.Wake.CallPushInForeground = false }}, func(s *scene) {
				alice, bob := s.caller("alice"), s.online("bob")
				call := s.call(alice, "bob")
				s.talks(bob, call)
				s.sleeps(bob)
				answer := make(chan error, 1)
				go func() { answer <- send(s.ctx, call) }()
				ok(s.t, alice.Ping(s.ctx)) // it has left
				s.registers(bob, "bob")
				ok(s.t, <-answer)
				s.onlyPushes(0)
			})
		})
	}
}

func TestB28TheEleventhCallOfAMinuteIsRefused(t *testing.T) {
	everywhere(t, Config{}, func(s *scene) {
		alice, bob := s.caller("alice"), s.asleep("bob")
		for n := range 10 {
			call := s.call(alice, "bob")
			s.until("a VoIP push", func() bool { return s.ringing() > n })
			ok(s.t, call.Cancel(s.ctx))
			s.ends(call, 487)
		}
		if took := s.ends(s.call(alice, "bob"), 480); took > time.Second {
			s.t.Errorf("480 after %v, want it at once", took)
		}
		s.registers(bob, "bob")
		for range 3 { // of the ten, the last three are shown as ended
			ok(s.t, s.rings(bob).WaitCancel(s.ctx))
		}
		s.heard(bob, "INVITE", 3)
		if n := s.ringing(); n != 10 {
			s.t.Errorf("%d VoIP pushes, want 10", n)
		}
	})
}

// ringing counts the pushes on the VoIP channel.
func (s *scene) ringing() (n int) {
	for _, p := range s.pushes() {
		if p.Channel == "voip" {
			n++
		}
	}
	return n
}

func TestB29APhoneThatUnregistersIsForgotten(t *testing.T) {
	everywhere(t, Config{}, func(s *scene) {
		alice, bob := s.caller("alice"), s.online("bob")
		ok(s.t, bob.Unregister(s.ctx))
		if c, known := s.client(bob); known {
			s.t.Errorf("still known: %+v", c)
		}
		s.sleeps(bob)
		s.ends(s.call(alice, "bob"), 480)
		s.onlyPushes(0)
	})
}

func TestB29APhoneThatUnregistersWhileACallWaitsEndsIt(t *testing.T) {
	everywhere(t, Config{}, func(s *scene) {
		alice, bob := s.caller("alice"), s.asleep("bob")
		call := s.call(alice, "bob")
		s.pushed(1)
		ok(s.t, bob.Connect(s.ctx))
		ok(s.t, bob.Unregister(s.ctx))
		if took := s.ends(call, 480); took > time.Second {
			s.t.Errorf("480 after %v, want it at once", took)
		}
		s.onlyPushes(1)
	})
}

func grace(d time.Duration) Config {
	return Config{Core: func(c *core.Config) { c.Wake.ReconnectGrace = unit.Duration{Duration: d} }}
}

func TestB30APhoneWithoutATokenIsWaitedForWhileItReconnects(t *testing.T) {
	everywhere(t, grace(20*time.Second), func(s *scene) {
		alice, bob := s.caller("alice"), s.new("bob")
		s.registersAs(bob, phone.Registration{RegID: 1})
		s.sleeps(bob)
		call := s.call(alice, "bob")
		must[*phone.Message](s.t)(call.Wait(s.ctx, 100))
		s.registersAs(bob, phone.Registration{RegID: 1})
		s.talks(bob, call)
	})
}

func TestB30APhoneWithoutATokenIsGoneAfterTheGrace(t *testing.T) {
	everywhere(t, grace(200*time.Millisecond), func(s *scene) {
		alice, bob := s.caller("alice"), s.new("bob")
		s.registersAs(bob, phone.Registration{RegID: 1})
		s.sleeps(bob)
		if took := s.ends(s.call(alice, "bob"), 480); took > time.Second {
			s.t.Errorf("480 after %v, want the grace at most", took)
		}
		s.until("bob is gone", func() bool { c, _ := s.client(bob); return c.State == "gone" })
		s.ends(s.call(alice, "bob"), 480)
	})
}
