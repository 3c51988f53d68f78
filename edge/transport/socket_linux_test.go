package transport_test

import (
	"crypto/tls"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/edge/transport"
)

func TestUserTimeoutIsSetOnSockets(t *testing.T) {
	l, err := (&net.ListenConfig{KeepAliveConfig: transport.KeepAlive()}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := transport.Tune(s, 20*time.Second); err != nil {
		t.Fatal(err)
	}
	raw, _ := s.(*net.TCPConn).SyscallConn()
	_ = raw.Control(func(fd uintptr) {
		for opt, want := range map[int]int{unix.TCP_USER_TIMEOUT: 20_000, unix.TCP_NODELAY: 1, unix.TCP_KEEPIDLE: 900} {
			if got, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, opt); got != want || err != nil {
				t.Errorf("option %d is %d, %v, want %d", opt, got, err, want)
			}
		}
	})
	if got := transport.RemoteOf(s).String(); got != c.LocalAddr().String() {
		t.Errorf("remote %s, want %s", got, c.LocalAddr())
	}
}

// What the kernel holds for a client that does not read is bounded, and so its
// being stuck is felt. Linux doubles what it is asked for.
func TestTU2_TheKernelHoldsLittleForAClient(t *testing.T) {
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	client := tls.Client(c, &tls.Config{InsecureSkipVerify: true})
	defer client.Close()
	go func() { _ = client.Handshake() }()
	if _, err := transport.New(transport.Config{}).Handshake(t.Context(), s, &tls.Config{Certificates: []tls.Certificate{selfSigned(t)}}, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	raw, _ := s.(*net.TCPConn).SyscallConn()
	_ = raw.Control(func(fd uintptr) {
		if got, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF); got > 128<<10 || err != nil {
			t.Errorf("the send buffer is %d, %v", got, err)
		}
	})
}
