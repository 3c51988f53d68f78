package upstream

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// An OPTIONS asks a server whether it is well. Any answer says yes, for who
// answers lives; only 503 with Retry-After says "not now". A server that has
// never answered one is not judged by its silence.

// probeTime is how long an OPTIONS may take.
const probeTime = 4 * time.Second

var (
	errRefused = errors.New("nobody listens there")
	errSilent  = errors.New("no answer to OPTIONS")
)

// probe is an OPTIONS that waits for its answer on a connection.
type probe struct {
	branch []byte
	answer chan []byte // capacity 1
}

// ask sends an OPTIONS over c, or over UDP from a socket of its own, and
// returns nil when the server lives.
func (s *server) ask(ctx context.Context, c *Conn) error {
	ctx, cancel := context.WithTimeoutCause(ctx, probeTime, errSilent)
	defer cancel()
	asked := time.Now()
	var res []byte
	var err error
	if s.target.Transport == udp {
		res, err = s.askUDP(ctx, c)
	} else {
		res, err = s.askStream(ctx, c)
	}
	if err != nil {
		if errors.Is(err, errSilent) && c.heardSince(asked) {
			return nil
		}
		return err
	}
	c.heard.Store(time.Now().UnixNano()) // over UDP the answer came to another socket
	s.d.mu.Lock()
	s.answers = true
	s.d.mu.Unlock()
	if d, ok := retryAfter(res); ok {
		s.leaveAlone(min(d, maxAway))
	}
	return nil
}

func (s *server) askStream(ctx context.Context, c *Conn) ([]byte, error) {
	p := &probe{branch: []byte("z9hG4bKprobe" + randomText()), answer: make(chan []byte, 1)}
	if !c.probing.CompareAndSwap(nil, p) {
		return nil, ErrClosed
	}
	defer c.probing.Store(nil)
	if err := c.Send(s.options(p.branch, c.transport, c.local)); err != nil {
		return nil, err
	}
	select {
	case res := <-p.answer:
		return res, nil
	case <-c.Done():
		return nil, ErrClosed
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// askUDP asks from a socket that is connected, for only such a one hears that
// nobody listens (ICMP port unreachable).
func (s *server) askUDP(ctx context.Context, c *Conn) ([]byte, error) {
	nc, err := s.d.up.cfg.DialUDP(ctx, c.local.Addr(), s.at.String())
	if err != nil {
		return nil, err
	}
	defer nc.Close()
	stop := context.AfterFunc(ctx, func() { _ = nc.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	branch := []byte("z9hG4bKprobe" + randomText())
	text := s.options(branch, udp, addrPort(nc.LocalAddr()))
	repeat := time.AfterFunc(500*time.Millisecond, func() { _, _ = nc.Write(text) }) // T1, once
	defer repeat.Stop()
	if _, err := nc.Write(text); err != nil {
		return nil, reason(err)
	}
	buf := make([]byte, 4<<10)
	for {
		n, err := nc.Read(buf)
		switch {
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case err != nil:
			return nil, reason(err)
		case bytes.Contains(buf[:n], branch):
			return bytes.Clone(buf[:n]), nil
		}
	}
}

func reason(err error) error {
	if errors.Is(err, syscall.ECONNREFUSED) {
		return errRefused
	}
	return err
}

// options is the OPTIONS as it goes out.
func (s *server) options(branch []byte, transport string, local netip.AddrPort) []byte {
	uri := "sip:" + hostOf(s.target.Host)
	if s.target.Port != 0 {
		uri += ":" + strconv.Itoa(int(s.target.Port))
	}
	here := hostOf(local.Addr().String())
	return fmt.Appendf(nil, "OPTIONS %s SIP/2.0\r\n"+
		"Via: SIP/2.0/%s %s;branch=%s;rport\r\n"+
		"Max-Forwards: 0\r\n"+
		"From: <sip:%s>;tag=%s\r\n"+
		"To: <%s>\r\n"+
		"Call-ID: %s\r\n"+
		"CSeq: 1 OPTIONS\r\n"+
		"Accept: application/sdp\r\n"+
		"Content-Length: 0\r\n\r\n",
		uri, transport, net.JoinHostPort(local.Addr().String(), strconv.Itoa(int(local.Port()))), branch,
		here, randomText()[:8], uri, branch[len("z9hG4bK"):])
}

// hostOf writes a host as URIs have it.
func hostOf(host string) string {
	if strings.Contains(host, ":") {
		return "[" + host + "]"
	}
	return host
}

func randomText() string { return strings.ToLower(rand.Text()[:16]) }

// hear takes a message that answers a probe, and says whether it did.
func (c *Conn) hear(msg []byte) bool {
	c.heard.Store(time.Now().UnixNano())
	p := c.probing.Load()
	if p == nil || !bytes.HasPrefix(msg, []byte("SIP/2.0 ")) || !bytes.Contains(msg, p.branch) {
		return false
	}
	select {
	case p.answer <- bytes.Clone(msg):
	default:
	}
	return true
}

// heardSince says whether anything came from the far end after at.
func (c *Conn) heardSince(at time.Time) bool { return c.heard.Load() >= at.UnixNano() }

// retryAfter reads how long a server that answered 503 asks to be left alone.
func retryAfter(res []byte) (time.Duration, bool) {
	if !bytes.HasPrefix(res, []byte("SIP/2.0 503")) {
		return 0, false
	}
	head, _, _ := bytes.Cut(res, []byte("\r\n\r\n"))
	for line := range bytes.SplitSeq(head, []byte("\r\n")) {
		if name, value, ok := bytes.Cut(line, []byte(":")); ok && strings.EqualFold(string(bytes.TrimSpace(name)), "Retry-After") {
			return ParseRetryAfter(string(value))
		}
	}
	return 0, false
}

// ParseRetryAfter reads the seconds of a Retry-After value (RFC 3261 §20.33).
// It reports false for anything else, and for 0.
func ParseRetryAfter(value string) (time.Duration, bool) {
	value = strings.TrimSpace(value)
	end := strings.IndexFunc(value, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		end = len(value)
	}
	n, err := strconv.ParseUint(value[:end], 10, 31)
	if err != nil || n == 0 {
		return 0, false
	}
	return time.Duration(n) * time.Second, true
}
