package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

// options are the command line.
type options struct {
	rounds        int
	short         bool
	only, systems string
	profiles      string
}

func main() {
	var o options
	flag.IntVar(&o.rounds, "rounds", 3, "how often each system takes its turn")
	flag.BoolVar(&o.short, "short", false, "a fifth of the load: shows that it works, measures little")
	flag.StringVar(&o.only, "only", "", "comma-separated beginnings of the scenarios to run; empty: all")
	flag.StringVar(&o.systems, "systems", "kamailio,sallyport", "what is compared")
	flag.StringVar(&o.profiles, "profiles", "", "directory for CPU and allocation profiles of Sallyport, one of each for each scenario")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		stop()
		os.Exit(1)
	}
}

// run takes the rounds and prints what they gave.
func run(ctx context.Context, o options) error {
	allowFiles()
	dir, err := os.MkdirTemp("", "sallyport-peers") // short: Unix sockets live in it
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	systems, err := choose(ctx, o, dir)
	if err != nil {
		return err
	}
	todo := scenarios(o.short)
	if o.only != "" {
		todo = slices.DeleteFunc(todo, func(s scenario) bool {
			return !slices.ContainsFunc(strings.Split(o.only, ","), func(begin string) bool { return strings.HasPrefix(s.name, begin) })
		})
	}
	results := make(results)
	for round := range o.rounds {
		for _, s := range systems {
			fmt.Fprintf(os.Stderr, "round %d of %d: %s\n", round+1, o.rounds, s.name())
			if err := turn(ctx, o, s, todo, results); err != nil {
				return fmt.Errorf("%s: %w", s.name(), err)
			}
		}
	}
	results.print(os.Stdout, systems)
	return nil
}

// choose makes the systems that are asked for and can run here.
func choose(ctx context.Context, o options, dir string) (systems []system, err error) {
	for name := range strings.SplitSeq(o.systems, ",") {
		var s system
		switch name {
		case "kamailio":
			s, err = newKamailio(dir)
		case "sallyport":
			s, err = newSallyport(ctx, dir, o.profiles)
		default:
			err = fmt.Errorf("no system %q: kamailio, sallyport", name)
		}
		if missing := (missingError{}); errors.As(err, &missing) {
			fmt.Fprintln(os.Stderr, "skipped:", err)
			continue
		}
		if err != nil {
			return nil, err
		}
		systems = append(systems, s)
	}
	if len(systems) == 0 {
		return nil, errors.New("nothing to compare")
	}
	return systems, nil
}

// turn has one system do every scenario. One that wants a fresh system gets it.
func turn(ctx context.Context, o options, s system, todo []scenario, results results) (err error) {
	var t *town
	defer func() { t.close() }()
	for _, sc := range todo {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if t == nil || sc.fresh || t.used {
			t.close()
			if t, err = open(ctx, s); err != nil {
				return err
			}
			t.used = sc.fresh
		}
		t.gen.Switch(sc.transport, sc.flows)
		end := t.run.profile(sc.name)
		r, err := sc.run(t)
		end()
		if err != nil {
			return fmt.Errorf("%s: %w", sc.name, err)
		}
		results.add(s.name(), sc.name, r)
		fmt.Fprintf(os.Stderr, "  %-14s %6d done, %d failed, %.0f/s in %v%s\n", sc.name, r.OK, r.Failed, r.Rate(), r.Elapsed.Round(10*time.Millisecond), faults(r.Faults))
	}
	return nil
}

func faults(all map[string]int) string {
	if len(all) == 0 {
		return ""
	}
	return fmt.Sprint(" ", all)
}

// allowFiles raises the limit of open files as far as it goes: a flow is one.
func allowFiles() {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) == nil {
		limit.Cur = limit.Max
		_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
	}
}
