package main

import (
	"fmt"
	"io"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"

	"sallyport/core/trace"
)

// traceCmd is `sallyport trace`.
type traceCmd struct {
	coreFlags
	Last int    `default:"10" help:"Show at most this many calls, the newest."`
	AOR  string `arg:"" name:"aor" help:"The address that was called, such as alice@example.com."`
}

// Run prints each call with its steps, the newest first.
func (cmd *traceCmd) Run(c *console) error {
	var traces []trace.Trace
	if err := cmd.get(c.ctx, "/api/v1/traces?aor="+url.QueryEscape(cmd.AOR), &traces); err != nil {
		return err
	}
	traces = traces[:min(len(traces), max(cmd.Last, 0))]
	if cmd.JSON {
		return printJSON(c.out, traces)
	}
	if len(traces) == 0 {
		fmt.Fprintf(c.out, "no call to %s reached this core since it keeps traces: look at the PBX, or at another core\n", clean(cmd.AOR))
	}
	for i, t := range traces {
		if i > 0 {
			fmt.Fprintln(c.out)
		}
		c.trace(t)
	}
	return nil
}

// trace prints one call; times count from its start.
func (c *console) trace(t trace.Trace) {
	state := t.State
	if state == "" {
		state = "in an unknown state"
	}
	fmt.Fprintf(c.out, "%s  %s called %s, which was %s\n", c.when(&t.Started), clean(t.From), clean(t.AOR), clean(state))
	fmt.Fprintf(c.out, "  Call-ID %s\n", clean(t.CallID))
	w := tabwriter.NewWriter(c.out, 0, 8, 2, ' ', tabwriter.AlignRight)
	for _, s := range t.Steps {
		step(w, t, s)
	}
	_ = w.Flush()
	switch {
	case t.Outcome == "":
		fmt.Fprintln(c.out, "  still under way")
	case t.FailedStep != "":
		fmt.Fprintf(c.out, "  outcome: %s; the step that failed: %s\n", clean(t.Outcome), clean(t.FailedStep))
	default:
		fmt.Fprintf(c.out, "  outcome: %s\n", clean(t.Outcome))
	}
}

func step(w io.Writer, t trace.Trace, s trace.Step) {
	at := s.At.Sub(t.Started).Round(time.Millisecond)
	mark := ""
	if s.Step == t.FailedStep {
		mark = "  <-- failed"
	}
	line := strings.TrimRight(fmt.Sprintf("  %-14s%s", clean(s.Step), clean(s.Detail)), " ")
	fmt.Fprintf(w, "  +%.3f s\t%s%s\n", at.Seconds(), line, mark)
}
