package e2e

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync/atomic"
)

// freeAddr takes an address to listen on later. Its port is below those that
// systems give to outgoing connections, so that none of these gets it while an
// edge or a core restarts, and is given once in the life of the process, so
// that no other town gets it either.
func freeAddr() (l net.Listener, err error) {
	const low, high, tries = 10_000, 32_000, 100
	for range tries {
		port := low + int(lastPort.Add(1))%(high-low)
		if l, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			return l, nil
		}
	}
	return nil, err
}

// lastPort counts the ports that were tried, from one at random: two processes
// that make towns at the same time seldom meet.
var lastPort = func() *atomic.Uint32 { var n atomic.Uint32; n.Store(rand.Uint32N(1 << 20)); return &n }()
