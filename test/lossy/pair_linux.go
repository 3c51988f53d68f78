package lossy

import (
	"context"
	"fmt"
	"net"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Pair is two hosts and the line between them.
type Pair struct {
	A, B *Host

	there, back *way
	reading     sync.WaitGroup
	writing     sync.WaitGroup
}

// Host is a network namespace with one address.
type Host struct {
	// Addr is the host's IP address, which exists in the namespace only.
	Addr string

	tun  *os.File
	jobs chan func() // run on the thread that is in the namespace
	done chan struct{}
}

// New makes two hosts that a line joins, and takes them down with the test. It
// skips the test where the system lets nobody make them.
func New(t testing.TB, line Line) *Pair {
	t.Helper()
	p := &Pair{there: newWay(line, 1), back: newWay(line, 2)}
	var err error
	if p.A, err = newHost("10.99.0.1"); err == nil {
		if p.B, err = newHost("10.99.0.2"); err != nil {
			p.A.close()
		}
	}
	if err != nil {
		t.Skipf("no two hosts to be had here (Linux, root and /dev/net/tun are needed): %v", err)
	}
	p.join(p.A, p.B, p.there)
	p.join(p.B, p.A, p.back)
	t.Cleanup(p.close)
	return p
}

// Set makes the line as bad as given, from the next packet on.
func (p *Pair) Set(line Line) {
	p.there.line.Store(&line)
	p.back.line.Store(&line)
}

// Counts returns what became of the packets from A to B, and from B to A.
func (p *Pair) Counts() (there, back Count) { return p.there.count(), p.back.count() }

// join carries packets one way.
func (p *Pair) join(from, to *Host, w *way) {
	p.reading.Go(func() {
		defer close(w.flying)
		buf := make([]byte, maxPacket)
		for {
			n, err := from.tun.Read(buf)
			if err != nil {
				return
			}
			w.take(buf[:n], time.Now())
		}
	})
	p.writing.Go(func() {
		w.give(func(b []byte) error { _, err := to.tun.Write(b); return err })
	})
}

// close takes the hosts down. The order matters: readers end with their
// device, writers when their readers have.
func (p *Pair) close() {
	p.Set(Line{Cut: true})
	p.A.close()
	p.B.close()
	p.reading.Wait()
	p.writing.Wait()
}

// newHost makes a namespace and its device on a thread of its own, which dies
// with the host.
func newHost(addr string) (*Host, error) {
	h := &Host{Addr: addr, jobs: make(chan func()), done: make(chan struct{})}
	made := make(chan error)
	go func() {
		defer close(h.done)
		runtime.LockOSThread() // and never back: the thread cannot leave the namespace
		err := h.build()
		made <- err
		if err != nil {
			return
		}
		for job := range h.jobs {
			job()
		}
	}()
	if err := <-made; err != nil {
		return nil, err
	}
	return h, nil
}

func (h *Host) close() {
	_ = h.tun.Close()
	close(h.jobs)
	<-h.done
}

// build runs on the host's thread.
func (h *Host) build() error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("network namespace: %w", err)
	}
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("/dev/net/tun: %w", err)
	}
	if err := configure(fd, h.Addr); err != nil {
		_ = unix.Close(fd)
		return err
	}
	h.tun = os.NewFile(uintptr(fd), "tun")
	return nil
}

// device is its name in each namespace.
const device = "line0"

// configure makes fd a device with addr in a /24, and sets it up.
func configure(fd int, addr string) error {
	ifr, err := unix.NewIfreq(device)
	if err != nil {
		return err
	}
	ifr.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr); err != nil {
		return fmt.Errorf("TUNSETIFF: %w", err)
	}
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	for _, step := range []struct {
		name string
		op   uint
		set  func(*unix.Ifreq) error
	}{
		{"address", unix.SIOCSIFADDR, func(r *unix.Ifreq) error { return r.SetInet4Addr(net.ParseIP(addr).To4()) }},
		{"netmask", unix.SIOCSIFNETMASK, func(r *unix.Ifreq) error { return r.SetInet4Addr([]byte{255, 255, 255, 0}) }},
		{"up", unix.SIOCSIFFLAGS, func(r *unix.Ifreq) error { r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING); return nil }},
	} {
		if ifr, err = unix.NewIfreq(device); err != nil {
			return err
		}
		if err := step.set(ifr); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
		if err := unix.IoctlIfreq(s, step.op, ifr); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	return nil
}

// in runs f on the host's thread and waits for it. Sockets that f makes are
// in the host's namespace, wherever they are used later.
func (h *Host) in(f func()) {
	ran := make(chan struct{})
	h.jobs <- func() { defer close(ran); f() }
	<-ran
}

// Listen listens on a TCP port of the host; port 0 picks one.
func (h *Host) Listen(port int) (l net.Listener, err error) {
	h.in(func() {
		l, err = net.Listen("tcp4", net.JoinHostPort(h.Addr, fmt.Sprint(port)))
	})
	return l, err
}

// Dial connects from the host to an address of the other, an IP and a port.
// One call of each host is under way at a time.
func (h *Host) Dial(ctx context.Context, addr string) (c net.Conn, err error) {
	h.in(func() {
		var d net.Dialer
		c, err = d.DialContext(ctx, "tcp4", addr)
	})
	return c, err
}
