package interop

import (
	"context"
	"strings"
	"testing"
	"time"

	"sallyport/test/phone"
)

func TestASippCallerBehindKamailioReachesTheClient(t *testing.T) {
	eachClient(t, func(t *testing.T, ctx context.Context, s *System, bob client) {
		caller := StartCaller(t, s.PBX, SippCall{Scenario: "uac", To: "bob"})
		bob.expect(ctx, bob.ringing)
		bob.answer()
		bob.expect(ctx, bob.up)
		bob.expect(ctx, bob.over)
		must(t, caller.Wait(ctx))
	})
}

func TestTheClientReachesASippCalleeBehindKamailio(t *testing.T) {
	eachClient(t, func(t *testing.T, ctx context.Context, s *System, bob client) {
		callee := StartCallee(t, "uas")
		bob.call("sip:" + callee.User + "@" + s.PBX.Domain)
		bob.expect(ctx, bob.up)
		bob.hangup()
		must(t, callee.Wait(ctx))
	})
}

func TestTheSippCalleeReInvitesTheClientAndHangsUp(t *testing.T) {
	eachClient(t, func(t *testing.T, ctx context.Context, s *System, bob client) {
		callee := StartCallee(t, "uas_stays")
		bob.call("sip:" + callee.User + "@" + s.PBX.Domain)
		bob.expect(ctx, bob.up)
		bob.expect(ctx, bob.over)
		must(t, callee.Wait(ctx))
	})
}

func TestTheClientAsCalleeReInvitesAndHangsUp(t *testing.T) {
	t.Parallel()
	s := StartSystem(t)
	ctx := within(t, 25*time.Second)
	page := s.JsSIP("bob", nil)
	page.Expect(ctx, "registered")
	caller := StartCaller(t, s.PBX, SippCall{Scenario: "uac_stays", To: "bob"})
	page.Expect(ctx, "incoming")
	page.Tell("answer")
	page.Expect(ctx, "confirmed")
	page.Tell("renegotiate")
	page.Expect(ctx, "renegotiated")
	page.Tell("hangup")
	must(t, caller.Wait(ctx))
}

func TestTheSippCallerGivesUpAndTheClientStopsRinging(t *testing.T) {
	eachClient(t, func(t *testing.T, ctx context.Context, s *System, bob client) {
		caller := StartCaller(t, s.PBX, SippCall{Scenario: "uac_cancel", To: "bob"})
		bob.expect(ctx, bob.ringing)
		bob.expect(ctx, bob.missed)
		must(t, caller.Wait(ctx))
	})
}

func TestTheClientGivesUpAndTheSippCalleeStopsRinging(t *testing.T) {
	eachClient(t, func(t *testing.T, ctx context.Context, s *System, bob client) {
		callee := StartCallee(t, "uas_cancel")
		bob.call("sip:" + callee.User + "@" + s.PBX.Domain)
		bob.expect(ctx, bob.heard)
		bob.hangup()
		must(t, callee.Wait(ctx))
	})
}

// online connects and registers a phone with push tokens.
func online(t *testing.T, ctx context.Context, p *phone.Phone, push phone.Push) {
	t.Helper()
	must(t, p.Connect(ctx))
	if _, err := p.Register(ctx, phone.Registration{Push: push, RegID: 1}); err != nil {
		t.Fatal(err)
	}
}

func TestASleepingPhoneIsWokenAndAnswersASippCaller(t *testing.T) {
	for _, transport := range []phone.Transport{phone.TLS, phone.WSS} {
		t.Run(string(transport), func(t *testing.T) {
			t.Parallel()
			s := StartSystem(t)
			ctx := within(t, 25*time.Second)
			bob, push := s.Phone("bob", transport), s.Push()
			online(t, ctx, bob, push)
			for _, c := range s.PBX.Contacts(t, "bob") {
				if strings.Contains(c, "pn-") || len(c) > 128 {
					t.Errorf("the PBX was given %q: push parameters never leave, and it is to be 128 characters at most", c)
				}
			}
			bob.Sleep()
			caller := StartCaller(t, s.PBX, SippCall{Scenario: "uac", To: "bob", Caller: "4711", Name: "Front Desk"})
			said := s.Pushed(1)
			if said["channel"] != "voip" || said["number"] != "4711" || said["from_name"] != "Front Desk" {
				t.Errorf("the push says %v", said)
			}
			online(t, ctx, bob, push)
			in := incoming(t, ctx, bob)
			if in.CallID() != said["call_id"] {
				t.Errorf("INVITE %s, push for %v", in.CallID(), said["call_id"])
			}
			must(t, in.Ring())
			d, err := in.Answer()
			must(t, err)
			must(t, d.WaitBye(ctx))
			must(t, caller.Wait(ctx))
			if n := bob.Count("INVITE"); n != 1 {
				t.Errorf("%d INVITEs, want one", n)
			}
			for _, c := range bob.Complaints() {
				t.Errorf("bob complains: %s", c)
			}
		})
	}
}

func TestASleepingJsSIPPageIsWokenAndAnswers(t *testing.T) {
	t.Parallel()
	s := StartSystem(t)
	ctx := within(t, 25*time.Second)
	page := s.JsSIP("bob", s.WebPush())
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

func TestAnInactivePhoneIsPushedAndCalledAtOnce(t *testing.T) {
	t.Parallel()
	s := StartSystem(t)
	ctx := within(t, 25*time.Second)
	bob := s.Phone("bob", phone.TLS)
	online(t, ctx, bob, s.Push())
	must(t, bob.Inactive(ctx))
	if all := s.Clients(bob.AOR()); len(all) != 1 || all[0].State != "silent" {
		t.Errorf("after Client-State: inactive the core has %v, want silent", all)
	}
	caller := StartCaller(t, s.PBX, SippCall{Scenario: "uac", To: "bob"})
	in := incoming(t, ctx, bob)
	s.Pushed(1)
	must(t, in.Ring())
	d, err := in.Answer()
	must(t, err)
	must(t, d.WaitBye(ctx))
	must(t, caller.Wait(ctx))
}

func TestB27OptionsToASleepingContactGet200AndNoPush(t *testing.T) {
	t.Parallel()
	s := StartSystem(t)
	ctx := within(t, 25*time.Second)
	bob := s.Phone("bob", phone.TLS)
	online(t, ctx, bob, s.Push())
	bob.Sleep()
	s.untilAsleep(bob.AOR())
	must(t, StartCaller(t, s.PBX, SippCall{Scenario: "options", To: "bob"}).Wait(ctx))
	if n := len(s.APNs.Pushes()); n != 0 {
		t.Errorf("%d pushes, want none", n)
	}
}

func TestAWrongPasswordLeavesNoBinding(t *testing.T) {
	t.Parallel()
	s := StartSystem(t)
	ctx := within(t, 25*time.Second)
	bob := StartBaresip(t, BaresipConfig{AOR: "sip:bob@example.com", Password: "guess", Addr: s.SIPS, CAFile: s.CAFile})
	bob.Expect(ctx, "REGISTER_FAIL")
	if all := s.PBX.Contacts(t, "bob"); len(all) != 0 {
		t.Errorf("the PBX bound %q", all)
	}
	if all := s.Clients("sip:bob@example.com"); len(all) != 0 {
		t.Errorf("the core knows %v", all)
	}
	caller := StartCaller(t, s.PBX, SippCall{Scenario: "uac_status", To: "bob", Status: 480})
	must(t, caller.Wait(ctx))
}

func TestAnotherUsersFromGets403(t *testing.T) {
	t.Parallel()
	s := StartSystem(t)
	ctx := within(t, 25*time.Second)
	bob := s.Phone("bob", phone.WSS)
	online(t, ctx, bob, s.Push())
	for _, method := range []string{"MESSAGE", "INVITE", "SUBSCRIBE"} {
		req := bob.Request(method, "sip:alice@example.com")
		req.Set("From", "<sip:alice@example.com>;tag=forged")
		if _, err := bob.Do(ctx, req); phone.Status(err) != 403 {
			t.Errorf("%s: %v, want 403", method, err)
		}
	}
}

func TestAStrangersRegisterWithKnownInstanceAndTokensStealsNothing(t *testing.T) {
	t.Parallel()
	s := StartSystem(t)
	ctx := within(t, 25*time.Second)
	bob, push := s.Phone("bob", phone.TLS), s.Push()
	online(t, ctx, bob, push)
	stranger := phone.New(phone.Config{
		AOR: bob.AOR(), Transport: phone.TLS, Addr: s.SIPS, TLS: s.trust(), Instance: bob.Instance(),
	})
	must(t, stranger.Connect(ctx))
	defer stranger.Close()
	if _, err := stranger.Register(ctx, phone.Registration{Push: push, RegID: 1}); phone.Status(err) != 401 {
		t.Fatalf("the stranger's REGISTER: %v, want 401", err)
	}
	for _, asleep := range []bool{false, true} {
		if asleep {
			bob.Sleep()
			s.untilAsleep(bob.AOR())
		}
		caller := StartCaller(t, s.PBX, SippCall{Scenario: "uac", To: "bob"})
		if asleep {
			if _, err := stranger.Register(ctx, phone.Registration{Push: push, RegID: 1}); phone.Status(err) != 401 {
				t.Fatalf("the stranger's REGISTER while bob sleeps: %v, want 401", err)
			}
			online(t, ctx, bob, push)
		}
		d := answer(t, ctx, bob)
		must(t, d.WaitBye(ctx))
		must(t, caller.Wait(ctx))
	}
	if n := stranger.Count("INVITE"); n != 0 {
		t.Errorf("the stranger got %d INVITEs", n)
	}
}

func TestAPreloadedRouteGets403(t *testing.T) {
	t.Parallel()
	s := StartSystem(t)
	ctx := within(t, 25*time.Second)
	bob := s.Phone("bob", phone.TLS)
	online(t, ctx, bob, s.Push())
	victim := StartCallee(t, "uas") // nothing may reach it
	for _, route := range []string{
		"<sip:127.0.0.1:" + victim.User[len("uas-"):] + ";lr>",
		"<sip:" + s.PBX.Addr + ";transport=tcp;lr>",
	} {
		req := bob.Request("INVITE", "sip:alice@example.com")
		req.Add("Route", route)
		req.Add("Contact", "<sip:bob@127.0.0.1:1;transport=tls>")
		if _, err := bob.Do(ctx, req); phone.Status(err) != 403 {
			t.Errorf("Route %s: %v, want 403", route, err)
		}
	}
	select {
	case <-victim.Exited():
		t.Error("a client's Route reached another host inside")
	default:
	}
}

func TestKillNineOfTheCoreLosesNoSleepingPhone(t *testing.T) {
	t.Parallel()
	s := StartSystem(t)
	ctx := within(t, 28*time.Second)
	bob, push := s.Phone("bob", phone.TLS), s.Push()
	online(t, ctx, bob, push)
	page := s.JsSIP("alice", nil)
	page.Expect(ctx, "registered")
	bob.Sleep()
	s.untilAsleep(bob.AOR())
	s.Core.Kill()
	s.StartCore()
	caller := StartCaller(t, s.PBX, SippCall{Scenario: "uac", To: "bob"})
	s.Pushed(1)
	online(t, ctx, bob, push)
	d := answer(t, ctx, bob)
	must(t, d.WaitBye(ctx))
	must(t, caller.Wait(ctx))

	if n := page.Count("disconnected"); n != 0 {
		t.Errorf("the page lost its connection %d times: the edge was to keep it", n)
	}
	callee := StartCallee(t, "uas")
	page.Call("sip:" + callee.User + "@" + s.PBX.Domain)
	page.Expect(ctx, "confirmed")
	page.Tell("hangup")
	must(t, callee.Wait(ctx))
}
