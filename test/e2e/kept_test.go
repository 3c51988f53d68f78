package e2e

import (
	"context"
	"slices"
	"strings"
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
		if took := s.ends(s.call(alice, "bob"), 480); took > atOnce {
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
		if took := s.ends(call, 480); took > atOnce {
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
		if took := s.ends(s.call(alice, "bob"), 480); took > atOnce {
			s.t.Errorf("480 after %v, want the grace at most", took)
		}
		s.until("bob is gone", func() bool { c, _ := s.client(bob); return c.State == "gone" })
		s.ends(s.call(alice, "bob"), 480)
	})
}

func TestB1EachDialectOfPushParametersIsUnderstood(t *testing.T) {
	dialects := map[string]struct {
		push  func(s *scene) phone.Push
		kinds []string
	}{
		"Linphone":          {func(s *scene) phone.Push { return s.PushOf("bob") }, []string{"voip", "alert"}},
		"Linphone, escaped": {func(s *scene) phone.Push { return s.PushOf("bob").Escaped() }, []string{"voip", "alert"}},
		"RFC 8599 with a VoIP app": {func(s *scene) phone.Push {
			return phone.RFC8599("apns", s.TeamID+"."+App+".voip", Token("bob", "voip"))
		}, []string{"voip"}},
	}
	for name, d := range dialects {
		t.Run(name, func(t *testing.T) {
			at(t, PBXDomain, Config{}, func(s *scene) {
				alice, bob := s.caller("alice"), s.new("bob")
				s.registersAs(bob, phone.Registration{Push: d.push(s), RegID: 1})
				for _, contact := range s.PBX.Contacts("bob") {
					if strings.Contains(contact, "pn-") {
						s.t.Errorf("the PBX was told of push: %s", contact)
					}
				}
				c, _ := s.client(bob)
				var kinds []string
				for _, token := range c.Tokens {
					kinds = append(kinds, token.Kind)
				}
				if !slices.Equal(kinds, d.kinds) {
					s.t.Errorf("tokens %+v, want %v", c.Tokens, d.kinds)
				}
				s.sleeps(bob)
				s.call(alice, "bob")
				if p := s.pushed(1); p.Event != "call" || p.Token != Token("bob", "voip") || p.Topic != App+".voip" {
					s.t.Errorf("pushed %+v", p)
				}
			})
		})
	}
}

func TestB2NobodyButThePBXIsHeardInside(t *testing.T) {
	strict := Config{Core: func(c *core.Config) { c.SIP.Trusted = []string{"192.0.2.0/24"} }}
	at(t, PBXDomain, strict, func(s *scene) {
		bob := s.online("bob")
		stranger := s.new("carol", func(c *phone.Config) {
			c.Transport, c.Addr, c.Public, c.TLS = phone.TCP, s.CoreSIP, "", nil
		})
		ok(s.t, stranger.Connect(s.ctx))
		for _, method := range []string{"INVITE", "OPTIONS", "REGISTER", "MESSAGE"} {
			ok(s.t, stranger.Connect(s.ctx))
			if _, err := stranger.Do(s.ctx, stranger.Request(method, s.uri("bob"))); phone.Status(err) != 403 {
				s.t.Errorf("%s answered %v, want 403", method, err)
			}
		}
		s.heard(bob, "INVITE", 0)
		s.onlyPushes(0)
	})
}

func TestB29ASleepingPhoneOutlivesItsRegistration(t *testing.T) {
	everywhere(t, Config{}, func(s *scene) {
		alice, bob := s.caller("alice"), s.new("bob")
		s.registersAs(bob, phone.Registration{Push: s.PushOf("bob"), RegID: 1, Expires: time.Second})
		s.sleeps(bob)
		s.until("the registration is over", func() bool {
			c, _ := s.client(bob)
			return c.Expires == nil || time.Now().After(c.Expires.Add(100*time.Millisecond))
		})
		s.wakesFor(alice, bob, "bob", 1)
	})
}
