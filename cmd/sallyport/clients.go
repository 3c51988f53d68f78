package main

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"sallyport/core/admin"
)

// clientsCmd is `sallyport clients`.
type clientsCmd struct {
	coreFlags
	AOR string `arg:"" optional:"" name:"aor" help:"Only the devices of this address, such as alice@example.com."`
}

// Run lists devices, one a line.
func (cmd *clientsCmd) Run(c *console) error {
	var clients []admin.Client
	if err := cmd.get(c.ctx, "/api/v1/clients?aor="+url.QueryEscape(cmd.AOR), &clients); err != nil {
		return err
	}
	if cmd.JSON {
		return printJSON(c.out, clients)
	}
	if len(clients) == 0 {
		if cmd.AOR == "" {
			fmt.Fprintln(c.out, "no device is known")
		} else {
			fmt.Fprintf(c.out, "no device of %s is known: it has never registered here, or has unregistered\n", clean(cmd.AOR))
		}
		return nil
	}
	t := newTable(c.out, "ADDRESS", "STATE", "VIA", "FROM", "PUSH", "EXPIRES", "LAST WAKE", "HELD", "INSTANCE")
	for _, d := range clients {
		via, from := "", ""
		if d.Flow != nil {
			via, from = d.Flow.Transport+" "+d.Flow.Edge, d.Flow.Remote
		}
		t.row(d.AOR, d.State, via, from, tokens(d.Tokens), c.when(d.Expires), c.when(d.LastWake), strconv.Itoa(d.Held), d.Instance)
	}
	t.end()
	return nil
}

// tokens names a device's push tokens in short: "apns voip, apns alert (dead)".
func tokens(all []admin.Token) string {
	var names []string
	for _, t := range all {
		name := strings.TrimSpace(t.Provider + " " + t.Kind)
		if t.State != admin.TokenLive {
			name += " (" + t.State + ")"
		}
		names = append(names, name)
	}
	return strings.Join(names, ", ")
}
