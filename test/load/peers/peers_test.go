package main

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/test/load/loadgen"
)

// One short turn of each system that runs here: what is compared does what it
// is compared in, without a failure.
func TestAShortTurnSucceeds(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	o := options{systems: "kamailio,sallyport", short: true}
	systems, err := choose(ctx, o, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	var todo []scenario
	for _, s := range scenarios(true) {
		switch s.name {
		case "storm-wss", "refresh-tls", "msg-in", "call-out", "call-in-100", "wake-again":
			todo = append(todo, s)
		}
	}
	got := make(results)
	for _, s := range systems {
		if err := turn(ctx, o, s, todo, got); err != nil {
			t.Fatal(err)
		}
		for _, sc := range todo {
			r := got[s.name()][sc.name][0]
			if r.OK == 0 || r.Failed > 0 || len(r.Faults) > 0 {
				t.Errorf("%s, %s: %d done, %d failed, %v", s.name(), sc.name, r.OK, r.Failed, r.Faults)
			}
		}
	}
	var table strings.Builder
	got.print(&table, systems)
	if !strings.Contains(table.String(), "| REGISTER refresh, TLS, edge and core | CPU-s/10k |") {
		t.Errorf("the table lacks a line:\n%s", table.String())
	}
	if ghosts := got["sallyport"]["wake-again"][0].Extra["ghosts"]; ghosts != 0 {
		t.Errorf("%v INVITEs of calls that were over", ghosts)
	}
}

func TestAnUnknownSystemIsNamed(t *testing.T) {
	_, err := choose(t.Context(), options{systems: "asterisk"}, t.TempDir())
	if err == nil || !strings.Contains(err.Error(), `no system "asterisk"`) {
		t.Errorf("chose %v", err)
	}
}

func TestAProgramThatEndsAtOnceIsShownWithWhatItSaid(t *testing.T) {
	p, err := launch("gone", t.TempDir(), "/bin/sh", "-c", "echo no such module; exit 1")
	if err != nil {
		t.Fatal(err)
	}
	defer p.end()
	err = p.until(t.Context(), func() error { return accepts("127.0.0.1:1") })
	if err == nil || !strings.Contains(err.Error(), "no such module") {
		t.Errorf("waiting gave %v", err)
	}
	if filepath.Dir(p.profile()) != p.dir {
		t.Errorf("a profile at %s", p.profile())
	}
}

func TestTheTableShowsMediansAndTheirRatio(t *testing.T) {
	rs := make(results)
	for _, ms := range []int{10, 30, 20} {
		for system, factor := range map[string]int{"kamailio": 2, "sallyport": 1} {
			rs.add(system, "refresh-tls", &loadgen.Result{
				OK: 10_000, Elapsed: time.Second,
				CPU: map[string]time.Duration{"edge": time.Duration(ms*factor) * time.Millisecond, "core": 0},
			})
		}
	}
	var out strings.Builder
	rs.print(&out, []system{&kamailio{}, &sallyport{}})
	for _, want := range []string{
		"| | unit | kamailio | sallyport | ratio | goal |\n|---|---|---|---|---|---|\n",
		"| REGISTER refresh, TLS, edge and core | CPU-s/10k | 0.040 | 0.020 | 0.50× | ≤ 0.5× |\n",
		"| — core | CPU-s/10k | 0 | 0 | – |  |\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}
