package e2e

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"

	"sallyport/core"
)

// A cable carries the tunnel, so that a story can cut it.
type cable struct {
	listener net.Listener
	to       string
	running  sync.WaitGroup

	mu     sync.Mutex
	opened int        // guarded by mu
	ends   []net.Conn // guarded by mu
}

// lay puts a cable between core and edge; cfg is that of the town.
func lay(t *testing.T, cfg *Config) *cable {
	t.Helper()
	c := &cable{listener: must[net.Listener](t)(new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0"))}
	cfg.Core = func(core *core.Config) {
		c.to = core.Tunnel.Edges[0]
		core.Tunnel.Edges = []string{c.listener.Addr().String()}
		c.running.Go(c.serve)
	}
	t.Cleanup(func() {
		_ = c.listener.Close()
		c.cut()
		c.running.Wait()
	})
	return c
}

func (c *cable) serve() {
	for {
		a, err := c.listener.Accept()
		if err != nil {
			return
		}
		b, err := new(net.Dialer).DialContext(context.Background(), "tcp", c.to)
		if err != nil {
			_ = a.Close()
			continue
		}
		c.mu.Lock()
		c.opened++
		c.ends = append(c.ends, a, b)
		c.mu.Unlock()
		for _, way := range [][2]net.Conn{{a, b}, {b, a}} {
			c.running.Go(func() {
				_, _ = io.Copy(way[0], way[1])
				_, _ = way[0].Close(), way[1].Close()
			})
		}
	}
}

// cut breaks what is connected now.
func (c *cable) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range c.ends {
		_ = e.Close()
	}
	c.ends = nil
}

func (c *cable) count() int { c.mu.Lock(); defer c.mu.Unlock(); return c.opened }
