package main

import (
	"fmt"
	"strconv"

	"sallyport/core/admin"
)

// pushCmd is `sallyport push`.
type pushCmd struct {
	Test  pushTestCmd  `cmd:"" help:"Send a harmless push to each device of an address, and show what the providers say."`
	VAPID pushVAPIDCmd `cmd:"" name:"vapid" help:"Make the key that browsers and UnifiedPush apps know you by."`
}

type pushTestCmd struct {
	coreFlags
	AOR string `arg:"" name:"aor" help:"Whose devices are pushed to, such as alice@example.com."`
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
	if err := cmd.post(c.ctx, "/api/v1/push/test", admin.PushTestRequest{AOR: cmd.AOR}, &answer); err != nil {
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
		if remedy := remedies[r.Outcome]; remedy != "" && !said[r.Outcome] {
			said[r.Outcome] = true
			fmt.Fprintf(c.out, "%s: %s\n", r.Outcome, remedy)
		}
	}
}
