package interop

import (
	"context"
	"testing"
	"time"

	"sallyport/test/phone"
)

func TestSippCallsAPhoneBehindKamailio(t *testing.T) {
	k := StartKamailio(t, KamailioConfig{Users: Users})
	for name, story := range map[string]struct {
		call SippCall
		act  func(*testing.T, context.Context, *phone.Phone)
	}{
		"and hangs up": {SippCall{Scenario: "uac"}, func(t *testing.T, ctx context.Context, p *phone.Phone) {
			d := answer(t, ctx, p)
			must(t, d.WaitBye(ctx))
		}},
		"and hangs up over TCP": {SippCall{Scenario: "uac", Transport: "tcp"}, func(t *testing.T, ctx context.Context, p *phone.Phone) {
			d := answer(t, ctx, p)
			must(t, d.WaitBye(ctx))
		}},
		"which re-INVITEs and hangs up": {SippCall{Scenario: "uac_stays"}, func(t *testing.T, ctx context.Context, p *phone.Phone) {
			d := answer(t, ctx, p)
			if _, err := d.Reinvite(ctx); err != nil {
				t.Fatal(err)
			}
			must(t, d.Bye(ctx))
		}},
		"and gives up": {SippCall{Scenario: "uac_cancel"}, func(t *testing.T, ctx context.Context, p *phone.Phone) {
			in := incoming(t, ctx, p)
			must(t, in.Ring())
			must(t, in.WaitCancel(ctx))
		}},
		"which is busy": {SippCall{Scenario: "uac_status", Status: 486}, func(t *testing.T, ctx context.Context, p *phone.Phone) {
			must(t, incoming(t, ctx, p).Reject(486, "Busy Here"))
		}},
		"for its abilities": {SippCall{Scenario: "options"}, func(*testing.T, context.Context, *phone.Phone) {}},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := within(t, 20*time.Second)
			p := desk(t, k, "alice")
			if _, err := p.Register(ctx, phone.Registration{}); err != nil {
				t.Fatal(err)
			}
			story.call.To = "alice"
			caller := StartCaller(t, k, story.call)
			story.act(t, ctx, p)
			must(t, caller.Wait(ctx))
			must(t, p.Unregister(ctx))
		})
	}
}

func answer(t *testing.T, ctx context.Context, p *phone.Phone) *phone.Dialog {
	t.Helper()
	in := incoming(t, ctx, p)
	must(t, in.Ring())
	d, err := in.Answer()
	must(t, err)
	must(t, d.WaitAck(ctx))
	return d
}

func TestAPhoneCallsSippBehindKamailio(t *testing.T) {
	k := StartKamailio(t, KamailioConfig{Users: Users})
	for scenario, act := range map[string]func(*testing.T, context.Context, *phone.Dialog){
		"uas": func(t *testing.T, ctx context.Context, d *phone.Dialog) {
			must(t, d.Answered(ctx))
			must(t, d.Bye(ctx))
		},
		"uas_stays": func(t *testing.T, ctx context.Context, d *phone.Dialog) {
			must(t, d.Answered(ctx))
			<-d.Reinvited()
			must(t, d.WaitBye(ctx))
		},
		"uas_cancel": func(t *testing.T, ctx context.Context, d *phone.Dialog) {
			if _, err := d.Wait(ctx, 180); err != nil {
				t.Fatal(err)
			}
			must(t, d.Cancel(ctx))
			if _, err := d.Wait(ctx, 200); phone.Status(err) != 487 {
				t.Errorf("got %v, want 487", err)
			}
		},
	} {
		t.Run(scenario, func(t *testing.T) {
			ctx := within(t, 20*time.Second)
			p := desk(t, k, "alice")
			if _, err := p.Register(ctx, phone.Registration{}); err != nil {
				t.Fatal(err)
			}
			callee := StartCallee(t, scenario)
			d, err := p.Call(ctx, "sip:"+callee.User+"@"+k.Domain)
			must(t, err)
			act(t, ctx, d)
			must(t, callee.Wait(ctx))
		})
	}
}
