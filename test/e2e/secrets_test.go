package e2e

import (
	"context"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"sallyport/core/push/pushtest"
	"sallyport/test/phone"
)

// TestNothingSecretIsLogged tells what happens in a day, with both halves'
// logs at debug, and looks for what may not be in them.
func TestNothingSecretIsLogged(t *testing.T) {
	for _, domain := range []string{PBXDomain, Domain} {
		t.Run(domain, func(t *testing.T) {
			var text syncBuffer
			cfg := window(4 * time.Second)
			cfg.PBX = domain == PBXDomain
			cfg.Log = slog.New(slog.NewJSONHandler(&text, &slog.HandlerOptions{Level: slog.LevelDebug}))
			town, ctx := inTown(t, cfg)
			s := &scene{Town: town, t: t, ctx: ctx, domain: domain, transport: phone.TLS}
			secrets := aDay(s)
			for _, line := range strings.Split(text.String(), "\n") {
				if !strings.Contains(line, `"half":"`) {
					continue // a part of the town that is not ours
				}
				for what, secret := range secrets {
					if strings.Contains(line, secret) {
						t.Errorf("%s is in the log: %s", what, line)
					}
				}
			}
			if n := strings.Count(text.String(), "\n"); n < 50 {
				t.Errorf("%d lines were logged: is debug on?", n)
			}
		})
	}
}

// aDay returns what must not be in a log, by what it is.
func aDay(s *scene) map[string]string {
	secrets := map[string]string{
		"the password of alice": Password("alice"), "the password of bob": Password("bob"),
		"a VoIP token": Token("bob", "voip"), "an alert token": Token("bob", "alert"),
		"an Authorization header": "Authorization", "a digest": "Digest ", "a digest's response": "response=",
		"a session description": "m=audio", "a message's text": "are you there",
		"an AOR": "alice@" + s.domain, "another AOR": "bob@" + s.domain, "a display name": "Alice Example",
		"an APNs payload": `\"aps\"`, "a provider token": "eyJ", "a push key": "PRIVATE KEY",
		"an app's push parameters": "pn-prid",
	}
	spied := func(c *phone.Config) {
		c.Log = nil
		c.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, addr)
			if err == nil {
				secrets["the address of "+c.AOR] = conn.LocalAddr().String()
			}
			return conn, err
		}
	}
	alice := s.online("alice", spied, func(c *phone.Config) { c.DisplayName = "Alice Example" })
	bob := s.online("bob", spied)
	_, _ = alice.Message(s.ctx, s.uri("bob"), "are you there?")
	s.sleeps(bob)
	told := 0 // pushes that say that a message waits
	if m, err := alice.Message(s.ctx, s.uri("bob"), "are you there?"); err == nil && m.Status == 202 {
		told = 1
		s.pushed(told)
	}
	s.wakesFor(alice, bob, "bob", told+1)
	s.sleeps(bob)

	s.ends(s.call(alice, "bob"), 480) // missed
	s.pushed(told + 3)
	call := s.call(alice, "bob")
	s.pushed(told + 4)
	ok(s.t, call.Cancel(s.ctx))
	s.ends(call, 487)
	s.APNs.Inject(pushtest.Fault{Count: 2, Status: 503, Reason: "ServiceUnavailable"})
	s.ends(s.call(alice, "bob"), 480)
	s.APNs.Unregister(Token("bob", "voip"), time.Now())
	s.ends(s.call(alice, "bob"), 480)
	s.ends(s.call(alice, "bob"), 480)

	s.ends(s.call(alice, "bob", phone.Header{Name: "Route", Value: "<sip:192.0.2.1;lr>"}), 403)
	forged := alice.Request("INVITE", s.uri("bob"))
	forged.Set("From", "<"+s.uri("bob")+">;tag=1")
	_, _ = alice.Do(s.ctx, forged)
	broken := alice.Request("INVITE", s.uri("bob"))
	broken.Set("CSeq", "nonsense")
	broken.Set("Via", "SIP/2.0/TLS x;branch=z9hG4bKbroken")
	ok(s.t, alice.Write(broken.Bytes()))
	ok(s.t, alice.Ping(s.ctx))
	s.registers(alice, "alice")

	mallory := s.new("bob", spied, func(c *phone.Config) { c.Password = "guessed-by-mallory" })
	secrets["a wrong password"] = "guessed-by-mallory"
	ok(s.t, mallory.Connect(s.ctx))
	_, _ = mallory.Register(s.ctx, phone.Registration{Push: s.PushOf("bob"), RegID: 1})
	s.registers(bob, "bob")
	ok(s.t, bob.Unregister(s.ctx))

	s.Stop("core")
	ok(s.t, s.StartCore())
	ok(s.t, s.Ready(s.ctx))
	s.Stop("edge")
	s.loses(alice)
	return secrets
}
