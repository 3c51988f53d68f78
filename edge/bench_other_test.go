//go:build !linux

package edge_test

import (
	"testing"
	"time"
)

func resident() int { return 0 }

func processorTime(b *testing.B) time.Duration {
	b.Skip("reads the kernel's accounts of Linux")
	return 0
}
