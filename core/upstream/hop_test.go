package upstream

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestOneDialIsSharedAndItsConnectionReused(t *testing.T) {
	inWorld(t, Config{Upstreams: pbxOnly}, func(t *testing.T, w *world) {
		var wg sync.WaitGroup
		conns := make(chan *Conn, 20)
		for range 20 {
			wg.Go(func() {
				c, err := w.up.Conn(within(t, time.Second), "EXAMPLE.com", "")
				if err != nil {
					t.Error(err)
				}
				conns <- c
			})
		}
		wg.Wait()
		first := <-conns
		for range 19 {
			if c := <-conns; c != first {
				t.Error("another connection")
			}
		}
		if got := w.dials(); !slices.Equal(got, []string{"10.0.0.9:5060"}) {
			t.Errorf("dialled %v", got)
		}
		if !first.Trusted() || !first.Dialled() || first.Remote().String() != "10.0.0.9:5060" {
			t.Errorf("%+v", first)
		}
		p := w.far()
		go func() { _ = first.Send([]byte("hello")) }()
		p.want("hello")
		p.send(message(1, "")) // requests may come back over it
		synctest.Wait()
		if len(w.seen.messages()) != 1 {
			t.Error("not heard")
		}
	})
}

func TestADialledConnectionIsKeptAlive(t *testing.T) {
	inWorld(t, Config{Upstreams: pbxOnly}, func(t *testing.T, w *world) {
		p := w.far()
		start := time.Now()
		p.want("\r\n\r\n")
		if got := time.Since(start); got != 55*time.Second {
			t.Errorf("after %v", got)
		}
		p.send("\r\n") // the pong is nobody's message
		synctest.Wait()
		if len(w.seen.messages()) != 0 {
			t.Error("the pong was handed over")
		}
	})
}

func TestALostUpstreamIsDialledAgainWithBackOff(t *testing.T) {
	inWorld(t, Config{Upstreams: pbxOnly}, func(t *testing.T, w *world) {
		p := w.far()
		w.setRefuse("*", errors.New("connection refused"))
		p.Close()
		time.Sleep(10 * time.Minute)
		if got := len(w.dials()); got < 20 || got > 60 {
			t.Errorf("%d dials in 10 minutes", got)
		}
		s := w.up.Status()[0]
		if s.Up || s.Domain != "example.com" || !strings.Contains(s.LastError, "connection refused") || time.Since(s.Since) < 9*time.Minute {
			t.Errorf("status %+v", s)
		}
		w.setRefuse("*", nil)
		time.Sleep(31 * time.Second)
		synctest.Wait()
		s = w.up.Status()[0]
		if !s.Up || s.LastError != "" || s.Remote.String() != "10.0.0.9:5060" || s.Transport != "TCP" || time.Since(s.Since) > 31*time.Second {
			t.Errorf("status %+v", s)
		}
	})
}

func TestACallerDoesNotWaitForTheBackOff(t *testing.T) {
	inWorld(t, Config{Upstreams: pbxOnly}, func(t *testing.T, w *world) {
		p := w.far()
		w.setRefuse("*", errors.New("connection refused"))
		p.Close()
		time.Sleep(5 * time.Minute) // the keeper's pause is long by now
		w.setRefuse("*", nil)
		time.Sleep(1100 * time.Millisecond)
		if _, err := w.up.Conn(t.Context(), "example.com", ""); err != nil {
			t.Errorf("the server is back: %v", err)
		}
	})
}

func TestAnUnreachableUpstreamFailsAtOnceWithItsReason(t *testing.T) {
	inWorld(t, Config{Upstreams: pbxOnly}, func(t *testing.T, w *world) {
		p := w.far()
		w.setRefuse("*", errors.New("connection refused"))
		p.Close()
		synctest.Wait()
		start := time.Now()
		for range 100 {
			_, err := w.up.Conn(t.Context(), "example.com", "")
			if !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), "connection refused") {
				t.Fatal(err)
			}
		}
		if time.Since(start) != 0 || len(w.dials()) > 3 {
			t.Errorf("%v, %d dials", time.Since(start), len(w.dials()))
		}
		if _, err := w.up.Conn(t.Context(), "other.example", ""); !errors.Is(err, ErrNoDomain) || !strings.Contains(err.Error(), "other.example") {
			t.Error(err)
		}
	})
}

func TestACallerThatLeavesDoesNotStopTheDial(t *testing.T) {
	inWorld(t, Config{Upstreams: map[string][]string{"example.com": {"sip:slow:5060"}}}, func(t *testing.T, w *world) {
		gate := make(chan struct{})
		w.mu.Lock()
		w.gate, w.names["slow"] = gate, "10.0.0.8"
		w.mu.Unlock()
		time.Sleep(2 * time.Second)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := w.up.Conn(ctx, "example.com", ""); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		close(gate)
		if _, err := w.up.Conn(t.Context(), "example.com", ""); err != nil {
			t.Error(err)
		}
		if len(w.dials()) != 1 {
			t.Errorf("%v", w.dials())
		}
	})
}

func TestTrustedIsWhatTheUpstreamsResolveTo(t *testing.T) {
	inWorld(t, Config{Upstreams: map[string][]string{"a": {"sip:pbx.example.com"}, "b": {"sip:localhost:5070"}, "c": {"sip:10.1.1.1:9"}, "d": {"sip:nowhere:1"}}}, func(t *testing.T, w *world) {
		w.setName("localhost", "127.0.0.1,::1")
		time.Sleep(time.Minute)
		synctest.Wait()
		for a, want := range map[string]bool{"10.0.0.9": true, "::ffff:10.0.0.9": true, "127.0.0.1": true, "::1": true, "10.1.1.1": true,
			"10.0.0.10": false, "192.0.2.1": false} {
			if got := w.up.Trusted(netip.MustParseAddr(a)); got != want {
				t.Errorf("%s: %v", a, got)
			}
		}
		w.setName("pbx.example.com", "10.0.0.10")
		time.Sleep(time.Minute)
		synctest.Wait()
		if w.up.Trusted(netip.MustParseAddr("10.0.0.9")) || !w.up.Trusted(netip.MustParseAddr("10.0.0.10")) {
			t.Error("a server that moved is not noticed")
		}
		w.setName("pbx.example.com", "")
		time.Sleep(time.Minute)
		synctest.Wait()
		if !w.up.Trusted(netip.MustParseAddr("10.0.0.10")) {
			t.Error("a DNS failure takes trust away")
		}
	})
	inWorld(t, Config{Upstreams: pbxOnly, Trusted: []netip.Prefix{netip.MustParsePrefix("10.9.0.0/16")}}, func(t *testing.T, w *world) {
		if !w.up.Trusted(netip.MustParseAddr("10.9.1.1")) || w.up.Trusted(netip.MustParseAddr("10.0.0.9")) {
			t.Error("configured networks replace the default")
		}
	})
}

// Decision 10: a client never chooses where the core connects.
func TestOnlyTrustedNextHopsAreDialled(t *testing.T) {
	inWorld(t, Config{Upstreams: pbxOnly, Trusted: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24")}}, func(t *testing.T, w *world) {
		w.far()
		w.setName("evil.example", "192.0.2.1")
		for _, hop := range []string{"192.0.2.1:5060", "evil.example:5060", "[2001:db8::1]:5060", "127.0.0.1:5060", "udp:192.0.2.1:5060"} {
			if c, err := w.up.Dial(t.Context(), hop); !errors.Is(err, ErrUntrusted) {
				t.Errorf("%s: %v, %v", hop, c, err)
			}
		}
		for _, hop := range []string{"", ":5060", "10.0.0.7:0", "10.0.0.7:x"} {
			if _, err := w.up.Dial(t.Context(), hop); err == nil {
				t.Errorf("%q was dialled", hop)
			}
		}
		if got := w.dials(); len(got) != 1 {
			t.Errorf("dialled %v", got)
		}
		c, err := w.up.Dial(t.Context(), "10.0.0.7:5070")
		again, _ := w.up.Dial(t.Context(), "10.0.0.7:5070")
		if err != nil || c != again || c.Remote().String() != "10.0.0.7:5070" {
			t.Errorf("%v, %v, %v", c, again, err)
		}
		w.far().Close()
		<-c.Done()
		if next, err := w.up.Dial(t.Context(), "tcp:10.0.0.7:5070"); err != nil || next == c {
			t.Errorf("after the end: %v, %v", next, err)
		}
	})
}

func TestNextHopsAreBounded(t *testing.T) {
	inWorld(t, Config{Trusted: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}, func(t *testing.T, w *world) {
		w.setRefuse("*", errors.New("no"))
		for i := range 2 * maxHops {
			addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), 5060)
			if _, err := w.up.Dial(t.Context(), addr.String()); !errors.Is(err, ErrUnreachable) {
				t.Fatal(err)
			}
		}
		if len(w.up.hops) > maxHops {
			t.Errorf("%d remembered", len(w.up.hops))
		}
	})
}
