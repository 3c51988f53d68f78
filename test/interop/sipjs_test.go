package interop

import (
	"testing"
	"time"
)

func TestASleepingSIPJSPageIsWokenAndAnswers(t *testing.T) {
	t.Parallel()
	s := StartSystem(t)
	ctx := within(t, 25*time.Second)
	page := s.SIPJS("bob", s.WebPush())
	page.Expect(ctx, "registered")
	page.Tell("sleep")
	page.Expect(ctx, "asleep")
	s.untilAsleep("sip:bob@example.com")
	caller := StartCaller(t, s.PBX, SippCall{Scenario: "uac", To: "bob"})
	s.Pushed(1)
	page.Tell("wake")
	page.Expect(ctx, "incoming")
	page.Tell("answer")
	page.Expect(ctx, "confirmed")
	must(t, caller.Wait(ctx))
}

func TestQuirkSIPJSKeepsItsCallWhenItReconnects(t *testing.T) {
	t.Parallel()
	s := StartSystem(t)
	ctx := within(t, 25*time.Second)
	page := s.SIPJS("bob", nil)
	page.Expect(ctx, "registered")
	callee := StartCallee(t, "uas_reinvited")
	page.Call("sip:" + callee.User + "@" + s.PBX.Domain)
	page.Expect(ctx, "confirmed")

	page.Tell("sleep")
	page.Expect(ctx, "disconnected")
	s.untilAsleep("sip:bob@example.com")
	page.Tell("wake")
	page.Expect(ctx, "registered")
	// The dialog is the instance's, not the flow's: a re-INVITE on the new one
	// reaches the callee, and so does the callee's BYE the page.
	page.Tell("renegotiate")
	page.Expect(ctx, "renegotiated")
	page.Expect(ctx, "ended")
	must(t, callee.Wait(ctx))
}

func TestQuirkSIPJSCRLFInAFrameIsAnswered(t *testing.T) {
	t.Parallel()
	s := StartSystem(t)
	ctx := within(t, 25*time.Second)
	page := s.SIPJS("bob", nil)
	page.Expect(ctx, "registered")
	for range 2 {
		page.Expect(ctx, "pong")
	}
	// SIP.js hangs up where an answer is late; it has not.
	if n := page.Count("disconnected"); n != 0 {
		t.Errorf("the page lost its connection %d times", n)
	}
}
