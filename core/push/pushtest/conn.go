package pushtest

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
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
	received int // bytes not yet given back to the client's window

	mu      sync.Mutex
	framer  *http2.Framer      // reading is serve's; writing is guarded by mu
	encoder *hpack.Encoder     // guarded by mu
	block   bytes.Buffer       // guarded by mu
	limit   uint32             // guarded by mu; streams allowed at a time
	streams map[uint32]*stream // guarded by mu
	last    uint32             // guarded by mu; highest stream taken
	leaving bool               // guarded by mu; GOAWAY was sent
	bound   *claims            // guarded by mu; of the first push
	bad     int                // guarded by mu; BadDeviceToken answers
}

// stream is a request on its way in.
type stream struct {
	request
	ended bool
}

func newConn(s *APNs, id int, c *tls.Conn) *conn {
	return &conn{
		sim: s, id: id, tls: c, updates: &updates{},
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
	defer func() { _ = c.tls.NetConn().Close() }()

	if !c.greet(ctx) {
		return
	}
	for {
		f, err := c.framer.ReadFrame()
		var stream http2.StreamError
		if errors.As(err, &stream) {
			c.sim.violate(c, "stream error %v", stream.Code)
			continue
		}
		if err != nil {
			return
		}
		if c.frozen.Load() {
			continue
		}
		if !c.frame(ctx, &wg, f) {
			return
		}
	}
}

// greet shakes hands on TLS and HTTP/2.
func (c *conn) greet(ctx context.Context) bool {
	timely, cancel := context.WithTimeout(ctx, ioTimeout)
	defer cancel()
	if c.tls.HandshakeContext(timely) != nil {
		return false
	}
	if c.tls.ConnectionState().NegotiatedProtocol != "h2" {
		c.sim.violate(c, "TLS without ALPN h2")
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
	c.framer = http2.NewFramer(c.tls, c.tls)
	c.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	c.framer.MaxHeaderListSize = maxHeaders
	c.encoder = hpack.NewEncoder(&c.block)
	return c.write(func() error {
		return c.framer.WriteSettings(
			http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: c.limit},
			http2.Setting{ID: http2.SettingMaxHeaderListSize, Val: maxHeaders},
		)
	}) == nil
}

// updatesOf finds the changes of provider token of one address.
func (s *APNs) updatesOf(a net.Addr) *updates {
	host, _, err := net.SplitHostPort(a.String())
	if err != nil {
		host = a.String()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.byIP[host]
	if u == nil {
		u = &updates{}
		s.byIP[host] = u
	}
	return u
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
		c.sim.violate(c, "PRIORITY frame")
	case *http2.GoAwayFrame:
		return false
	}
	return true
}

func (c *conn) ping(f *http2.PingFrame) bool {
	if f.IsAck() {
		return true
	}
	c.sim.mu.Lock()
	c.sim.pings++
	c.sim.mu.Unlock()
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
		c.sim.violate(c, "headers of more than %d bytes", maxHeaders)
	}
	if st.header["content-encoding"] != "" {
		c.sim.violate(c, "content-encoding")
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
		t := time.NewTimer(delay)
		defer t.Stop()
		select {
		case <-ctx.Done():
		case <-t.C:
			c.answer(id, st)
		}
	})
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

// goAway announces the end of the connection with the reason as Apple gives it.
func (c *conn) goAway(reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.goAwayLocked(reason)
}

func (c *conn) goAwayLocked(reason string) {
	if c.leaving {
		return
	}
	c.leaving = true
	text, err := json.Marshal(map[string]string{"reason": reason})
	if err != nil { // a map of strings always encodes
		return
	}
	_ = c.locked(func() error { return c.framer.WriteGoAway(c.last, http2.ErrCodeNo, text) })
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
