// Package process runs programs of others for tests: on free loopback ports, with
// wait times that are bounded, ended by their process id when the test ends, and
// with what they printed in the log of a test that failed. It knows no program.
package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

const (
	// StartLimit bounds the time in which a peer must be ready.
	StartLimit = 30 * time.Second
	// endLimit is how long a peer may take to end before it is killed.
	endLimit = 5 * time.Second
	// keptOutput is how much of a peer's output a failed test shows.
	keptOutput = 32 << 10
)

// Need returns the path of a program, or ends the test: skipped, or failed
// where CI=true.
func Need(t testing.TB, program string) string {
	t.Helper()
	for _, dir := range []string{"", "/usr/sbin", "/sbin"} {
		name := program
		if dir != "" {
			name = filepath.Join(dir, program)
		}
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	Lack(t, program+" is not installed; test/interop/setup installs it")
	return ""
}

// Lack ends the test: skipped, or failed where CI=true, which has everything.
func Lack(t testing.TB, why string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// tail keeps the last bytes written to it.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

func (w *tail) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.buf = append(w.buf, p...)
	if cut := len(w.buf) - keptOutput; cut > 0 {
		w.buf = append(w.buf[:0], w.buf[cut:]...)
	}
	return len(p), nil
}

func (w *tail) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return string(bytes.ToValidUTF8(w.buf, []byte("?")))
}

// Process is a program of ours that runs until its test ends.
type Process struct {
	name   string
	cmd    *exec.Cmd
	out    *tail
	stdin  io.WriteCloser // nil unless asked for
	exited chan struct{}
	err    error // of Wait; read after exited
}

// Spec is how a program is started.
type Spec struct {
	Name, Path, Dir string
	Args, Env       []string
	Stdin           bool       // the caller writes to it
	Stdout          io.Writer  // nil: kept for the test's log
	Files           []*os.File // its descriptors 3 and up
}

// Launch starts a program, and ends it by its process id when t ends.
func Launch(t testing.TB, s Spec) *Process {
	t.Helper()
	p := &Process{name: s.Name, out: &tail{}, exited: make(chan struct{})}
	p.cmd = exec.Command(s.Path, s.Args...)
	p.cmd.Dir = s.Dir
	p.cmd.Env = append(os.Environ(), s.Env...)
	p.cmd.Stderr, p.cmd.ExtraFiles = p.out, s.Files
	// A group of its own, so that a program's children end with it.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p.cmd.WaitDelay = time.Second
	if p.cmd.Stdout = p.out; s.Stdout != nil {
		p.cmd.Stdout = s.Stdout
	}
	if s.Stdin {
		var err error
		if p.stdin, err = p.cmd.StdinPipe(); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("%s: %v", s.Name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.exited)
	}()
	t.Cleanup(func() {
		p.End()
		if t.Failed() {
			t.Logf("%s (%v) printed:\n%s", s.Name, p.cmd.ProcessState, p.out)
		}
	})
	return p
}

// PID is the process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Stdin is what the program reads, if it was asked for.
func (p *Process) Stdin() io.Writer { return p.stdin }

// Exited is closed when the program has ended.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// Output is the end of what it printed.
func (p *Process) Output() string { return p.out.String() }

// Notef adds to what it printed.
func (p *Process) Notef(format string, args ...any) { fmt.Fprintf(p.out, format, args...) }

// End asks the program to end, and kills it when it does not.
func (p *Process) End() { p.end(syscall.SIGTERM) }

// Kill ends the program as a power cut would.
func (p *Process) Kill() { p.end(syscall.SIGKILL) }

func (p *Process) end(first syscall.Signal) {
	if p.stdin != nil {
		_ = p.stdin.Close()
	}
	for _, sig := range []syscall.Signal{first, syscall.SIGKILL} {
		select {
		case <-p.exited:
			return
		default:
		}
		_ = p.cmd.Process.Signal(sig)
		if sig == syscall.SIGKILL {
			_ = syscall.Kill(-p.PID(), sig)
		}
		select {
		case <-p.exited:
			_ = syscall.Kill(-p.PID(), syscall.SIGKILL) // children that outlived it
			return
		case <-time.After(endLimit):
		}
	}
	<-p.exited
}

// Wait waits for the program's own end.
func (p *Process) Wait(ctx context.Context) error {
	select {
	case <-p.exited:
		return p.err
	case <-ctx.Done():
		return fmt.Errorf("%s still runs: %w", p.name, context.Cause(ctx))
	}
}

// Until tries ready now and again until it succeeds, the process ends or the
// start limit is over. Programs of others give no other sign.
func (p *Process) Until(t testing.TB, ready func() error) {
	t.Helper()
	if err := Poll(StartLimit, func() error {
		select {
		case <-p.exited:
			return Stop{fmt.Errorf("ended: %w", errors.Join(p.err, errors.New(p.out.String())))}
		default:
			return ready()
		}
	}); err != nil {
		t.Fatalf("%s is not ready: %v", p.name, err)
	}
}

// Stop is an error after which trying again is of no use.
type Stop struct{ error }

// Poll tries f until it succeeds, or returns its last error after limit.
func Poll(limit time.Duration, f func() error) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(limit); ; <-tick.C {
		err := f()
		if final := (Stop{}); errors.As(err, &final) {
			return final.error
		}
		if err == nil || time.Now().After(deadline) {
			return err
		}
	}
}

// FreePort finds a loopback port that is free for TCP and UDP. It looks below
// the range the kernel hands out, so that nothing takes the port meanwhile, and
// gives none twice.
func FreePort(t testing.TB) int {
	t.Helper()
	for range 200 {
		port := 20000 + int(lastPort.Add(1))%12000
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		l, err := net.Listen("tcp", addr)
		if err != nil {
			continue
		}
		u, err := net.ListenPacket("udp", addr)
		l.Close()
		if err == nil {
			u.Close()
			return port
		}
	}
	t.Fatal("no free port between 20000 and 32000")
	return 0
}

// lastPort counts the ports that were tried, from one at random: another process
// that looks for ports at the same time seldom meets these.
var lastPort = func() *atomic.Uint32 { var n atomic.Uint32; n.Store(rand.Uint32N(1 << 20)); return &n }()

// TempDir is a short path, since Unix sockets live in it (108 bytes at most).
func TempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sallyport")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// MakeDir makes a directory, and those above it.
func MakeDir(t testing.TB, path string) {
	t.Helper()
	if err := os.MkdirAll(path, 0o700); err != nil {
		t.Fatal(err)
	}
}

// WriteFile writes a file that only its owner reads.
func WriteFile(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// LogFile adds the end of a file to the test's log.
func LogFile(t testing.TB, path string) {
	text, err := os.ReadFile(path)
	if err != nil {
		return
	}
	text = text[max(0, len(text)-keptOutput):]
	t.Logf("%s:\n%s", filepath.Base(path), bytes.ToValidUTF8(text, []byte("?")))
}
