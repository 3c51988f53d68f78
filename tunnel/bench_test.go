package tunnel_test

import (
	"math/rand/v2"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"sallyport/tunnel"
)

// BenchmarkIdleFlowMemory reports what an idle flow costs, both ends together,
// after it has carried one message each way: heap and stack in bytes, and
// goroutines.
func BenchmarkIdleFlowMemory(b *testing.B) {
	const flows = 20_000
	for range b.N {
		var back atomic.Int32
		all, tokens := make(chan struct{}), make(chan struct{}, 500)
		echo := handler(func(f *tunnel.Flow, p []byte) {
			f.Consumed(len(p))
			if f.Send(p) != nil {
				b.Error("echo refused")
			}
		})
		phone := handler(func(f *tunnel.Flow, p []byte) {
			f.Consumed(len(p))
			<-tokens
			if back.Add(1) == flows {
				close(all)
			}
		})
		a := securePair(b, func(*tunnel.Flow) tunnel.Handler { return echo })
		before, threads := memory(), runtime.NumGoroutine()
		kept := make([]*tunnel.Flow, flows)
		info := tunnel.Info{
			Service: "sip", Transport: "wss", Public: "edge.example.com:443", SNI: "edge.example.com",
			Host: "edge.example.com", Path: "/ws", Origin: "https://phone.example.com", Subprotocol: "sip",
			TLSVersion: 0x304, Since: time.Now(),
		}
		for i := range kept {
			tokens <- struct{}{}
			f, err := a.Open(info, phone)
			if err != nil {
				b.Fatal(err)
			}
			if err := f.SendWait(b.Context(), make([]byte, 600)); err != nil {
				b.Fatal(err)
			}
			kept[i] = f
		}
		<-all
		after := memory()
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/flows, "heap-B/flow")
		b.ReportMetric(float64(int64(after.StackInuse)-int64(before.StackInuse))/flows, "stack-B/flow")
		b.ReportMetric(float64(runtime.NumGoroutine()-threads)/flows, "goroutines/flow")
		b.ReportMetric(0, "ns/op")
		runtime.KeepAlive(kept)
	}
}

func memory() (m runtime.MemStats) {
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m
}

// BenchmarkMessages echoes 600 bytes on random ones of 10,000 flows over TLS on
// loopback, 1024 of them on their way, and reports the CPU seconds both ends
// use for 100,000.
func BenchmarkMessages(b *testing.B) {
	const flows, underway, size = 10_000, 1024, 600
	echo := handler(func(f *tunnel.Flow, p []byte) {
		f.Consumed(len(p))
		if f.Send(p) != nil {
			b.Error("echo refused")
		}
	})
	tokens := make(chan struct{}, underway)
	phone := handler(func(f *tunnel.Flow, p []byte) {
		f.Consumed(len(p))
		<-tokens
	})
	a := securePair(b, func(*tunnel.Flow) tunnel.Handler { return echo })
	all := make([]*tunnel.Flow, flows)
	for i := range all {
		f, err := a.Open(tunnel.Info{Service: "sip"}, phone)
		if err != nil {
			b.Fatal(err)
		}
		all[i] = f
	}
	p := make([]byte, size)
	random := rand.New(rand.NewPCG(1, 2))
	began := cpu()
	b.ResetTimer()
	for range b.N {
		tokens <- struct{}{}
		if err := all[random.IntN(flows)].SendWait(b.Context(), p); err != nil {
			b.Fatal(err)
		}
	}
	for range underway {
		tokens <- struct{}{}
	}
	b.StopTimer()
	b.ReportMetric((cpu()-began)/float64(b.N)*100_000, "cpu-s/100k")
}

// cpu returns the processor seconds this process has used.
func cpu() float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
}
