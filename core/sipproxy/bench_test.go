package sipproxy

import (
	"context"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/tunnel"
)

// forgetful is a store that keeps nothing, so that a heap holds the core alone.
type forgetful struct{}

func (forgetful) Load(context.Context) (map[string][]byte, error) { return nil, nil }
func (forgetful) Put(string, []byte) error                        { return nil }
func (forgetful) Delete(string) error                             { return nil }

// realTown is a town in real time, whose PBX accepts every REGISTER and hands
// the rest to other.
func realTown(b *testing.B, other func(string)) *town {
	b.Helper()
	w := buildTown(b, usersFile(b), func(c *Config) { c.PushEnabled = false })
	w.store = forgetful{}
	w.pbx = newScript(b, "the PBX", nil)
	w.pbx.answer = func(m string) {
		if strings.HasPrefix(m, "REGISTER ") {
			_ = w.pbx.send(message(reply(m, 200, "Contact: "+first(m, "Contact"))...))
			return
		}
		other(m)
	}
	w.startEdge()
	w.startCore()
	b.Cleanup(func() {
		w.stopCore()
		w.edgeRun.stop()
	})
	for !w.edge.Ready() || w.proxy.livePBX("example.com") == nil {
		time.Sleep(time.Millisecond) // sockets of the harness, not of a test's logic
	}
	return w
}

// ear is a client that hands over what it hears.
type ear chan string

func (e ear) Message(f *tunnel.Flow, p []byte)              { f.Consumed(len(p)); e <- string(p) }
func (e ear) Event(*tunnel.Flow, tunnel.Event)              {}
func (e ear) Closed(*tunnel.Flow, tunnel.CloseCode, string) {}

func (w *town) listener(b *testing.B, n int, e ear) *tunnel.Flow {
	b.Helper()
	var id [16]byte
	copy(id[:], fmt.Sprintf("client-%d", n))
	f, err := w.edge.Open(tunnel.Info{UUID: id, Service: "sip", Transport: "tls", Public: public,
		Remote: netip.MustParseAddrPort("192.0.2.7:50000"), Since: time.Now()}, e)
	if err != nil {
		b.Fatal(err)
	}
	return f
}

// numbered is alice's phone as one of many users' with the tokens of an iPhone.
func (w *town) numbered(n int) *phone {
	ph := w.phone("alice", "tls")
	ph.user, ph.callID = fmt.Sprintf("user%d", n), fmt.Sprintf("reg-%d@192.0.2.7", n)
	ph.urn = fmt.Sprintf("urn:uuid:00000000-0000-4000-8000-%012x", n)
	token := fmt.Sprintf("%064x", n)
	ph.push = ";pn-provider=apns;pn-param=ABCDE12345.org.example.phone.voip&remote;pn-prid=" + token + ":voip&" + token[1:] + "0:remote"
	return ph
}

// BenchmarkRegisteredFlow measures the heap that a phone costs which is
// registered and idle: its flow, binding, device and tokens, and both ends of
// its stream in the tunnel. The goal is 8 KiB.
func BenchmarkRegisteredFlow(b *testing.B) {
	const flows = 5000
	for b.Loop() {
		w := realTown(b, func(string) {})
		before := heap()
		e := make(ear, 1)
		kept := make([]*tunnel.Flow, flows)
		for i := range flows {
			kept[i] = w.listener(b, i, e)
			_ = kept[i].Send([]byte(message(w.numbered(i).register()...)))
			if m := <-e; !strings.HasPrefix(m, "SIP/2.0 200") {
				b.Fatal(m)
			}
		}
		b.ReportMetric(float64(heap()-before)/flows, "B/flow")
		if n, live := w.loc.Count(); n != flows || live != flows {
			b.Fatalf("%d devices, %d live", n, live)
		}
		runtime.KeepAlive(kept)
		w.stopCore()
	}
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkRefresh measures a REGISTER that the core answers itself, there and
// back through the tunnel.
func BenchmarkRefresh(b *testing.B) {
	w := realTown(b, func(string) {})
	e := make(ear, 1)
	f, ph := w.listener(b, 0, e), w.numbered(0)
	refresh := func() {
		_ = f.Send([]byte(message(ph.register()...)))
		if m := <-e; !strings.HasPrefix(m, "SIP/2.0 200") {
			b.Fatal(m)
		}
	}
	refresh() // by the PBX
	b.ReportAllocs()
	for b.Loop() {
		refresh()
	}
}

// BenchmarkInviteToFlow measures a whole refused call, and in it the time from
// the PBX's INVITE to the client that hears it.
func BenchmarkInviteToFlow(b *testing.B) {
	answers := make(chan string, 8)
	w := realTown(b, func(m string) { answers <- m })
	e := make(ear, 8)
	f, ph := w.listener(b, 0, e), w.numbered(0)
	_ = f.Send([]byte(message(ph.register()...)))
	<-e
	var took []time.Duration
	b.ReportAllocs()
	for b.Loop() {
		inv := w.asks("INVITE", "sip:"+ph.user+"@example.com", "call", "Contact: <sip:carol@10.0.0.33>")
		start := time.Now()
		_ = w.pbx.send(message(inv...))
		req := <-e
		took = append(took, time.Since(start))
		_ = f.Send([]byte(message(reply(req, 486)...)))
		<-e // ACK
		for m := range answers {
			if strings.HasPrefix(m, "SIP/2.0 486") {
				break
			}
		}
		_ = w.pbx.send(message(inviteOf(inv, "ACK")...))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "µs-median")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "µs-p99")
}
