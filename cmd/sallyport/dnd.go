package main

import (
	"fmt"
	"strings"
	"time"

	"sallyport/core/admin"
)

// dndCmd is `sallyport dnd`.
type dndCmd struct {
	coreFlags
	AOR   string         `arg:"" optional:"" name:"aor" help:"Whom not to disturb, such as alice@example.com; without it, all of them are listed."`
	State string         `arg:"" optional:"" name:"on|off" help:"on or off; without it, only this address is listed."`
	For   *time.Duration `placeholder:"DURATION" help:"Switch it off by itself after this long, such as 2h."`
}

// Run lists who is not to be disturbed, after a change if there is one.
func (cmd *dndCmd) Run(c *console) error {
	var all []admin.DND
	var err error
	if cmd.For != nil && (cmd.State != "on" || *cmd.For <= 0) {
		return fmt.Errorf("dnd: --for belongs to on, and must be more than 0s (got %v)", *cmd.For)
	}
	switch cmd.State {
	case "":
		err = cmd.get(c.ctx, "/api/v1/dnd", &all)
	case "on", "off":
		req := admin.DNDRequest{AOR: cmd.AOR, On: cmd.State == "on"}
		if cmd.For != nil {
			req.For = cmd.For.String()
		}
		err = cmd.post(c.ctx, "/api/v1/dnd", req, &all)
	default:
		err = fmt.Errorf("dnd: must be on or off (got %q)", clean(cmd.State))
	}
	if err != nil {
		return err
	}
	if cmd.JSON {
		return printJSON(c.out, all)
	}
	t, shown := newTable(c.out, "NOT DISTURBED", "SINCE", "UNTIL"), 0
	for _, d := range all {
		if cmd.AOR != "" && !sameAddress(d.AOR, cmd.AOR) {
			continue
		}
		until := c.when(d.Until)
		if until == "" {
			until = "switched off"
		}
		t.row(d.AOR, c.when(&d.Since), until)
		shown++
	}
	if shown == 0 {
		who := cmd.AOR
		if who == "" {
			who = "nobody"
		}
		fmt.Fprintf(c.out, "%s: no do-not-disturb\n", clean(who))
		return nil
	}
	t.end()
	return nil
}

// sameAddress compares an AOR with one as people write it.
func sameAddress(aor, written string) bool {
	if !strings.Contains(written, ":") {
		written = "sip:" + written
	}
	return strings.EqualFold(aor, written)
}
