package transport_test

import (
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
