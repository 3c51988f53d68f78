package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"sallyport/core/push/pushtest"
)

// apnsSimCmd is `sallyport apns-sim`: Apple's push service on this machine, to
// try a core and an app without an Apple account.
type apnsSimCmd struct {
	Listen      string        `default:"127.0.0.1:2197" help:"Where pushes are taken (HTTP/2 over TLS)."`
	Dir         string        `required:"" type:"path" help:"Where ca.pem and a new .p8 key are written."`
	Control     string        `help:"Where the control API listens, such as 127.0.0.1:2198; empty: nowhere."`
	Environment string        `enum:"production,sandbox" default:"production" help:"Apple's environment: ${enum}."`
	Strict      bool          `help:"Take only device tokens that were registered by the control API."`
	Latency     time.Duration `help:"Delay each answer by this much."`
}

// Run serves until it is interrupted.
func (c *apnsSimCmd) Run() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return c.serve(ctx, os.Stdout)
}

// serve opens what was asked for, prints how to use it, and then a line for
// each push, refused ones included.
func (c *apnsSimCmd) serve(ctx context.Context, out io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	sim := pushtest.NewAPNs(pushtest.APNsConfig{Environment: c.Environment, AnyToken: !c.Strict})
	sim.SetLatency(c.Latency)
	caFile, keyFile, keyID, teamID, err := sim.WriteFiles(c.Dir)
	if err != nil {
		return fmt.Errorf("apns-sim: %w", err)
	}
	var listen net.ListenConfig
	l, err := listen.Listen(ctx, "tcp", c.Listen)
	if err != nil {
		return fmt.Errorf("apns-sim: --listen: %w", err)
	}
	defer l.Close()
	served := make(chan error, 2)
	running := 1
	if c.Control != "" {
		control, err := listen.Listen(ctx, "tcp", c.Control)
		if err != nil {
			return fmt.Errorf("apns-sim: --control: %w", err)
		}
		running++
		fmt.Fprintf(out, "# control API: http://%s (GET /pushes, POST /tokens, POST /faults)\n", control.Addr())
		go func() { served <- serveControl(ctx, control, sim) }()
	}
	fmt.Fprintf(out, apnsSimHelp, l.Addr(), teamID, keyID, keyFile, l.Addr(), caFile)
	var mu sync.Mutex // connections answer side by side
	sim.OnAnswer = func(p pushtest.Push) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintln(out, p)
	}
	go func() { served <- sim.Serve(ctx, l) }()

	for range running {
		err = errors.Join(err, <-served)
		cancel()
	}
	for _, v := range sim.Violations() {
		fmt.Fprintln(out, "# violation:", v)
	}
	return err
}

// apnsSimHelp is the section of core.toml that sends pushes here.
const apnsSimHelp = `# APNs simulator on %s; for core.toml:
# [[push.app]]
# id = "org.example.phone"
# provider = "apns"
# team_id = %q
# key_id = %q
# key_file = %q
# endpoint = "https://%s"
# ca_file = %q
`

// serveControl serves the control API until ctx ends.
func serveControl(ctx context.Context, l net.Listener, sim *pushtest.APNs) error {
	srv := &http.Server{
		Handler:           sim.Control(),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      10 * time.Second,
	}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("apns-sim: control API: %w", err)
	}
	return nil
}
