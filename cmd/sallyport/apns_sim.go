package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
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
	Listen      string `default:"127.0.0.1:2197" help:"Where pushes are taken (HTTP/2 over TLS)."`
	Dir         string `required:"" type:"path" help:"Where ca.pem and a new .p8 key are written."`
	Control     string `help:"Where the control API listens, such as 127.0.0.1:2198; empty: nowhere."`
	Environment string `enum:"production,sandbox" default:"production" help:"Apple's environment: ${enum}."`
	Strict      bool   `help:"Take only device tokens that were registered by the control API."`

	MaxStreams    uint32        `default:"1000" help:"Streams on a connection that has seen a valid token; 0: from 100 to 1500, drawn for each."`
	BadTokenLimit int           `default:"10" help:"BadDeviceToken answers after which a connection is ended."`
	TokenRate     int           `placeholder:"N" help:"Pushes that a device token takes in a second; 0: any number."`
	ConnRate      int           `default:"60" help:"Connections that an address may open in a minute; -1: any number."`
	IdleTimeout   time.Duration `help:"End connections on which nothing was pushed for so long; 0: never."`
	ClockSkew     time.Duration `help:"How far Apple's clock is ahead of this machine's; may be negative."`
	PerIP         bool          `name:"per-ip" help:"Count changes of the provider token by address rather than by connection."`
	ShortReason   bool          `help:"Say BadEnvironmentKeyInToken, as live servers do."`
	ReportWithin  time.Duration `help:"How soon an app must report a call by POST /calls; 0: never."`
	simFaults
}

func (c *apnsSimCmd) config() pushtest.APNsConfig {
	return pushtest.APNsConfig{
		Environment: c.Environment, AnyToken: !c.Strict,
		MaxStreams: c.MaxStreams, RandomStreams: c.MaxStreams == 0, BadTokenLimit: c.BadTokenLimit,
		TokenRate: c.TokenRate, ConnRate: c.ConnRate, IdleTimeout: c.IdleTimeout, ClockSkew: c.ClockSkew,
		PerIP: c.PerIP, ShortReason: c.ShortReason, ReportWithin: c.ReportWithin,
	}
}

// fail sets up what is to go wrong.
func (c *apnsSimCmd) fail(sim *pushtest.APNs) {
	sim.SetLatency(c.Latency)
	sim.SetHandshakeDelay(c.HandshakeDelay)
	for action, n := range c.after() {
		if n > 0 {
			sim.After(n, action)
		}
	}
	if c.Status != 0 {
		sim.Inject(pushtest.Fault{Status: c.Status, Reason: c.Reason, Every: c.Every, Count: c.count()})
	}
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
	sim := pushtest.NewAPNs(c.config())
	c.fail(sim)
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
		fmt.Fprintf(out, "# control API: http://%s (GET /pushes, /deliveries, /violations, /warnings, /stats; POST /tokens, /calls, /faults)\n", control.Addr())
		go func() { served <- serveControl(ctx, control, "apns-sim", sim.Control()) }()
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
	for _, w := range sim.Warnings() {
		fmt.Fprintln(out, "# warning:", w)
	}
	return err
}

// apnsSimHelp is the section of core.toml that sends pushes here.
const apnsSimHelp = `# APNs simulator on %s; for core.toml:
[[push.app]]
id = "org.example.phone"
provider = "apns"
team_id = %q
key_id = %q
key_file = %q
endpoint = "https://%s"
ca_file = %q
`
