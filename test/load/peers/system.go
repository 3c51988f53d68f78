package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"sallyport/test/load/loadgen"
)

// domain and desk are those of both systems.
const (
	domain = "example.com"
	desk   = "pbx1"
)

// A system is one of those that are compared.
type system interface {
	name() string
	// start runs it, with the PBX at an address that begins to listen before.
	start(ctx context.Context, pbx string, pushed func(callID string, at time.Time)) (*running, error)
}

// missingError is a program that is not installed.
type missingError struct{ program string }

func (e missingError) Error() string { return e.program + " is not installed" }

// running is a system that runs.
type running struct {
	// Where clients connect, and the PBX.
	sips, https, core string
	path              string
	push              func(user string) string
	sleep             loadgen.Sleep // how a phone comes to be asleep
	parts             []*part
	stops             []func()
	profiles          string // directory; empty: none
}

func (r *running) close() {
	for i := len(r.parts) - 1; i >= 0; i-- {
		r.parts[i].end()
	}
	for _, stop := range r.stops {
		stop()
	}
}

// profile begins a profile of each part, where wanted, and returns what ends it.
func (r *running) profile(scenario string) (end func()) {
	if r.profiles == "" {
		return func() {}
	}
	for _, p := range r.parts {
		_ = p.cmd.Process.Signal(syscall.SIGUSR1)
	}
	return func() {
		for _, p := range r.parts {
			_ = p.cmd.Process.Signal(syscall.SIGUSR2)
		}
		time.Sleep(500 * time.Millisecond) // they write
		for _, p := range r.parts {
			for from, to := range map[string]string{"": "cpu", ".mem": "mem"} {
				_ = os.Rename(p.profile()+from, filepath.Join(r.profiles, scenario+"-"+p.name+"."+to))
			}
		}
	}
}

// town is a system with the generator around it.
type town struct {
	run  *running
	gen  *loadgen.Generator
	used bool // no longer fresh, and not what the next scenario may use
}

func open(ctx context.Context, s system) (*town, error) {
	addrs, err := freeAddrs(1)
	if err != nil {
		return nil, err
	}
	t := &town{}
	// The generator is there first, since the core looks for its PBX; what it
	// has to know of the system follows.
	if t.gen, err = loadgen.New(loadgen.Config{PBX: addrs[0], Domain: domain, Desk: desk, Busy: 64, Sources: 50, Timeout: 10 * time.Second}); err != nil {
		return nil, err
	}
	if t.run, err = s.start(ctx, addrs[0], t.gen.Pushed); err != nil {
		t.gen.Close()
		return nil, err
	}
	var watch []loadgen.Process
	for _, p := range t.run.parts {
		watch = append(watch, loadgen.Process{Name: p.name, PID: p.cmd.Process.Pid})
	}
	t.gen.Against(loadgen.Server{
		SIPS: t.run.sips, HTTPS: t.run.https, Path: t.run.path, Core: t.run.core, Watch: watch,
	})
	return t, nil
}

func (t *town) close() {
	if t == nil {
		return
	}
	t.gen.Close()
	t.run.close()
}

// A part is one program of a system.
type part struct {
	name   string
	dir    string
	cmd    *exec.Cmd
	exited chan struct{}
}

// launch runs a program that writes what it says into a file beside its config.
func launch(name, dir, program string, args ...string) (*part, error) {
	p := &part{name: name, dir: dir, cmd: exec.Command(program, args...), exited: make(chan struct{})}
	out, err := os.Create(filepath.Join(dir, name+".log"))
	if err != nil {
		return nil, err
	}
	defer out.Close()
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.Dir = dir
	p.cmd.Env = append(os.Environ(), "CPU_PROFILE="+p.profile())
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // its children end with it
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.exited)
	}()
	return p, nil
}

func (p *part) profile() string { return filepath.Join(p.dir, p.name+".profile") }

// end has the program end, and kills its group when it does not in time.
func (p *part) end() {
	_ = p.cmd.Process.Signal(syscall.SIGKILL) // there is nothing to save
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	<-p.exited
}

// until waits for the program to be ready.
func (p *part) until(ctx context.Context, ready func() error) error {
	deadline := time.Now().Add(15 * time.Second)
	for {
		err := ready()
		if err == nil {
			return nil
		}
		select {
		case <-p.exited:
			err = errors.New("it has ended")
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(20 * time.Millisecond):
			if time.Now().Before(deadline) {
				continue
			}
		}
		return fmt.Errorf("%s is not ready: %w\n%s", p.name, err, p.said())
	}
}

// said is the end of what the program wrote.
func (p *part) said() string {
	f, err := os.Open(filepath.Join(p.dir, p.name+".log"))
	if err != nil {
		return ""
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil {
		_, _ = f.Seek(max(0, info.Size()-4096), io.SeekStart)
	}
	text, _ := io.ReadAll(f)
	return string(text)
}

// accepts says whether something listens.
func accepts(addr string) error {
	c, err := net.Dial("tcp", addr)
	if err == nil {
		c.Close()
	}
	return err
}

// freeAddrs finds addresses on the loopback whose ports the kernel does not
// give to outgoing connections.
func freeAddrs(n int) (addrs []string, err error) {
	for range 200 {
		addr := fmt.Sprintf("127.0.0.1:%d", 10_000+rand.IntN(22_000))
		l, err := net.Listen("tcp", addr)
		if err != nil {
			continue
		}
		defer l.Close()
		if addrs = append(addrs, addr); len(addrs) == n {
			return addrs, nil
		}
	}
	return nil, errors.New("no free port between 10000 and 32000")
}
