// Package boot is what the two services have in common before and around
// their work: it layers the config (defaults, file, environment), makes the
// logger, turns signals into drain, reload and exit, and for a server without
// an API of its own runs the admin listener. It knows of no server more than
// the methods in [Server], and no SIP.
package boot

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/pelletier/go-toml/v2"
	"github.com/prometheus/client_golang/prometheus"
)

// Exit codes of the services.
const (
	exitOK     = 0
	exitFailed = 1 // it ran, and ended with an error or by a second signal
	exitUsage  = 2 // flags or config are wrong; nothing was opened
)

// Program says what a service is made of. C is its config struct, with toml
// tags and a method Validate() error that returns every fault, joined, each
// as "section.key: what is wrong".
type Program[C any] struct {
	Name     string   // "edge" or "core"; the binary is sallyport-NAME
	Version  string   // what -version prints
	Defaults func() C // config before file and environment
	// New builds the server; it starts nothing.
	New func(cfg C, deps Deps) (Server, error)
	// Log picks the logger's part of the config; nil: info, json, redacted.
	Log func(cfg *C) Log
	// Admin picks the address of the admin listener that boot shall run; nil,
	// or "", when the server has its own or none.
	Admin func(cfg *C) string
}

// Deps is what boot hands to a server.
type Deps struct {
	Log      *slog.Logger
	Registry *prometheus.Registry
	Version  string
}

// Server is a service. Run blocks until it has ended and left nothing behind.
// Drain begins the graceful stop, upon which Run returns nil once all is
// done; it may block meanwhile.
//
// More methods are used where a server has them: Ready() bool is what /readyz
// answers, Notes() []string are sentences that it adds, on what an operator
// should know, and Reload(C) error takes a new config on SIGHUP; what it cannot
// take without a restart it should name in its error.
type Server interface {
	Run(ctx context.Context) error
	Drain()
}

// Main runs a service as the process's whole life, and exits.
func Main[C any](p Program[C]) {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	os.Exit(p.Execute(context.Background(), Process{
		Args: os.Args[1:], Env: os.Environ(), Stdout: os.Stdout, Stderr: os.Stderr, Signals: signals,
	}))
}

// Process is what a service sees of its process.
type Process struct {
	Args           []string // without the program's name
	Env            []string // NAME=value
	Stdout, Stderr io.Writer
	Signals        <-chan os.Signal
}

// Execute is [Main] as a value, for tests: it runs the service in the given
// surroundings and returns the exit code.
func (p Program[C]) Execute(ctx context.Context, proc Process) int {
	flags := flag.NewFlagSet("sallyport-"+p.Name, flag.ContinueOnError)
	flags.SetOutput(proc.Stderr)
	file := flags.String("config", "", "read the config from `FILE`; without it, defaults and SALLYPORT_SECTION_KEY variables alone")
	check := flags.Bool("check", false, "validate the config, print the effective one as TOML and exit; opens nothing that it names")
	version := flags.Bool("version", false, "print the version and exit")
	switch err := flags.Parse(proc.Args); {
	case errors.Is(err, flag.ErrHelp):
		return exitOK
	case err != nil:
		return exitUsage
	case flags.NArg() > 0:
		fmt.Fprintf(proc.Stderr, "unexpected argument %q: the config is named with -config FILE\n", flags.Arg(0))
		return exitUsage
	case *version:
		fmt.Fprintf(proc.Stdout, "sallyport-%s %s\n", p.Name, p.Version)
		return exitOK
	}
	load := func() (C, error) { return Load(p.Defaults, *file, proc.Env) }
	cfg, err := load()
	if err == nil {
		err = p.logOf(&cfg).validate()
	}
	if err != nil {
		fmt.Fprintln(proc.Stderr, err)
		return exitUsage
	}
	if *check {
		return printConfig(proc.Stdout, proc.Stderr, cfg)
	}
	return p.serve(ctx, proc, cfg, load)
}

func (p Program[C]) logOf(cfg *C) Log {
	if p.Log == nil {
		return Log{Level: "info", Format: "json", Redact: true}
	}
	return p.Log(cfg)
}

// printConfig writes the effective config as TOML that -config takes again.
func printConfig(stdout, stderr io.Writer, cfg any) int {
	if err := toml.NewEncoder(stdout).Encode(cfg); err != nil {
		fmt.Fprintln(stderr, err)
		return exitFailed
	}
	return exitOK
}
