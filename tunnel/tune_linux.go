package tunnel

import (
	"net"
	"syscall"
	"time"
)

// userTimeout is how long the kernel sends again before it gives a connection
// up (RFC 5482): as long as the other end may take to notice, too.
const userTimeout = 8 * time.Second

const (
	tcpUserTimeout = 0x12 // TCP_USER_TIMEOUT, which package syscall leaves out
	congestion     = "bbr"
)

// tuneTCP sets the options of a tunnel's socket that every kernel need not
// have: without BBR there are more links, without the timeout there is PING.
func tuneTCP(c *net.TCPConn) {
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout, int(userTimeout.Milliseconds()))
		_ = syscall.SetsockoptString(int(fd), syscall.IPPROTO_TCP, syscall.TCP_CONGESTION, congestion)
	})
}

// bbrOffered asks the kernel whether this process may use BBR.
func bbrOffered() bool {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer func() { _ = syscall.Close(fd) }()
	return syscall.SetsockoptString(fd, syscall.IPPROTO_TCP, syscall.TCP_CONGESTION, congestion) == nil
}
