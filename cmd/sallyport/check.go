package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"sallyport/cmd/internal/boot"
)

// checkCmd is `sallyport check`.
type checkCmd struct {
	Edge string `placeholder:"FILE" help:"An edge's config; run it on the edge's host."`
	Core string `placeholder:"FILE" help:"A core's config; run it on the core's host."`
}

// Run checks what the files name, as far as that is possible from here and
// while nothing runs. It fails when something is wrong; a remark alone is none.
func (cmd *checkCmd) Run(c *console) error {
	if cmd.Edge == "" && cmd.Core == "" {
		return errors.New("name what to check: --edge FILE, --core FILE or both")
	}
	k := &checker{ctx: c.ctx, out: c.out, env: os.Environ(), net: systemNet{}, now: time.Now()}
	if cmd.Edge != "" {
		k.edge(cmd.Edge)
	}
	if cmd.Core != "" {
		k.core(cmd.Core)
	}
	return k.verdict()
}

// network is what a check asks of the world around it.
type network interface {
	LookupHost(ctx context.Context, name string) ([]string, error)
	LookupSRV(ctx context.Context, service, proto, name string) ([]*net.SRV, error)
	Dial(ctx context.Context, addr string) (net.Conn, error)
	Listen(ctx context.Context, proto, addr string) (io.Closer, error)
}

// lookWithin bounds each question to the network.
const lookWithin = 5 * time.Second

// checker writes a line for each thing it looks at.
type checker struct {
	ctx context.Context
	out io.Writer
	env []string
	net network
	now time.Time

	wrong, remarks int
}

// ok says that something is well.
func (k *checker) ok(what, format string, args ...any) { k.line("ok  ", what, format, args...) }

// remark says what may be well, and what to look at.
func (k *checker) remark(what, remedy, format string, args ...any) {
	k.remarks++
	k.line("note", what, format, args...)
	k.remedy(remedy)
}

// fail says what is wrong, and what to do.
func (k *checker) fail(what, remedy, format string, args ...any) {
	k.wrong++
	k.line("FAIL", what, format, args...)
	k.remedy(remedy)
}

func (k *checker) line(mark, what, format string, args ...any) {
	fmt.Fprintf(k.out, "%s  %-28s %s\n", mark, what, clean(fmt.Sprintf(format, args...)))
}

func (k *checker) remedy(text string) {
	if text != "" {
		fmt.Fprintf(k.out, "      %-28s -> %s\n", "", clean(text))
	}
}

func (k *checker) verdict() error {
	if k.wrong == 0 {
		fmt.Fprintf(k.out, "\nnothing is wrong, %s\n", count(k.remarks, "note"))
		return nil
	}
	fmt.Fprintf(k.out, "\n%s wrong, %s\n", count(k.wrong, "thing"), count(k.remarks, "note"))
	return errReported
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// load reads a config as the service would, and reports each fault in it.
func load[C any](k *checker, path string, defaults func() C) (C, bool) {
	cfg, err := boot.Load(defaults, path, k.env)
	if err == nil {
		k.ok("config", "%s is valid", path)
		return cfg, true
	}
	for fault := range strings.SplitSeq(err.Error(), "\n") {
		k.fail("config", "", "%s", fault)
	}
	k.remedy("correct these first; the rest is checked when the config is valid")
	return cfg, false
}

// resolves checks that a name has an address.
func (k *checker) resolves(what, name, remedy string) bool {
	if net.ParseIP(name) != nil {
		return true
	}
	ctx, cancel := context.WithTimeout(k.ctx, lookWithin)
	defer cancel()
	addrs, err := k.net.LookupHost(ctx, name)
	if err != nil {
		k.fail(what, remedy, "%s does not resolve: %v", name, err)
		return false
	}
	k.ok(what, "%s is %s", name, strings.Join(addrs, ", "))
	return true
}

// reaches checks that a TCP connection can be made, and hands it on.
func (k *checker) reaches(what, addr, remedy string) (net.Conn, bool) {
	ctx, cancel := context.WithTimeout(k.ctx, lookWithin)
	defer cancel()
	conn, err := k.net.Dial(ctx, addr)
	if err != nil {
		k.fail(what, remedy, "%s cannot be reached: %v", addr, err)
		return nil, false
	}
	return conn, true
}

// opens checks that an address can be listened on. One in use is well when
// the service runs already.
func (k *checker) opens(what, proto, addr string) {
	ctx, cancel := context.WithTimeout(k.ctx, lookWithin)
	defer cancel()
	l, err := k.net.Listen(ctx, proto, addr)
	switch {
	case err == nil:
		l.Close()
		k.ok(what, "%s %s is free", proto, addr)
	case errors.Is(err, syscall.EADDRINUSE):
		k.remark(what, "well if that is the service itself; else end the other program or choose another port", "%s %s is in use", proto, addr)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		k.fail(what, "listen on an address of this host, or run the check on the host that has it", "%s %s is no address of this host", proto, addr)
	case errors.Is(err, syscall.EACCES):
		k.remark(what, "well under the systemd unit, which grants CAP_NET_BIND_SERVICE; else run the check as root", "%s %s needs a privilege that this user lacks", proto, addr)
	default:
		k.fail(what, "", "%s %s: %v", proto, addr, err)
	}
}

// systemNet is the network of this host.
type systemNet struct{}

func (systemNet) LookupHost(ctx context.Context, name string) ([]string, error) {
	return net.DefaultResolver.LookupHost(ctx, name)
}

func (systemNet) LookupSRV(ctx context.Context, service, proto, name string) ([]*net.SRV, error) {
	_, found, err := net.DefaultResolver.LookupSRV(ctx, service, proto, name)
	return found, err
}

func (systemNet) Dial(ctx context.Context, addr string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", addr)
}

func (systemNet) Listen(ctx context.Context, proto, addr string) (io.Closer, error) {
	var lc net.ListenConfig
	if proto == "udp" {
		return lc.ListenPacket(ctx, "udp", addr)
	}
	return lc.Listen(ctx, "tcp", addr)
}
