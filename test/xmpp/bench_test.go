package xmpp

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"sallyport/test/process"
)

// cpu is the processor time of a process so far.
func cpu(t testing.TB, pid int) time.Duration {
	t.Helper()
	text := string(got[[]byte](t)(os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))))
	fields := strings.Fields(text[strings.LastIndex(text, ")")+1:])
	ticks := 0
	for _, f := range fields[11:13] { // utime, stime
		ticks += got[int](t)(strconv.Atoi(f))
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// halves runs edge and core as processes of their own.
func (s *system) halves(t testing.TB) (edge, core *process.Process) {
	t.Helper()
	config := got[string](t)(s.WriteEdgeConfig())
	s.apart(t)
	s.Stop("edge")
	edge = process.Launch(t, process.Spec{Name: "sallyport-edge", Path: filepath.Join(filepath.Dir(s.binary), "sallyport-edge"), Args: []string{"-config", config}})
	edge.Until(t, func() error { return listens(s.xmpps) })
	edge.Until(t, func() error { return s.get("/readyz", nil) })
	return edge, s.core
}

// chat sends n chat messages of 393 bytes and waits for each two hundred.
func chat(t testing.TB, ctx context.Context, from, to *Client, heard *numbers, n int) {
	t.Helper()
	const window = 200
	before := len(heard.got)
	for i := range n {
		text := "<message xmlns='" + NSClient + "' to='" + to.JID() + "' type='chat' id='" + NewID() + "'><body>bench " + strconv.Itoa(i) + "</body><active xmlns='http://jabber.org/protocol/chatstates'/><request xmlns='urn:xmpp:receipts'/><origin-id xmlns='urn:xmpp:sid:0' id='x'/>"
		must(t, from.Send(text+"<thread>"+strings.Repeat("t", max(0, 393-len(text)-len("<thread></thread></message>")))+"</thread></message>"))
		if (i+1)%window == 0 || i == n-1 {
			must(t, to.wait(ctx, "messages", func() bool { return len(heard.got) >= before+i+1 }))
		}
	}
}

// BenchmarkChat is what 100,000 chat messages from a client inside to one
// outside cost edge and core, and what they cost Prosody with and without them.
func BenchmarkChat(b *testing.B) {
	const messages = 20_000
	s := StartProsody(b, ServerConfig{Users: users})
	sys := startSystem(b, s)
	edge, core := sys.halves(b)
	ctx := within(b, 10*time.Minute)
	var alice, bob, carol *Client
	heardByBob, heardByCarol := hearsFrom(s.JID("alice"), "bench"), hearsFrom(s.JID("alice"), "bench")
	alice = connected(b, ctx, sys.inside(b, "alice"))
	bob = connected(b, ctx, sys.outside(b, "bob", "tls", func(c *ClientConfig) { c.Heard = heardByBob.heard }))
	carol = connected(b, ctx, s.client(b, "carol", "tls://"+s.TLS, func(c *ClientConfig) { c.Heard = heardByCarol.heard }))
	chat(b, ctx, alice, bob, heardByBob, 1000)
	chat(b, ctx, alice, carol, heardByCarol, 1000)
	per := func(d time.Duration) float64 { return d.Seconds() / float64(b.N) / messages * 100_000 }
	var atEdge, atCore, through, direct time.Duration
	for range b.N {
		e, c, p := cpu(b, edge.PID()), cpu(b, core.PID()), cpu(b, s.PID())
		chat(b, ctx, alice, bob, heardByBob, messages)
		atEdge, atCore, through = atEdge+cpu(b, edge.PID())-e, atCore+cpu(b, core.PID())-c, through+cpu(b, s.PID())-p
		p = cpu(b, s.PID())
		chat(b, ctx, alice, carol, heardByCarol, messages)
		direct += cpu(b, s.PID()) - p
	}
	b.ReportMetric(per(atEdge), "edge-s/100k")
	b.ReportMetric(per(atCore), "core-s/100k")
	b.ReportMetric(per(through), "prosody-s/100k")
	b.ReportMetric(per(direct), "prosody-direct-s/100k")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkParked is the memory of sessions whose clients are gone: edge and
// core in this process, its garbage collected. The edge keeps
// nothing of them.
func BenchmarkParked(b *testing.B) {
	const sessions = 2000
	cfg := ServerConfig{Users: make(map[string]string)}
	for i := range sessions {
		cfg.Users["u"+strconv.Itoa(i)] = "secret"
	}
	s := StartProsody(b, cfg)
	sys := startSystem(b, s)
	ctx := within(b, 10*time.Minute)
	park := func(user string) {
		c := NewClient(ClientConfig{JID: s.JID(user), Password: "secret", Resource: "phone", URL: "tls://" + sys.xmpps, TLS: sys.trust, Mechanism: "PLAIN"})
		must(b, c.Connect(ctx))
		must(b, c.Presence(""))
		must(b, c.Ping(ctx))
		must(b, c.Acked(ctx))
		c.Reset()
	}
	park("u0")
	before, goroutines := used(), runtime.NumGoroutine()
	for i := 1; i < sessions; i++ {
		park("u" + strconv.Itoa(i))
	}
	must(b, process.Poll(30*time.Second, func() error {
		var all []apiClient
		if err := sys.get("/api/v1/clients", &all); err != nil {
			return err
		}
		parked := 0
		for _, c := range all {
			if c.State == "suspended" {
				parked++
			}
		}
		if parked < sessions {
			return fmt.Errorf("%d are parked, want %d", parked, sessions)
		}
		return nil
	}))
	for range b.N {
		b.ReportMetric(float64(used()-before)/(sessions-1), "B/session")
	}
	b.ReportMetric(float64(runtime.NumGoroutine()-goroutines)/(sessions-1), "goroutines/session")
	b.ReportMetric(0, "ns/op")
}

// used is the memory of this process that is in use, stacks included.
func used() uint64 {
	var m runtime.MemStats
	for range 3 {
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}
