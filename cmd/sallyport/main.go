// Command sallyport is the operator's tool: it makes the tunnel's CA and the
// bundles of edges and cores, keeps the users of a stand-alone domain, shows
// what a running core does and why a phone did not ring, checks a set-up
// before it runs, and holds the demo and the push simulators. It is a client
// of the core's API like any other; no service needs it to run.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
)

// version is set by the linker.
var version = "dev"

// cli is the command line; each command lives in the file named after it.
type cli struct {
	Certs      certsCmd         `cmd:"" help:"Make the tunnel's CA and the bundles of edges and cores."`
	Users      usersCmd         `cmd:"" help:"Keep the users of a stand-alone domain."`
	Status     statusCmd        `cmd:"" help:"Show what works in a running core, what does not, and why."`
	Clients    clientsCmd       `cmd:"" help:"List devices and their state."`
	Trace      traceCmd         `cmd:"" help:"Show the calls to an address step by step: why did the phone not ring?"`
	DND        dndCmd           `cmd:"" name:"dnd" help:"Switch do-not-disturb of an address on or off, or list for whom it is on."`
	Push       pushCmd          `cmd:"" help:"Try the push services."`
	Check      checkCmd         `cmd:"" help:"Check config, DNS, certificates and reachability of an edge or a core before it runs."`
	Demo       demoCmd          `cmd:"" help:"Play the whole of Sallyport in one process: a sleeping phone is called, woken, and answers."`
	APNsSim    apnsSimCmd       `cmd:"" name:"apns-sim" help:"Run a simulator of Apple's push service."`
	FCMSim     fcmSimCmd        `cmd:"" name:"fcm-sim" help:"Run a simulator of Google's push service."`
	WebPushSim webpushSimCmd    `cmd:"" name:"webpush-sim" help:"Run a push service for Web Push and UnifiedPush."`
	Version    kong.VersionFlag `help:"Print the version and exit."`
}

// console is what a command sees of its process.
type console struct {
	ctx      context.Context
	in       io.Reader
	out, err io.Writer
	zone     *time.Location // in which times are shown
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(os.Args[1:], &console{ctx: ctx, in: os.Stdin, out: os.Stdout, err: os.Stderr, zone: time.Local})
	stop()
	os.Exit(code)
}

// Exit codes: exitFailed when a command, or something that it looked at, is
// not well; exitUsage when it was called wrongly.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

// errReported ends a command with exitFailed when it has already said why.
var errReported = errors.New("already reported")

// run is main as a value: it parses args, runs the command and returns the
// exit code.
func run(args []string, c *console) int {
	var commands cli
	left := false // --help or --version has done all there is to do
	parser, err := kong.New(&commands,
		kong.Name("sallyport"),
		kong.Description("The operator's tool of Sallyport."),
		kong.Vars{"version": "sallyport " + version},
		kong.Writers(c.out, c.err),
		kong.Exit(func(int) { left = true }),
	)
	if err != nil {
		fmt.Fprintln(c.err, "sallyport:", err)
		return exitUsage
	}
	command, err := parser.Parse(args)
	switch {
	case left:
		return exitOK
	case err != nil:
		fmt.Fprintf(c.err, "sallyport: %v\nTry: sallyport --help\n", err)
		return exitUsage
	}
	switch err := command.Run(c); {
	case errors.Is(err, errReported):
		return exitFailed
	case err != nil:
		fmt.Fprintln(c.err, "sallyport:", err)
		return exitFailed
	}
	return exitOK
}
