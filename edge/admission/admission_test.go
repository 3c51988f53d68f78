package admission_test

import (
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"sallyport/edge/admission"
)

var generous = admission.Limits{MaxFlows: 1000, FlowsPerIP: 1000, NewPerSecond: 1000, NewPerIPPerSecond: 1000}

func addr(n int) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, byte(n >> 8), byte(n)}) }

// enter tries n times and returns how many got in and why the last did not.
func enter(g *admission.Gate, n int, from func(int) netip.Addr) (passes []*admission.Pass, last admission.Reason) {
	for i := range n {
		p, r := g.Enter(from(i))
		if p != nil {
			passes = append(passes, p)
		} else {
			last = r
		}
	}
	return passes, last
}

func same(int) netip.Addr { return addr(1) }

func TestEdgeHoldsMaxFlows(t *testing.T) {
	l := generous
	l.MaxFlows = 3
	g := admission.New(l, nil)
	in, why := enter(g, 5, addr)
	if len(in) != 3 || why != admission.MaxFlows {
		t.Fatalf("%d got in, the last refused for %q", len(in), why)
	}
	in[0].Leave()
	in[0].Leave() // counts once
	if again, _ := enter(g, 2, addr); len(again) != 1 {
		t.Errorf("after one left, %d got in", len(again))
	}
}

func TestOneAddressHoldsFlowsPerIP(t *testing.T) {
	l := generous
	l.FlowsPerIP = 2
	g := admission.New(l, nil)
	if in, why := enter(g, 3, same); len(in) != 2 || why != admission.FlowsPerIP {
		t.Errorf("%d got in, the last refused for %q", len(in), why)
	}
	if in, _ := enter(g, 1, func(int) netip.Addr { return addr(2) }); len(in) != 1 {
		t.Error("another address was refused too")
	}
	if _, why := g.Enter(netip.MustParseAddr("::ffff:192.0.0.1")); why != admission.FlowsPerIP {
		t.Errorf("the same address written as IPv6 gave %q", why)
	}
}

func TestIPv6IsCountedBySlash64(t *testing.T) {
	l := generous
	l.FlowsPerIP = 2
	g := admission.New(l, nil)
	in, why := enter(g, 3, func(i int) netip.Addr { return netip.MustParseAddr(fmt.Sprintf("2001:db8::%d", i+1)) })
	if len(in) != 2 || why != admission.FlowsPerIP {
		t.Errorf("%d of one /64 got in, the last refused for %q", len(in), why)
	}
	if _, why := g.Enter(netip.MustParseAddr("2001:db8:0:1::1")); why != "" {
		t.Errorf("the next /64 was refused for %q", why)
	}
}

func TestNewcomersOfOneAddressHaveARateAndABurst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := generous
		l.NewPerIPPerSecond = 20
		g := admission.New(l, nil)
		if in, why := enter(g, 300, same); len(in) != 200 || why != admission.NewFlowsIP {
			t.Errorf("%d got in at once, want the burst of 200; the last refused for %q", len(in), why)
		}
		time.Sleep(time.Second)
		if in, _ := enter(g, 100, same); len(in) != 20 {
			t.Errorf("%d got in a second later, want 20", len(in))
		}
	})
}

func TestNewcomersOfAllAddressesHaveARate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := generous
		l.NewPerSecond = 50
		g := admission.New(l, nil)
		if in, why := enter(g, 100, addr); len(in) != 50 || why != admission.NewFlows {
			t.Errorf("%d got in at once, the last refused for %q", len(in), why)
		}
		time.Sleep(100 * time.Millisecond)
		if in, _ := enter(g, 100, addr); len(in) != 5 {
			t.Errorf("%d got in after a tenth of a second, want 5", len(in))
		}
	})
}

func TestOneFloodingAddressLeavesTheOthersTheirRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := generous
		l.NewPerSecond, l.NewPerIPPerSecond = 100, 1
		g := admission.New(l, nil)
		enter(g, 10_000, same) // 10 get in
		if in, why := enter(g, 90, func(i int) netip.Addr { return addr(i + 10) }); len(in) != 90 {
			t.Errorf("only %d of 90 others got in: %q", len(in), why)
		}
	})
}

func TestAddressesAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := generous
		l.NewPerSecond = 10_000
		g := admission.New(l, nil)
		in, _ := enter(g, 1000, addr)
		for _, p := range in {
			p.Leave()
		}
		time.Sleep(time.Minute)
		enter(g, 1000, same)
		if n := admission.Known(g); n > 10 {
			t.Errorf("still remembers %d addresses", n)
		}
		if n := g.Flows(); n != 1000 {
			t.Errorf("counts %d flows", n)
		}
	})
}

func TestRefusalsAreCountedByReason(t *testing.T) {
	reg := prometheus.NewRegistry()
	l := generous
	l.MaxFlows = 1
	g := admission.New(l, reg)
	enter(g, 3, same)
	g.Refuse(admission.Origin)
	if n := testutil.CollectAndCount(reg, "sallyport_edge_refused_total"); n != 2 {
		t.Errorf("%d reasons were counted, want 2", n)
	}
}

func BenchmarkEnterLeave(b *testing.B) {
	l := admission.Limits{MaxFlows: 1 << 30, FlowsPerIP: 1 << 30, NewPerSecond: 1 << 40, NewPerIPPerSecond: 1 << 40}
	g := admission.New(l, nil)
	enter(g, 50_000, addr)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if p, r := g.Enter(addr(i)); p != nil {
			p.Leave()
		} else {
			b.Fatal(r)
		}
	}
}
