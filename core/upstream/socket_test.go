package upstream

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// onLoopback runs an Upstream on real sockets.
func onLoopback(t *testing.T, cfg Config, seen *recorder) *Upstream {
	t.Helper()
	u := New(cfg, seen, nil, nil)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- u.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	select {
	case <-u.Ready():
	case err := <-done:
		done <- nil
		t.Fatal(err)
	}
	return u
}

func udpFrom(t *testing.T, address string) *net.UDPConn {
	t.Helper()
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(address)))
	if err != nil {
		t.Skipf("no socket on %s: %v", address, err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	return c
}

func TestOverUDPADatagramIsAMessageAndTheAnswerLeavesTheSameSocket(t *testing.T) {
	seen := &recorder{answer: func(c *Conn, p []byte) { _ = c.Send([]byte("answer to " + string(p[:7]))) }}
	u := onLoopback(t, Config{
		Listen:  []string{"udp:127.0.0.1:0"},
		Trusted: []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32")},
	}, seen)
	server := u.Addrs()[0]
	stranger, friend := udpFrom(t, "127.0.0.1:0"), udpFrom(t, "127.0.0.2:0")
	buf := make([]byte, 2048)
	send := func(c *net.UDPConn, s string) {
		t.Helper()
		if _, err := c.WriteTo([]byte(s), server); err != nil {
			t.Fatal(err)
		}
	}
	want := func(s string) {
		t.Helper()
		n, from, err := friend.ReadFrom(buf)
		if err != nil || string(buf[:n]) != s || from.String() != server.String() {
			t.Fatalf("%q from %v, %v; want %q", buf[:n], from, err, s)
		}
	}
	send(stranger, message(1, ""))
	send(stranger, "\r\n\r\n")
	send(friend, "\x00\x00\x00\x00")
	send(friend, "\r\n\r\n")
	want("\r\n")
	for range 2 {
		send(friend, "OPTIONS sip:a@h SIP/2.0\r\n\r\n")
		want("answer to OPTIONS")
	}
	_ = stranger.SetReadDeadline(time.Now().Add(time.Millisecond))
	if n, _, err := stranger.ReadFrom(buf); err == nil {
		t.Errorf("a stranger was answered %q", buf[:n])
	}
	seen.mu.Lock()
	defer seen.mu.Unlock()
	if len(seen.msgs) != 2 || seen.conns[0] != seen.conns[1] || seen.conns[0].Transport() != "UDP" || !seen.conns[0].Trusted() {
		t.Errorf("%q over %v", seen.msgs, seen.conns)
	}
	if err := seen.conns[0].Send(make([]byte, maxDatagram+1)); !errors.Is(err, ErrTooBig) {
		t.Error(err)
	}
}

func TestAUDPUpstreamIsReachedFromTheListener(t *testing.T) {
	pbx := udpFrom(t, "127.0.0.1:0")
	u := onLoopback(t, Config{
		Listen:    []string{"udp:127.0.0.1:0", "tcp:127.0.0.1:0"},
		Upstreams: map[string][]string{"example.com": {"sip:" + pbx.LocalAddr().String() + ";transport=udp"}},
	}, &recorder{})
	c, err := u.Conn(t.Context(), "example.com", "")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Send([]byte(message(1, "hi"))); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 2048)
	n, from, err := pbx.ReadFrom(buf)
	if err != nil || !strings.HasSuffix(string(buf[:n]), "hi") || from.String() != u.Addrs()[0].String() {
		t.Errorf("%q from %v, %v", buf[:n], from, err)
	}
	if hop, err := u.Dial(t.Context(), "udp:"+pbx.LocalAddr().String()); err != nil || hop != c {
		t.Errorf("the same address is another connection: %v, %v", hop, err)
	}
	if s := u.Status()[0]; !s.Up || s.Transport != "UDP" {
		t.Errorf("%+v", s)
	}
}

func TestTheRealNetworkIsTheDefault(t *testing.T) {
	pbx, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer pbx.Close()
	seen := &recorder{answer: func(c *Conn, p []byte) { _ = c.Send(p) }}
	_, port, _ := net.SplitHostPort(pbx.Addr().String())
	u := onLoopback(t, Config{
		Listen:    []string{"tcp:127.0.0.1:0"},
		Upstreams: map[string][]string{"example.com": {"sip:localhost:" + port + ";transport=tcp"}},
	}, seen)
	far, err := pbx.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	(&peer{t, far}).send(message(1, "x"))
	(&peer{t, far}).want(message(1, "x"))
	own, err := net.Dial("tcp", u.Addrs()[0].String()) // from 127.0.0.1, which localhost resolves to
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	(&peer{t, own}).send(message(2, "y"))
	(&peer{t, own}).want(message(2, "y"))
}

func TestManyPeersDoNotPushOutTheUpstream(t *testing.T) {
	pbx := udpFrom(t, "127.0.0.1:0")
	u := onLoopback(t, Config{
		Listen:    []string{"udp:127.0.0.1:0"},
		Upstreams: map[string][]string{"example.com": {"sip:" + pbx.LocalAddr().String() + ";transport=udp"}},
	}, &recorder{})
	c, err := u.Conn(t.Context(), "example.com", "")
	if err != nil {
		t.Fatal(err)
	}
	for port := range uint16(3 * maxPeers) {
		if _, err := u.sockets[0].peer(netip.AddrPortFrom(netip.MustParseAddr("127.0.0.9"), 1+port)); err != nil {
			t.Fatal(err)
		}
	}
	if again, err := u.Conn(t.Context(), "example.com", ""); err != nil || again != c {
		t.Errorf("the upstream is another connection: %v, %v", again, err)
	}
	select {
	case <-c.Done():
		t.Error("the upstream's connection was ended")
	default:
	}
}
