//go:build !linux

package transport

import (
	"net"
	"time"
)

// setUserTimeout does nothing: other systems end a dead connection after their
// own count of retransmissions.
func setUserTimeout(*net.TCPConn, time.Duration) error { return nil }
