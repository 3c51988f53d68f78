package pushtest

import (
	"encoding/json"
	"time"

	"golang.org/x/net/http2"
)

const (
	// pingAfter is how long Apple wants a connection to be idle before a PING.
	pingAfter = time.Hour
	// closeAfter is what a client has, once its last push is answered, to close a
	// connection that is going away.
	closeAfter = 5 * time.Second
)

// goAway announces the end of the connection with the reason as Apple gives it.
func (c *conn) goAway(reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.goAwayLocked(reason)
}

func (c *conn) goAwayLocked(reason string) {
	if c.leaving || c.framer == nil {
		return // or has not come yet
	}
	c.leaving = true
	text, err := json.Marshal(map[string]string{"reason": reason})
	if err != nil { // a map of strings always encodes
		return
	}
	_ = c.locked(func() error { return c.framer.WriteGoAway(c.last, http2.ErrCodeNo, text) })
	c.endSoon()
}

// endSoon closes a connection that is going away a while after the last push
// on it was answered. Guarded by mu.
func (c *conn) endSoon() {
	if c.leaving && c.end == nil && len(c.streams) == 0 {
		c.end = time.AfterFunc(closeAfter, func() { _ = c.tls.NetConn().Close() })
	}
}

// idleWatch ends a connection on which nothing is pushed for a while. The nil
// one watches nothing.
type idleWatch struct {
	timer *time.Timer
	limit time.Duration
}

func (c *conn) watchIdle() *idleWatch {
	limit := c.sim.cfg.IdleTimeout
	if limit <= 0 {
		return nil
	}
	return &idleWatch{timer: time.AfterFunc(limit, func() { c.goAway("IdleTimeout") }), limit: limit}
}

func (w *idleWatch) again() {
	if w != nil {
		w.timer.Reset(w.limit)
	}
}

func (w *idleWatch) stop() {
	if w != nil {
		w.timer.Stop()
	}
}
