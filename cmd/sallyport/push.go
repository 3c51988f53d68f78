package main

import (
	"fmt"
	"strconv"
	"time"

	"sallyport/core/admin"
)

// pushCmd is `sallyport push`.
type pushCmd struct {
	Test  pushTestCmd  `cmd:"" help:"Send a harmless push to each device of an address, and show what the providers say."`
	VAPID pushVAPIDCmd `cmd:"" name:"vapid" help:"Make the key that browsers and UnifiedPush apps know you by."`
}

type pushTestCmd struct {
	coreFlags
	AOR  string        `arg:"" name:"aor" help:"Whose devices are pushed to, such as alice@example.com."`
	Wait time.Duration `default:"15s" help:"How long to wait for the devices to come back, at most 1m; 0 does not wait."`
}

// remedies say what to do about an outcome.
var remedies = map[string]string{
	"no_route":      "no configured app fits the token: compare [[push.app]] id and team_id with the app's",
	"dead_token":    "the device must register again with a new token",
	"provider_down": "look at the way to the provider: DNS, firewall, [push] proxy",
	"refused":       "look at key_id, team_id, environment and the app's id",
}

// Run fails when no push was accepted.
func (cmd *pushTestCmd) Run(c *console) error {
	var answer admin.PushTestAnswer
	cmd.patience = cmd.Wait
	if err := cmd.post(c.ctx, "/api/v1/push/test", admin.PushTestRequest{AOR: cmd.AOR, Wait: cmd.Wait.String()}, &answer); err != nil {
		return err
	}
	accepted := 0
	for _, r := range answer.Results {
		if r.Outcome == "accepted" {
			accepted++
		}
	}
	if cmd.JSON {
		if err := printJSON(c.out, answer); err != nil {
			return err
		}
	} else {
		c.pushResults(answer.Results)
	}
	if accepted == 0 {
		return errReported
	}
	return nil
}

func (c *console) pushResults(results []admin.PushResult) {
	if len(results) == 0 {
		fmt.Fprintln(c.out, "no device has a push token")
		return
	}
	t := newTable(c.out, "PROVIDER", "APP", "CHANNEL", "OUTCOME", "STATUS", "REASON", "INSTANCE")
	for _, r := range results {
		status := ""
		if r.Status != 0 {
			status = strconv.Itoa(r.Status)
		}
		t.row(r.Provider, r.App, r.Channel, r.Outcome, status, r.Reason, r.Instance)
	}
	t.end()
	said := map[string]bool{}
	for _, r := range results {
		remedy := r.Remedy
		if remedy == "" {
			remedy = remedies[r.Outcome]
		}
		if remedy != "" && !said[r.Outcome+remedy] {
			said[r.Outcome+remedy] = true
			fmt.Fprintf(c.out, "%s: %s\n", r.Outcome, clean(remedy))
		}
	}
	for _, r := range results {
		if len(r.Ways) > 0 {
			c.explain(r)
		}
	}
}

// explain shows how a device is reached, and what became of the push, step by
// step.
func (c *console) explain(r admin.PushResult) {
	fmt.Fprintf(c.out, "\n%s, %s, class %s\n", clean(r.Instance), clean(r.State), clean(r.Class))
	t := newTable(c.out)
	for _, w := range r.Ways {
		if w.Problem != "" {
			t.row("  "+w.Channel, "cannot be sent", w.Problem)
			continue
		}
		t.row("  "+w.Channel, "token", w.Provider+" "+w.Kind+" "+w.Token+", brought "+c.when(w.Registered))
		for _, f := range w.Facts {
			t.row("  ", f.Name, f.Value)
		}
		if w.Channel == "voip" {
			t.row("  ", "test", "never sent: it would ring")
		}
	}
	if r.Quiet != "" {
		t.row("  quiet", "but for the test", r.Quiet)
	}
	t.row("  answer", r.Outcome, r.Meaning)
	switch {
	case r.CameBack == nil:
	case *r.CameBack:
		t.row("  device", "came back", fmt.Sprintf("after %.1f s", float64(r.CameBackMS)/1000))
	default:
		t.row("  device", "did not come back", "an app that waits for its user to open it stays away")
	}
	t.end()
}
