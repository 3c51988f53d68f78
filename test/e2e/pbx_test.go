package e2e

import (
	"testing"
	"time"

	"sallyport/core"
	"sallyport/test/phone"
	"sallyport/tunnel/unit"
)

func TestAtAPBXASleepingPhoneIsWokenAndAnswers(t *testing.T) {
	for _, tr := range []phone.Transport{phone.TLS, phone.WSS} {
		t.Run(string(tr), func(t *testing.T) {
			town, ctx := inTown(t, Config{PBX: true})
			desk := online(t, ctx, town, "alice", PBXDomain, phone.TLS)
			bob := online(t, ctx, town, "bob", PBXDomain, tr)
			bob.Sleep()
			call := must[*phone.Dialog](t)(desk.Call(ctx, "sip:bob@"+PBXDomain))
			pushed(t, ctx, town, 1)
			comesBack(t, ctx, town, "bob", bob)
			in := ring(t, ctx, bob)
			ok(t, in.Ring())
			answered := must[*phone.Dialog](t)(in.Answer())
			ok(t, call.Answered(ctx))
			ok(t, answered.WaitAck(ctx))
			must[*phone.Message](t)(answered.Reinvite(ctx))
			ok(t, answered.Bye(ctx))
			ok(t, call.WaitBye(ctx))
			for _, p := range []*phone.Phone{desk, bob} {
				for _, c := range p.Complaints() {
					t.Errorf("%s complains: %s", p.AOR(), c)
				}
			}
		})
	}
}

func TestTheCoreRestartsWhilePhonesAreConnectedAndAsleep(t *testing.T) {
	town, ctx := inTown(t, Config{PBX: true})
	alice := online(t, ctx, town, "alice", PBXDomain, phone.TLS)
	bob := online(t, ctx, town, "bob", PBXDomain, phone.WSS)
	bob.Sleep()
	town.Stop("core")
	ok(t, town.StartCore())
	ok(t, town.Ready(ctx))
	// Alice's socket is the one she had: the edge gave it to the new core.
	select {
	case <-alice.Gone():
		t.Fatal("alice lost her connection")
	default:
	}
	call := must[*phone.Dialog](t)(alice.Call(ctx, "sip:bob@"+PBXDomain))
	pushed(t, ctx, town, 1)
	comesBack(t, ctx, town, "bob", bob)
	in := ring(t, ctx, bob)
	must[*phone.Dialog](t)(in.Answer())
	ok(t, call.Answered(ctx))
	ok(t, call.Bye(ctx))
}

func TestB16WindowOverThroughTheWholeSystem(t *testing.T) {
	town, ctx := inTown(t, Config{Core: func(c *core.Config) { c.Wake.Window = unit.Duration{Duration: time.Second} }})
	alice := online(t, ctx, town, "alice", Domain, phone.WSS)
	bob := online(t, ctx, town, "bob", Domain, phone.TLS)
	bob.Sleep()
	call := must[*phone.Dialog](t)(alice.Call(ctx, "sip:bob@"+Domain))
	must[*phone.Message](t)(call.Wait(ctx, 480))
	if p := pushed(t, ctx, town, 2); p["event"] != "missed" {
		t.Errorf("second push %v, want missed", p)
	}
}
