package main

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"sallyport/core/admin"
)

// statusCmd is `sallyport status`.
type statusCmd struct{ coreFlags }

// Run prints what the core says of itself.
func (cmd *statusCmd) Run(c *console) error {
	var s admin.Status
	if err := cmd.get(c.ctx, "/api/v1/status", &s); err != nil {
		return err
	}
	if cmd.JSON {
		return printJSON(c.out, s)
	}
	ready := "ready"
	if !s.Ready {
		ready = "NOT READY: no tunnel to an edge is up"
	}
	fmt.Fprintf(c.out, "sallyport-core %s, up %s, %s\n\n", clean(s.Version), time.Duration(s.Uptime)*time.Second, ready)
	c.tunnels(s.Tunnels)
	c.domains(s.Domains)
	c.apps(s.Push)
	t := newTable(c.out, "STORE", "STATE", "LAST ERROR")
	t.row(s.Store.Kind, okOr(s.Store.OK, "FAILED"), s.Store.LastError)
	t.end()
	for i, w := range warnings(s) {
		if i == 0 {
			fmt.Fprintln(c.out, "\nWARNINGS")
		}
		fmt.Fprintln(c.out, "-", clean(w))
	}
	return nil
}

// warnings are the core's own and what its edges say.
func warnings(s admin.Status) []string {
	all := slices.Clone(s.Warnings)
	for _, t := range s.Tunnels {
		for _, n := range t.Notices {
			all = append(all, t.Edge+": "+n)
		}
	}
	return all
}

func (c *console) tunnels(tunnels []admin.Tunnel) {
	t := newTable(c.out, "TUNNEL", "STATE", "SINCE", "FLOWS", "LAST ERROR")
	for _, s := range tunnels {
		state := "up"
		if !s.Up {
			state = "DOWN"
		}
		t.row(s.Edge, state, c.when(s.Since), strconv.Itoa(s.Flows), s.LastError)
	}
	t.end()
	fmt.Fprintln(c.out)
}

func (c *console) domains(domains []admin.Domain) {
	t := newTable(c.out, "DOMAIN", "UPSTREAM", "STATE", "LAST ERROR")
	for _, d := range domains {
		upstream := d.Upstream
		if upstream == "" {
			upstream = "stand-alone"
		}
		t.row(d.Name, upstream, okOr(d.OK, "UNREACHABLE"), d.LastError)
		if len(d.Servers) < 2 {
			continue
		}
		for _, s := range d.Servers {
			t.row("", s.Server, okOr(s.OK, "DOWN"), s.LastError)
		}
	}
	t.end()
	fmt.Fprintln(c.out)
}

func (c *console) apps(p admin.Push) {
	if !p.Enabled {
		fmt.Fprint(c.out, "PUSH is switched off: sleeping phones are not woken\n\n")
		return
	}
	t := newTable(c.out, "PUSH APP", "PROVIDER", "STATE", "LAST ERROR")
	for _, a := range p.Apps {
		t.row(a.ID, a.Provider, okOr(a.OK, "FAILING"), a.LastError)
	}
	t.end()
	fmt.Fprintln(c.out)
}
