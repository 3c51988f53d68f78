package interop

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"sallyport/test/phone"
)

// texts has sipp send bob a message through Kamailio, which must be answered
// with status.
func texts(t *testing.T, ctx context.Context, s *System, transport, caller string, status int) {
	t.Helper()
	sender := StartCaller(t, s.PBX, SippCall{Scenario: "message", To: "bob", Caller: caller, Name: "Caller " + caller, Status: status, Transport: transport})
	must(t, sender.Wait(ctx))
}

// reads takes the next message that a phone gets.
func reads(t *testing.T, ctx context.Context, p *phone.Phone, caller string) (m *phone.Message) {
	t.Helper()
	select {
	case m = <-p.Messages():
	case <-ctx.Done():
		t.Fatalf("no message of %s", caller)
	}
	if got := strings.TrimSpace(string(m.Body)); m.Method != "MESSAGE" || got != "from "+caller {
		t.Errorf("got %s %q, want the message of %s", m.Method, got, caller)
	}
	return m
}

// T-SM-1, T-SM-2, B7 and B10 with Kamailio between: it forks by contact, and
// hands on what the core answers.
func TestSippTextsASleepingPhoneBehindKamailio(t *testing.T) {
	for _, transport := range []phone.Transport{phone.TLS, phone.WSS} {
		t.Run(string(transport), func(t *testing.T) {
			t.Parallel()
			s := StartSystem(t)
			ctx := within(t, 25*time.Second)
			bob, push := s.Phone("bob", transport), s.Push()
			online(t, ctx, bob, push)
			sender := StartCaller(t, s.PBX, SippCall{Scenario: "message", To: "bob", Caller: "4700", Status: 200}) // awake: its own answer
			reads(t, ctx, bob, "4700")
			must(t, sender.Wait(ctx))
			bob.Sleep()
			s.untilAsleep(bob.AOR())
			for i := range 3 {
				texts(t, ctx, s, []string{"udp", "tcp"}[i%2], fmt.Sprint(4711+i), 202)
			}
			if said := s.Pushed(1); said["channel"] != "message" || said["event"] != "message" {
				t.Errorf("the push says %v", said)
			}
			online(t, ctx, bob, push)
			for i := range 3 {
				if m := reads(t, ctx, bob, fmt.Sprint(4711+i)); m.Get("Date") == "" {
					t.Error("a message says not when it was sent")
				}
			}
			must(t, bob.Ping(ctx))
			if n := bob.Count("MESSAGE"); n != 4 {
				t.Errorf("bob got %d messages, want 4", n)
			}
		})
	}
}
