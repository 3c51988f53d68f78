//go:build !linux

package c2s

import (
	"syscall"
	"time"
)

// setUserTimeout does nothing where there is no such option.
func setUserTimeout(syscall.RawConn, time.Duration) {}
