//go:build !linux

package tunnel

import "net"

func tuneTCP(*net.TCPConn) {}

func bbrOffered() bool { return false }
