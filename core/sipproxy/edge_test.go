package sipproxy

import (
	"context"
	"net"
	"sync"
	"testing/synctest"
	"time"

	"sallyport/tunnel"
)

// The town's edge, and the way between it and the core.

// startEdge begins a life of the edge. Another life knows no flow of the one
// before.
func (w *town) startEdge() {
	w.t.Helper()
	door := newPipeListener()
	w.edge = tunnel.NewAcceptor(tunnel.AcceptorConfig{Name: "edge1", Boot: w.inner.opens(door),
		PingEvery: time.Hour, DeadAfter: 3 * time.Hour, // stories last for weeks
		Handshake: func(_ context.Context, c net.Conn) (net.Conn, string, error) { return c, "core1", nil }})
	edge := w.edge
	w.edgeRun = start(context.Background(), w.t, func(ctx context.Context) error { return edge.Serve(ctx, door) })
}

// restartEdge ends the edge, and with it every client's connection, and starts
// another.
func (w *town) restartEdge() {
	w.t.Helper()
	w.edgeRun.stop()
	synctest.Wait()
	w.startEdge()
	pass(5 * time.Second) // until the tunnel is up again
}

// cutTunnel breaks what connects core and edge now; they may connect again.
func (w *town) cutTunnel() {
	w.inner.cut()
	synctest.Wait()
}

// inner is the inner side of the DMZ.
type inner struct {
	mu sync.Mutex
	// Guarded by mu.
	door  *pipeListener // of the edge that lives
	lives uint64
	lines []net.Conn
}

// opens makes door the one at which the edge is reached, and numbers its life.
func (i *inner) opens(door *pipeListener) (life uint64) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.door = door
	i.lives++
	return i.lives
}

// dial is the core's way to the edge.
func (i *inner) dial(ctx context.Context, _ string) (net.Conn, string, error) {
	i.mu.Lock()
	door := i.door
	i.mu.Unlock()
	near, far := net.Pipe()
	select {
	case door.conns <- far:
	case <-door.done:
		return nil, "", net.ErrClosed
	case <-ctx.Done():
		return nil, "", ctx.Err()
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.lines = append(i.lines, near)
	return near, "edge1", nil
}

func (i *inner) cut() {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, c := range i.lines {
		_ = c.Close()
	}
	i.lines = nil
}
