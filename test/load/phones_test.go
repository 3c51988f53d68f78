package load

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"sallyport/test/e2e"
	"sallyport/test/phone"
)

// BenchmarkRegister measures the CPU that edge and core use for REGISTER
// requests that refresh a binding on the flow of the one before. The core
// answers them itself, as it does for half of what the PBX granted.
func BenchmarkRegister(b *testing.B) {
	const phones = 50
	for _, tr := range []phone.Transport{phone.TLS, phone.WSS} {
		b.Run(string(tr), func(b *testing.B) {
			ctx, cancel := context.WithTimeout(b.Context(), 5*time.Minute)
			defer cancel()
			h := start(b, ctx, names(phones))
			all := crowd(b, ctx, h.Town, tr, phones)
			edge, core := h.edge.cpu(), h.core.cpu()
			b.ResetTimer()
			var refreshing sync.WaitGroup
			for i, p := range all {
				again := phone.Registration{Push: h.PushOf(name(i)), RegID: 1}
				refreshing.Go(func() {
					for n := i; n < b.N; n += phones {
						if _, err := p.Register(ctx, again); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			refreshing.Wait()
			b.StopTimer()
			per10k := func(d time.Duration) float64 { return d.Seconds() / float64(b.N) * 10_000 }
			b.ReportMetric(per10k(h.edge.cpu()-edge), "edge-cpu-s/10k")
			b.ReportMetric(per10k(h.core.cpu()-core), "core-cpu-s/10k")
		})
	}
}

// BenchmarkIdlePhone measures what a registered phone that says nothing costs
// the edge and the core. Their collectors run at each tenth of growth, so that
// what is garbage is a tenth at most.
func BenchmarkIdlePhone(b *testing.B) {
	const phones = 2000
	for _, tr := range []phone.Transport{phone.TLS, phone.WSS} {
		b.Run(string(tr), func(b *testing.B) {
			ctx, cancel := context.WithTimeout(b.Context(), 5*time.Minute)
			defer cancel()
			h := start(b, ctx, names(phones), "GOGC=10")
			edge, core := h.edge.memory(), h.core.memory()
			crowd(b, ctx, h.Town, tr, phones)
			per := func(half string, before, after memory) {
				b.ReportMetric((after.heap-before.heap)/phones, half+"-heap-B/phone")
				b.ReportMetric((after.stack-before.stack)/phones, half+"-stack-B/phone")
				b.ReportMetric((after.goroutines-before.goroutines)/phones, half+"-goroutines/phone")
			}
			per("edge", edge, h.edge.memory())
			per("core", core, h.core.memory())
			b.ReportMetric(0, "ns/op") // once is enough, whatever b.N says
		})
	}
}

func name(i int) string { return fmt.Sprintf("p%d", i) }

func names(n int) (all []string) {
	for i := range n {
		all = append(all, name(i))
	}
	return all
}

// crowd registers n phones at the PBX, some at a time.
func crowd(b *testing.B, ctx context.Context, town *e2e.Town, tr phone.Transport, n int) []*phone.Phone {
	b.Helper()
	return crowdFrom(b, ctx, town, tr, 0, n)
}

// crowdFrom is crowd for the n users from the first on.
func crowdFrom(b *testing.B, ctx context.Context, town *e2e.Town, tr phone.Transport, first, n int) []*phone.Phone {
	b.Helper()
	all := make([]*phone.Phone, n)
	room := make(chan struct{}, 16)
	var coming sync.WaitGroup
	for i := range all {
		user := name(first + i)
		p := town.Phone(user, e2e.PBXDomain, tr)
		b.Cleanup(p.Close)
		all[i] = p
		room <- struct{}{}
		coming.Go(func() {
			defer func() { <-room }()
			if err := p.Connect(ctx); err != nil {
				b.Error(err)
				return
			}
			if _, err := p.Register(ctx, phone.Registration{Push: town.PushOf(user), RegID: 1}); err != nil {
				b.Error(err)
			}
		})
	}
	coming.Wait()
	return all
}
