//go:build !linux

package lossy

import (
	"context"
	"errors"
	"net"
	"testing"
)

// Pair is two hosts and the line between them. It exists on Linux only.
type Pair struct{ A, B *Host }

// Host is a network namespace with one address. It exists on Linux only.
type Host struct{ Addr string }

// New skips the test: namespaces and TUN devices are Linux's.
func New(t testing.TB, _ Line) *Pair {
	t.Skip("two hosts and a line are made on Linux only")
	return nil
}

// Set does nothing.
func (p *Pair) Set(Line) {}

// Counts returns nothing.
func (p *Pair) Counts() (there, back Count) { return }

// Listen fails.
func (h *Host) Listen(int) (net.Listener, error) { return nil, errors.ErrUnsupported }

// Dial fails.
func (h *Host) Dial(context.Context, string) (net.Conn, error) { return nil, errors.ErrUnsupported }
