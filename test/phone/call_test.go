package phone

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestACallRingsIsAnsweredChangedAndEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		alice, bob := pair(t)
		call, err := alice.Call(t.Context(), contactOf(bob))
		must(t, err)
		in := ring(t, bob)
		must(t, in.Ring())
		if _, err := call.Wait(t.Context(), 180); err != nil {
			t.Fatal(err)
		}
		answered, err := in.Answer()
		must(t, err)
		must(t, call.Answered(t.Context()))
		must(t, answered.WaitAck(t.Context()))

		if _, err := answered.Reinvite(t.Context()); err != nil {
			t.Fatalf("the callee's re-INVITE: %v", err)
		}
		<-call.Reinvited()
		must(t, answered.Bye(t.Context()))
		must(t, call.WaitBye(t.Context()))
		if call.Hangup() == nil {
			t.Error("the caller does not know that the callee hung up")
		}
		for _, p := range []*Phone{alice, bob} {
			if c := p.Complaints(); len(c) > 0 {
				t.Errorf("%s complains: %q", p.AOR(), c)
			}
		}
	})
}

func TestACancelledCallSays487AndKeepsItsReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		alice, bob := pair(t)
		call, err := alice.Call(t.Context(), contactOf(bob))
		must(t, err)
		in := ring(t, bob)
		must(t, in.Ring())
		if _, err := call.Wait(t.Context(), 180); err != nil {
			t.Fatal(err)
		}
		must(t, call.Cancel(t.Context(), Header{"Reason", `SIP;cause=200;text="Call completed elsewhere"`}))
		must(t, in.WaitCancel(t.Context()))
		if in.Reason() != `SIP;cause=200;text="Call completed elsewhere"` {
			t.Errorf("Reason %q", in.Reason())
		}
		if _, err := call.Wait(t.Context(), 200); Status(err) != 487 {
			t.Errorf("the caller got %v, want 487", err)
		}
		<-in.Ended() // the ACK of the 487
		if _, err := in.Answer(); !errors.Is(err, ErrCancelled) {
			t.Errorf("answering afterwards: %v, want ErrCancelled", err)
		}
	})
}

func TestARefusedCallEndsItsWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		alice, bob := pair(t)
		call, err := alice.Call(t.Context(), contactOf(bob))
		must(t, err)
		must(t, ring(t, bob).Reject(486, "Busy Here"))
		if _, err := call.Wait(t.Context(), 200); Status(err) != 486 {
			t.Errorf("got %v, want 486", err)
		}
	})
}

func TestAMergedRequestGets482(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		alice, bob := pair(t)
		first, err := alice.Call(t.Context(), contactOf(bob))
		must(t, err)
		in := ring(t, bob)
		again := *first.invite
		alice.stamp(first.inviteTx.line, &again, "z9hG4bKanother")
		if _, err := alice.Do(t.Context(), &again); Status(err) != 482 {
			t.Errorf("the same INVITE by another branch: %v, want 482 (RFC 3261 §8.2.2.2)", err)
		}
		must(t, in.Reject(480, "Temporarily Unavailable"))
	})
}

func TestAResponseWithTwoViasIsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		alice, bob := pair(t)
		call, err := alice.Call(t.Context(), contactOf(bob))
		must(t, err)
		in := ring(t, bob)
		m := reply(in.Request, 486, "Busy Here", "x")
		m.Headers = append([]Header{{"Via", "SIP/2.0/TCP proxy.invalid;branch=z9hG4bKp"}}, m.Headers...)
		must(t, bob.Write(m.Bytes()))
		must(t, alice.Ping(t.Context()))
		if len(call.Responses()) != 0 || len(alice.Complaints()) != 1 {
			t.Errorf("responses %v, complaints %q; want none and one", call.Responses(), alice.Complaints())
		}
	})
}

func TestSleepEndsWaitsAndKeepsTheDialog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		alice, bob := pair(t)
		call, err := alice.Call(t.Context(), contactOf(bob))
		must(t, err)
		in := ring(t, bob)
		alice.Sleep()
		if _, err := call.Wait(t.Context(), 200); !errors.Is(err, ErrLineGone) {
			t.Errorf("waiting caller: %v, want ErrLineGone", err)
		}
		<-bob.Gone()
		<-in.Ended()
		if _, err := alice.Options(t.Context(), "sip:x@y"); !errors.Is(err, ErrAsleep) {
			t.Errorf("asleep: %v, want ErrAsleep", err)
		}
	})
}

func TestOptionsMessageAndTheUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		alice, bob := pair(t)
		if _, err := alice.Options(t.Context(), contactOf(bob)); err != nil {
			t.Error(err)
		}
		if _, err := alice.Message(t.Context(), contactOf(bob), "hello"); err != nil {
			t.Error(err)
		}
		if m := <-bob.Messages(); string(m.Body) != "hello" {
			t.Errorf("body %q", m.Body)
		}
		if _, err := alice.Do(t.Context(), alice.Request("REFER", contactOf(bob))); Status(err) != 405 {
			t.Errorf("REFER outside a dialog: %v, want 405", err)
		}
		stray := alice.Request("BYE", contactOf(bob))
		stray.Set("To", stray.Get("To")+";tag=none")
		if _, err := alice.Do(t.Context(), stray); Status(err) != 481 {
			t.Errorf("BYE of no dialog: %v, want 481", err)
		}
		if bob.Count("OPTIONS") != 1 || bob.Count("INVITE") != 0 {
			t.Errorf("counts: OPTIONS %d, INVITE %d", bob.Count("OPTIONS"), bob.Count("INVITE"))
		}
	})
}

func TestAWaitEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		alice, bob := pair(t)
		call, err := alice.Call(t.Context(), contactOf(bob))
		must(t, err)
		in := ring(t, bob)
		ctx, cancel := contextFor(t, time.Hour)
		defer cancel()
		if _, err := call.Wait(ctx, 200); !errors.Is(err, ctx.Err()) || ctx.Err() == nil {
			t.Errorf("got %v, want the deadline", err)
		}
		must(t, in.Reject(480, "Temporarily Unavailable"))
	})
}
