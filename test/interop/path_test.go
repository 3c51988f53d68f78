package interop

import (
	"context"
	"strings"
	"testing"
	"time"

	"sallyport/test/phone"
)

// With path = true and a registrar that knows Path, outbound and GRUU.

// onPath tells a story over TLS and over WSS with bob, who is registered when it
// begins.
func onPath(t *testing.T, story func(*testing.T, context.Context, *System, *phone.Phone, phone.Push)) {
	for _, transport := range []phone.Transport{phone.TLS, phone.WSS} {
		t.Run(string(transport), func(t *testing.T) {
			t.Parallel()
			s := StartSystemWithPath(t)
			ctx := within(t, 25*time.Second)
			bob, push := s.Phone("bob", transport), s.Push()
			online(t, ctx, bob, push)
			story(t, ctx, s, bob, push)
			uncomplaining(t, bob)
		})
	}
}

func uncomplaining(t *testing.T, p *phone.Phone) {
	t.Helper()
	for _, c := range p.Complaints() {
		t.Errorf("%s complains: %s", p.AOR(), c)
	}
}

// binding is the only one that the PBX has of a user.
func (s *System) binding(user string) Binding {
	s.t.Helper()
	all := s.PBX.Bindings(s.t, user)
	if len(all) != 1 {
		s.t.Fatalf("the PBX has %q of %s, want one contact", all, user)
	}
	return all[0]
}

func TestPA1_KamailioKeepsThePathAndCallsThePhoneByIt(t *testing.T) {
	onPath(t, func(t *testing.T, ctx context.Context, s *System, bob *phone.Phone, _ phone.Push) {
		held := s.binding("bob")
		if strings.Contains(held.Address, "pn-") || !strings.HasPrefix(held.Path, "<sip:") || !strings.HasSuffix(held.Path, ";transport=tcp;lr;ob>") {
			t.Errorf("the PBX holds %q: want the phone's contact without tokens, and a Path of ours", held)
		}
		for _, call := range []struct {
			scenario string
			act      func(*phone.Dialog)
		}{
			{"uac", func(d *phone.Dialog) { must(t, d.WaitBye(ctx)) }},
			{"uac_reinvites", func(d *phone.Dialog) {
				reinvited(t, ctx, d)
				must(t, d.WaitBye(ctx))
			}},
			{"uac_stays", func(d *phone.Dialog) {
				if _, err := d.Reinvite(ctx); err != nil {
					t.Fatal(err)
				}
				must(t, d.Bye(ctx))
			}},
		} {
			caller := StartCaller(t, s.PBX, SippCall{Scenario: call.scenario, To: "bob"})
			in := incoming(t, ctx, bob)
			if in.Request.URI != held.Address || in.Request.Get("Route") != "" {
				t.Errorf("INVITE %s with Route %q, want the contact %s alone", in.Request.URI, in.Request.Get("Route"), held.Address)
			}
			must(t, in.Ring())
			d, err := in.Answer()
			must(t, err)
			must(t, d.WaitAck(ctx))
			call.act(d)
			must(t, caller.Wait(ctx))
		}
	})
}

// reinvited waits for the other side's re-INVITE.
func reinvited(t *testing.T, ctx context.Context, d *phone.Dialog) {
	t.Helper()
	select {
	case <-d.Reinvited():
	case <-ctx.Done():
		t.Fatalf("no re-INVITE: %v", context.Cause(ctx))
	}
}

func TestAPhoneOnAPathCallsOut(t *testing.T) {
	onPath(t, func(t *testing.T, ctx context.Context, s *System, bob *phone.Phone, _ phone.Push) {
		for _, call := range []struct {
			scenario string
			act      func(*phone.Dialog)
		}{
			{"uas", func(d *phone.Dialog) { must(t, d.Bye(ctx)) }},
			{"uas_stays", func(d *phone.Dialog) {
				reinvited(t, ctx, d)
				must(t, d.WaitBye(ctx))
			}},
			{"uas_reinvited", func(d *phone.Dialog) {
				if _, err := d.Reinvite(ctx); err != nil {
					t.Fatal(err)
				}
				must(t, d.WaitBye(ctx))
			}},
		} {
			callee := StartCallee(t, call.scenario)
			d, err := bob.Call(ctx, "sip:"+callee.User+"@"+s.PBX.Domain)
			must(t, err)
			must(t, d.Answered(ctx))
			call.act(d)
			must(t, callee.Wait(ctx))
		}
	})
}

func TestASleepingPhoneIsWokenByACallOnItsPath(t *testing.T) {
	onPath(t, func(t *testing.T, ctx context.Context, s *System, bob *phone.Phone, push phone.Push) {
		asleep := s.binding("bob")
		bob.Sleep()
		s.untilAsleep(bob.AOR())
		caller := StartCaller(t, s.PBX, SippCall{Scenario: "uac", To: "bob"})
		s.Pushed(1)
		online(t, ctx, bob, push)
		if awake := s.binding("bob"); awake.Path == asleep.Path {
			t.Errorf("the new flow has the Path of the old one, %s", awake.Path)
		}
		must(t, answer(t, ctx, bob).WaitBye(ctx))
		must(t, caller.Wait(ctx))
		rang(t, bob, 1)
	})
}

// rang counts a phone's INVITEs.
func rang(t *testing.T, p *phone.Phone, want int) {
	t.Helper()
	if n := p.Count("INVITE"); n != want {
		t.Errorf("%s got %d INVITEs, want %d", p.AOR(), n, want)
	}
}

// again is a phone a second time, as its next boot.
func (s *System) again(p *phone.Phone, transport phone.Transport) *phone.Phone {
	return s.phone(phone.Config{AOR: p.AOR(), Transport: transport, Instance: p.Instance()})
}

// The old flow is still open when the phone comes by another one, from another
// address. A phone without outbound is known to Kamailio by its address alone.
func TestAPhoneThatRegistersOnAnotherFlowIsCalledThereAlone(t *testing.T) {
	for name, kind := range map[string]struct {
		transport phone.Transport
		regID     int
	}{
		"tls": {phone.TLS, 1}, "wss": {phone.WSS, 1}, "without outbound": {phone.TLS, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := StartSystemWithPath(t)
			ctx := within(t, 25*time.Second)
			bob, push := s.Phone("bob", kind.transport), s.Push()
			moved := s.again(bob, kind.transport)
			var held [2]Binding
			for i, p := range []*phone.Phone{bob, moved} {
				must(t, p.Connect(ctx))
				if _, err := p.Register(ctx, phone.Registration{Push: push, RegID: kind.regID}); err != nil {
					t.Fatal(err)
				}
				held[i] = s.binding("bob")
			}
			if held[0].Path == held[1].Path || held[0].Address == held[1].Address {
				t.Errorf("the PBX had %q, and now has %q", held[0], held[1])
			}
			caller := StartCaller(t, s.PBX, SippCall{Scenario: "uac", To: "bob"})
			must(t, answer(t, ctx, moved).WaitBye(ctx))
			must(t, caller.Wait(ctx))
			rang(t, moved, 1)
			rang(t, bob, 0)
			uncomplaining(t, moved)
		})
	}
}

func TestOB2_ACallOnATamperedPathGets403(t *testing.T) {
	t.Parallel()
	s := StartSystemWithPath(t)
	ctx := within(t, 25*time.Second)
	bob := s.Phone("bob", phone.TLS)
	online(t, ctx, bob, s.Push())
	held := s.binding("bob")
	user, rest, _ := strings.Cut(strings.TrimPrefix(held.Path, "<sip:"), "@")
	inside := desk(t, s.PBX, "alice") // who tells the PBX that bob's way is hers
	binds := func(user string) {
		path := "<sip:" + user + "@" + rest
		if _, err := inside.Register(ctx, phone.Registration{Headers: []phone.Header{{Name: "Path", Value: path}}}); err != nil {
			t.Fatal(err)
		}
		if got := s.binding("alice").Path; got != path {
			t.Fatalf("the PBX has the Path %s for alice, want %s", got, path)
		}
	}
	for name, at := range map[string]int{"instance": 2, "flow": len(user) / 2, "MAC": len(user) - 2} {
		forged := user[:at] + map[bool]string{true: "b", false: "a"}[user[at] == 'a'] + user[at+1:]
		binds(forged)
		caller := StartCaller(t, s.PBX, SippCall{Scenario: "uac_status", To: "alice", Status: 403})
		if err := caller.Wait(ctx); err != nil {
			t.Errorf("%s tampered with: %v", name, err)
		}
	}
	rang(t, bob, 0)
	binds(user) // as it was: whom a PBX calls by a Path is its own business
	caller := StartCaller(t, s.PBX, SippCall{Scenario: "uac", To: "alice"})
	must(t, answer(t, ctx, bob).WaitBye(ctx))
	must(t, caller.Wait(ctx))
}

// Kamailio itself calls both, each by a Path of its own.
func TestTwoPhonesOfAUserRingOnTheirPathsAndOneAnswers(t *testing.T) {
	onPath(t, func(t *testing.T, ctx context.Context, s *System, bob *phone.Phone, _ phone.Push) {
		other := s.Phone("bob", phone.TLS)
		online(t, ctx, other, s.Push())
		if all := s.PBX.Bindings(t, "bob"); len(all) != 2 || all[0].Path == all[1].Path {
			t.Fatalf("the PBX has %q, want two contacts with Paths of their own", all)
		}
		caller := StartCaller(t, s.PBX, SippCall{Scenario: "uac", To: "bob"})
		missed := incoming(t, ctx, other)
		must(t, missed.Ring())
		d := answer(t, ctx, bob)
		must(t, missed.WaitCancel(ctx))
		must(t, d.WaitBye(ctx))
		must(t, caller.Wait(ctx))
		rang(t, bob, 1)
		rang(t, other, 1)
		uncomplaining(t, other)
	})
}

// A phone is given the GRUU that Kamailio made (RFC 5627), by which it is
// called and none of its user's others.
func TestAGRUUOfKamailiosReachesItsPhoneAlone(t *testing.T) {
	t.Parallel()
	s := StartSystemWithPath(t)
	ctx := within(t, 25*time.Second)
	bob, other := s.Phone("bob", phone.WSS), s.Phone("bob", phone.TLS)
	must(t, bob.Connect(ctx))
	ok, err := bob.Register(ctx, phone.Registration{Push: s.Push(), RegID: 1})
	must(t, err)
	_, rest, _ := strings.Cut(ok.Get("Contact"), `;pub-gruu="`)
	gruu, _, found := strings.Cut(rest, `"`)
	if !found || ok.Get("Require") != "outbound" || len(ok.Lines("Flow-Timer")) != 1 || ok.Get("Flow-Timer") == "25" {
		t.Fatalf("registered with Contact %s, Require %s, Flow-Timer %q: want a GRUU, and the edge's timer alone",
			ok.Get("Contact"), ok.Get("Require"), ok.Lines("Flow-Timer"))
	}
	online(t, ctx, other, s.Push())
	call, err := desk(t, s.PBX, "alice").Call(ctx, gruu)
	must(t, err)
	in := incoming(t, ctx, bob)
	d, err := in.Answer()
	must(t, err)
	must(t, call.Answered(ctx))
	must(t, d.WaitAck(ctx))
	must(t, d.Bye(ctx))
	must(t, call.WaitBye(ctx))
	rang(t, other, 0)
	uncomplaining(t, bob)
}

// RFC 5626 §7: of a device with two flows the PBX tries one, hears 430, forgets
// it and takes the other.
func TestOB8_KamailioCallsTheOtherFlowWhenOneIsGone(t *testing.T) {
	t.Parallel()
	s := StartSystemWithPath(t)
	ctx := within(t, 25*time.Second)
	gone, push := s.Phone("bob", phone.TLS), s.Push()
	online(t, ctx, gone, push)
	left := s.again(gone, phone.WSS)
	must(t, left.Connect(ctx))
	if _, err := left.Register(ctx, phone.Registration{Push: push, RegID: 2}); err != nil {
		t.Fatal(err)
	}
	if all := s.PBX.Bindings(t, "bob"); len(all) != 2 {
		t.Fatalf("the PBX has %q, want two flows", all)
	}
	gone.Sleep() // the one that registered first, which Kamailio tries first
	caller := StartCaller(t, s.PBX, SippCall{Scenario: "uac", To: "bob"})
	must(t, answer(t, ctx, left).WaitBye(ctx))
	must(t, caller.Wait(ctx))
	if held := s.binding("bob"); !strings.Contains(held.Address, "transport=ws") {
		t.Errorf("the PBX keeps %s, not the flow that is left", held.Address)
	}
	rang(t, left, 1)
	uncomplaining(t, left)
}

func TestRealClientsOnAPathCallAndAreCalled(t *testing.T) {
	for _, kind := range []struct {
		name  string
		start func(*System) client
	}{
		{"baresip", baresipOf},
		{"JsSIP", func(s *System) client { return webPhone(s.JsSIP("bob", nil)) }},
	} {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			s := StartSystemWithPath(t)
			ctx := within(t, 25*time.Second)
			bob := kind.start(s)
			bob.expect(ctx, bob.registered)
			if held := s.binding("bob"); held.Path == "" {
				t.Errorf("the PBX holds %q without a Path", held.Address)
			}
			caller := StartCaller(t, s.PBX, SippCall{Scenario: "uac_reinvites", To: "bob"})
			bob.expect(ctx, bob.ringing)
			bob.answer()
			bob.expect(ctx, bob.up)
			bob.expect(ctx, bob.over)
			must(t, caller.Wait(ctx))
			callee := StartCallee(t, "uas_stays")
			bob.call("sip:" + callee.User + "@" + s.PBX.Domain)
			bob.expect(ctx, bob.up)
			bob.expect(ctx, bob.over)
			must(t, callee.Wait(ctx))
		})
	}
}
