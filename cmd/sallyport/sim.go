package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"sallyport/core/push/pushtest"
)

// webSim is a simulator whose files name the address it serves.
type webSim interface {
	Serve(ctx context.Context, l net.Listener) error
	Ready() <-chan struct{}
	Control() http.Handler
	Violations() []string
	SetLatency(d time.Duration)
	SetHandshakeDelay(d time.Duration)
	After(n int, action string) bool
	Inject(f pushtest.Fault)
}

// simRun is a simulator as a command runs it.
type simRun struct {
	name    string // of the command
	sim     webSim
	listen  string
	control string // "": no control API
	routes  string // of the control API, for its line
	faults  simFaults
	fault   pushtest.Fault // what --status does beside its own
	// help writes the files and returns how to use them, once the simulator
	// serves.
	help func(addr net.Addr) (string, error)
}

// fail sets up what is to go wrong.
func (r *simRun) fail() {
	r.sim.SetLatency(r.faults.Latency)
	r.sim.SetHandshakeDelay(r.faults.HandshakeDelay)
	for action, n := range r.faults.after() {
		if n > 0 {
			r.sim.After(n, action)
		}
	}
	f := r.fault
	f.Status, f.Reason, f.Every, f.Count = r.faults.Status, r.faults.Reason, r.faults.Every, r.faults.count()
	if f.Status != 0 || f.Location != "" {
		r.sim.Inject(f)
	}
}

// serve opens what was asked for, prints how to use it, and at the end what a
// provider would not have liked.
func (r *simRun) serve(ctx context.Context, out io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r.fail()
	var listen net.ListenConfig
	l, err := listen.Listen(ctx, "tcp", r.listen)
	if err != nil {
		return fmt.Errorf("%s: --listen: %w", r.name, err)
	}
	served := make(chan error, 2)
	running := 1
	if r.control != "" {
		control, err := listen.Listen(ctx, "tcp", r.control)
		if err != nil {
			_ = l.Close()
			return fmt.Errorf("%s: --control: %w", r.name, err)
		}
		running++
		fmt.Fprintf(out, "# control API: http://%s (%s)\n", control.Addr(), r.routes)
		go func() { served <- serveControl(ctx, control, r.name, r.sim.Control()) }()
	}
	go func() { served <- r.sim.Serve(ctx, l) }()
	select {
	case <-r.sim.Ready():
		var help string
		if help, err = r.help(l.Addr()); err != nil {
			err = fmt.Errorf("%s: --dir: %w", r.name, err)
			cancel()
			break
		}
		io.WriteString(out, help)
	case err = <-served:
		running--
		cancel()
	}
	for range running {
		err = errors.Join(err, <-served)
		cancel()
	}
	for _, v := range r.sim.Violations() {
		fmt.Fprintln(out, "# violation:", v)
	}
	return err
}

// lines writes whole lines from several goroutines.
type lines struct {
	mu  sync.Mutex
	out io.Writer
}

func (l *lines) print(line fmt.Stringer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintln(l.out, line)
}
