package main

import (
	"context"
	"errors"
	"testing"
	"time"

	"sallyport/core/admin"
)

func TestPushTestExplainsEachStep(t *testing.T) {
	came := true
	var waited time.Duration
	url := serveAPI(t, admin.Config{}, admin.Sources{PushTest: func(_ context.Context, _ string, wait time.Duration) ([]admin.PushResult, error) {
		waited = wait
		return []admin.PushResult{{
			Instance: "<urn:uuid:1>", Provider: "apns", App: "org.example.phone", Channel: "message", Outcome: "accepted", Status: 200, ID: "x",
			Meaning: "the provider has it; the device wakes if it is reachable", Quiet: "quiet hours until 07:00 (UTC)",
			State: "suspended", Class: "split", CameBack: &came, CameBackMS: 1234,
			Ways: []admin.PushWay{
				{Channel: "voip", Problem: "the token for this channel is dead"},
				{Channel: "message", Provider: "apns", App: "org.example.phone", Kind: "alert", Token: "…abcdef", Registered: admin.At(noon),
					Facts: []admin.PushFact{{Name: "topic", Value: "org.example.phone"}, {Name: "proxy", Value: "none"}}},
			},
		}}, nil
	}})
	code, out, errs := sallyport(t, "", "push", "test", "--core", url, "--wait", "3s", "alice@example.com")
	golden(t, "push test", out, `
PROVIDER  APP                CHANNEL  OUTCOME   STATUS  REASON  INSTANCE
apns      org.example.phone  message  accepted  200     -       <urn:uuid:1>

<urn:uuid:1>, suspended, class split
  voip     cannot be sent    the token for this channel is dead
  message  token             apns alert …abcdef, brought 2026-03-01 12:00:00
           topic             org.example.phone
           proxy             none
  quiet    but for the test  quiet hours until 07:00 (UTC)
  answer   accepted          the provider has it; the device wakes if it is reachable
  device   came back         after 1.2 s
`)
	if code != 0 || waited != 3*time.Second {
		t.Errorf("exit %d, waited %v, %s", code, waited, errs)
	}
	if code, _, errs = sallyport(t, "", "push", "test", "--core", url, "--wait", "3h", "alice@example.com"); code != 1 {
		t.Errorf("a wait of three hours: %d %s", code, errs)
	}
}

func TestDNDIsSwitchedAndListed(t *testing.T) {
	var list []admin.DND
	url := serveAPI(t, admin.Config{}, admin.Sources{
		DND: func() []admin.DND { return list },
		SetDND: func(aor string, on bool, until time.Time) error {
			if aor == "sip:full@example.com" {
				return errors.New("disk full")
			}
			if list = nil; on {
				list = []admin.DND{{AOR: aor, Since: noon, Until: admin.At(until)}}
			}
			return nil
		},
	})
	_, out, _ := sallyport(t, "", "dnd", "--core", url)
	golden(t, "nobody", out, "nobody: no do-not-disturb\n")
	_, out, _ = sallyport(t, "", "dnd", "--core", url, "alice@example.com", "on")
	golden(t, "on", out, `
NOT DISTURBED          SINCE                UNTIL
sip:alice@example.com  2026-03-01 12:00:00  switched off
`)
	if code, _, errs := sallyport(t, "", "dnd", "--core", url, "alice@example.com", "on", "--for", "2h"); code != 0 || list[0].Until == nil || time.Until(*list[0].Until) < 119*time.Minute {
		t.Errorf("for two hours: %d %s %+v", code, errs, list)
	}
	_, out, _ = sallyport(t, "", "dnd", "--core", url, "bob@example.com")
	golden(t, "another", out, "bob@example.com: no do-not-disturb\n")
	_, out, _ = sallyport(t, "", "dnd", "--core", url, "alice@example.com", "off")
	golden(t, "off", out, "alice@example.com: no do-not-disturb\n")
	for _, args := range [][]string{{"alice@example.com", "perhaps"}, {"full@example.com", "on"}, {"nobody", "on"}, {"alice@example.com", "on", "--for", "99999h"}, {"alice@example.com", "on", "--for=-2h"}, {"alice@example.com", "on", "--for", "0s"}, {"alice@example.com", "off", "--for", "2h"}} {
		if code, _, errs := sallyport(t, "", append([]string{"dnd", "--core", url}, args...)...); code != 1 || errs == "" {
			t.Errorf("%v: %d %s", args, code, errs)
		}
	}
}
