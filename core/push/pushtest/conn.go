package pushtest

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"io"
	mathrand "math/rand/v2"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// Bounds of what a client may send.
const (
	maxHeaders = 16 << 10
	maxBody    = 8 << 10
	refill     = 16 << 10 // received bytes after which the window is opened again
)

// conn is one connection. It works on frames, for net/http's server can
// neither change the number of streams under way nor say why it goes away.
type conn struct {
	// Static after newConn.
	sim     *APNs
	id      int
	tls     *tls.Conn
	updates *updates

	frozen atomic.Bool

	// Owned by serve.
	received int       // bytes not yet given back to the client's window
	lastPush time.Time // when a push last came, or the connection
	pinged   bool      // too early, which is told once

	mu      sync.Mutex
	framer  *http2.Framer      // reading is serve's; writing is guarded by mu
	encoder *hpack.Encoder     // guarded by mu
	block   bytes.Buffer       // guarded by mu
	most    uint32             // static; streams allowed once a token was accepted
	limit   uint32             // guarded by mu; streams allowed at a time
	streams map[uint32]*stream // guarded by mu
	last    uint32             // guarded by mu; highest stream taken
	leaving bool               // guarded by mu; GOAWAY was sent
	end     *time.Timer        // guarded by mu; closes a connection that is leaving
	bound   *claims            // guarded by mu; of the first push
	bad     int                // guarded by mu; BadDeviceToken answers
}

// stream is a request on its way in.
type stream struct {
	request
	ended bool
}

func newConn(s *APNs, id int, c *tls.Conn) *conn {
	most := s.cfg.MaxStreams
	if s.cfg.RandomStreams {
		most = 100 + mathrand.Uint32N(1401)
	}
	return &conn{
		sim: s, id: id, tls: c, updates: &updates{}, most: most,
		limit: s.cfg.InitialStreams, streams: make(map[uint32]*stream),
	}
}

// serve runs the connection until it ends or ctx does.
func (c *conn) serve(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { _ = c.tls.NetConn().Close() })()
	defer c.close()

	if !c.greet(ctx) {
		return
	}
	c.lastPush = time.Now()
	idle := c.watchIdle()
	defer idle.stop()
	for {
		f, err := c.framer.ReadFrame()
		var stream http2.StreamError
		if errors.As(err, &stream) {
			c.sim.violate(c.id, "stream error %v", stream.Code)
			continue
		}
		if err != nil {
			return
		}
		if c.frozen.Load() {
			continue
		}
		if _, ok := f.(*http2.MetaHeadersFrame); ok {
			c.lastPush = time.Now()
			idle.again()
		}
		if !c.frame(ctx, &wg, f) {
			return
		}
	}
}

// close ends the connection at once.
func (c *conn) close() {
	_ = c.tls.NetConn().Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.end != nil {
		c.end.Stop()
	}
}

// greet shakes hands on TLS and HTTP/2.
func (c *conn) greet(ctx context.Context) bool {
	if !pause(ctx, c.sim.faults.slow()) {
		return false
	}
	timely, cancel := context.WithTimeout(ctx, ioTimeout)
	defer cancel()
	if c.tls.HandshakeContext(timely) != nil {
		return false
	}
	if c.tls.ConnectionState().NegotiatedProtocol != "h2" {
		c.sim.violate(c.id, "TLS without ALPN h2")
		return false
	}
	if c.sim.cfg.PerIP {
		c.updates = c.sim.updatesOf(c.tls.RemoteAddr())
	}
	_ = c.tls.SetReadDeadline(time.Now().Add(ioTimeout))
	preface := make([]byte, len(http2.ClientPreface))
	if _, err := io.ReadFull(c.tls, preface); err != nil || string(preface) != http2.ClientPreface {
		return false
	}
	_ = c.tls.SetReadDeadline(time.Time{})
	framer := http2.NewFramer(c.tls, c.tls)
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	framer.MaxHeaderListSize = maxHeaders
	c.mu.Lock()
	defer c.mu.Unlock()
	c.framer, c.encoder = framer, hpack.NewEncoder(&c.block)
	return c.locked(func() error {
		return c.framer.WriteSettings(
			http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: c.limit},
			http2.Setting{ID: http2.SettingMaxHeaderListSize, Val: maxHeaders},
		)
	}) == nil
}

// updatesOf finds the changes of provider token of one address.
func (s *APNs) updatesOf(a net.Addr) *updates {
	host := hostOf(a)
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.byIP[host]
	if u == nil {
		u = &updates{}
		s.byIP[host] = u
	}
	return u
}

// hostOf is the address without the port.
func hostOf(a net.Addr) string {
	host, _, err := net.SplitHostPort(a.String())
	if err != nil {
		return a.String()
	}
	return host
}

// write runs f, which writes frames, alone and in time.
func (c *conn) write(f func() error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.locked(f)
}

// locked is write for who holds mu.
func (c *conn) locked(f func() error) error {
	if c.framer == nil || c.frozen.Load() {
		return nil
	}
	_ = c.tls.SetWriteDeadline(time.Now().Add(ioTimeout))
	return f()
}

// frame handles one frame and reports whether the connection goes on.
func (c *conn) frame(ctx context.Context, wg *sync.WaitGroup, f http2.Frame) bool {
	switch f := f.(type) {
	case *http2.SettingsFrame:
		if !f.IsAck() {
			return c.write(c.framer.WriteSettingsAck) == nil
		}
	case *http2.PingFrame:
		return c.ping(f)
	case *http2.MetaHeadersFrame:
		if st := c.headers(f); st != nil && f.StreamEnded() {
			c.finish(ctx, wg, f.StreamID, st)
		}
	case *http2.DataFrame:
		if st := c.data(f); st != nil && (f.StreamEnded() || st.large) {
			c.finish(ctx, wg, f.StreamID, st)
		}
	case *http2.RSTStreamFrame:
		c.mu.Lock()
		delete(c.streams, f.StreamID)
		c.mu.Unlock()
	case *http2.PriorityFrame:
		c.sim.violate(c.id, "PRIORITY frame")
	case *http2.GoAwayFrame:
		return false
	}
	return true
}

func (c *conn) ping(f *http2.PingFrame) bool {
	if f.IsAck() {
		return true
	}
	idle := time.Since(c.lastPush)
	c.sim.mu.Lock()
	c.sim.pings++
	if idle < pingAfter {
		c.sim.early++
	}
	c.sim.mu.Unlock()
	if idle < pingAfter && !c.pinged {
		c.pinged = true
		c.sim.warn(c.id, "PING after %v without a push; Apple's word is an hour", idle.Round(time.Second))
	}
	return c.write(func() error { return c.framer.WritePing(true, f.Data) }) == nil
}

// headers opens a stream, or refuses it where there are too many.
func (c *conn) headers(f *http2.MetaHeadersFrame) *stream {
	st := &stream{request: request{conn: c, header: make(map[string]string, len(f.Fields))}}
	for _, h := range f.Fields {
		if _, ok := st.header[h.Name]; ok {
			st.twice = h.Name
		}
		st.header[h.Name] = h.Value
	}
	if f.Truncated {
		c.sim.violate(c.id, "headers of more than %d bytes", maxHeaders)
	}
	if f.HasPriority() {
		c.sim.violate(c.id, "HEADERS with a priority")
	}
	if st.header["content-encoding"] != "" {
		c.sim.violate(c.id, "content-encoding")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.leaving {
		return nil // above the last stream that GOAWAY named: not processed
	}
	if uint32(len(c.streams)) >= c.limit { // #nosec G115 -- bounded by limit itself
		c.sim.mu.Lock()
		c.sim.refused++
		c.sim.mu.Unlock()
		_ = c.locked(func() error { return c.framer.WriteRSTStream(f.StreamID, http2.ErrCodeRefusedStream) })
		return nil
	}
	c.last = max(c.last, f.StreamID)
	c.streams[f.StreamID] = st
	return st
}

// data adds to the body of a stream and keeps the window of the connection
// open. A stream's own window is larger than any body allowed.
func (c *conn) data(f *http2.DataFrame) *stream {
	c.received += int(f.Header().Length)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.received >= refill {
		n := uint32(c.received) // #nosec G115 -- below 2·refill plus a frame
		c.received = 0
		_ = c.locked(func() error { return c.framer.WriteWindowUpdate(0, n) })
	}
	st := c.streams[f.StreamID]
	if st == nil || st.ended {
		return nil
	}
	room := maxBody - len(st.body)
	if len(f.Data()) > room {
		st.large = true
	}
	st.body = append(st.body, f.Data()[:min(room, len(f.Data()))]...)
	return st
}

// finish answers a whole request, now or after the latency that is set.
func (c *conn) finish(ctx context.Context, wg *sync.WaitGroup, id uint32, st *stream) {
	if st.ended {
		return
	}
	st.ended = true
	delay := c.sim.faults.delay()
	if delay <= 0 {
		c.answer(id, st)
		return
	}
	wg.Go(func() {
		if pause(ctx, delay) {
			c.answer(id, st)
		}
	})
}

// pause waits, and reports whether ctx lives on.
func pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// bind ties the connection to who pushes first, and returns to whom it is tied.
func (c *conn) bind(who claims) (claims, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.bound == nil {
		c.bound = &who
	}
	return *c.bound, c.bound.keyID == who.keyID && c.bound.team == who.team
}

// reset ends all streams with an error.
func (c *conn) reset(code http2.ErrCode) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id := range c.streams {
		delete(c.streams, id)
		_ = c.locked(func() error { return c.framer.WriteRSTStream(id, code) })
	}
}

// newID makes the apns-id that APNs gives to a push without one.
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	s := hex.EncodeToString(b[:])
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}

// statusText is the value of :status.
func statusText(status int) string { return strconv.Itoa(status) }
