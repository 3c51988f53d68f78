package load

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"sallyport/test/e2e"
	"sallyport/test/phone"
)

// sleepers are the phones that take turns: none may be pushed more than ten
// times a minute (B28).
const sleepers = 60

// BenchmarkWake measures the two moments of a woken call that are ours: from
// the caller's INVITE to the push request at the provider, and from the 2xx of
// the woken phone's REGISTER to the INVITE on its flow. Both are taken at the
// sockets of caller, provider and phone, so they hold edge, tunnel and core.
func BenchmarkWake(b *testing.B) {
	ctx, cancel := context.WithTimeout(b.Context(), 5*time.Minute)
	defer cancel()
	users := []string{"caller"}
	for i := range sleepers {
		users = append(users, fmt.Sprintf("s%d", i))
	}
	town, err := e2e.New(e2e.Config{Dir: b.TempDir(), Users: users, Edge: unlimited})
	if err != nil {
		b.Fatal(err)
	}
	defer town.Close()
	if err := town.Start(ctx); err != nil {
		b.Fatal(err)
	}
	caller := online(b, ctx, town, "caller", phone.WSS)
	defer caller.Close()
	phones := make([]*phone.Phone, sleepers)
	for i := range phones {
		phones[i] = online(b, ctx, town, users[i+1], phone.TLS)
		phones[i].Sleep()
	}
	var toPush, toInvite, total []time.Duration
	n := 0
	b.ResetTimer()
	for b.Loop() {
		w := wakeOnce(b, ctx, town, caller, phones[n%sleepers], users[n%sleepers+1], n)
		n++
		toPush, toInvite, total = append(toPush, w.push), append(toInvite, w.invite), append(total, w.register)
	}
	report(b, toPush, "invite-to-push")
	report(b, toInvite, "2xx-to-invite")
	report(b, total, "register-to-invite")
}

type wakeTimes struct{ push, invite, register time.Duration }

func wakeOnce(b *testing.B, ctx context.Context, town *e2e.Town, caller, sleeper *phone.Phone, user string, before int) (w wakeTimes) {
	b.Helper()
	start := time.Now()
	call, err := caller.Call(ctx, "sip:"+user+"@"+e2e.Domain)
	if err != nil {
		b.Fatal(err)
	}
	for len(town.APNs.Accepted()) <= before {
		if ctx.Err() != nil {
			b.Fatal("no push")
		}
		time.Sleep(100 * time.Microsecond)
	}
	w.push = town.APNs.Accepted()[before].At.Sub(start)
	if err := sleeper.Connect(ctx); err != nil {
		b.Fatal(err)
	}
	registering := time.Now()
	if _, err := sleeper.Register(ctx, phone.Registration{Push: town.PushOf(user), RegID: 1}); err != nil {
		b.Fatal(err)
	}
	accepted := time.Now()
	in := <-sleeper.Calls()
	w.invite, w.register = time.Since(accepted), time.Since(registering)
	if err := in.Reject(486, "Busy Here"); err != nil {
		b.Fatal(err)
	}
	if _, err := call.Wait(ctx, 486); err != nil {
		b.Fatal(err)
	}
	sleeper.Sleep()
	return w
}

func online(b *testing.B, ctx context.Context, town *e2e.Town, user string, tr phone.Transport) *phone.Phone {
	b.Helper()
	p := town.Phone(user, e2e.Domain, tr)
	if err := p.Connect(ctx); err != nil {
		b.Fatal(err)
	}
	if _, err := p.Register(ctx, phone.Registration{Push: town.PushOf(user), RegID: 1}); err != nil {
		b.Fatal(err)
	}
	return p
}

// report adds the median and the 99th percentile of ds to the benchmark's line.
func report(b *testing.B, ds []time.Duration, name string) {
	slices.Sort(ds)
	at := func(q float64) float64 { return float64(ds[int(q*float64(len(ds)-1))].Microseconds()) / 1000 }
	b.ReportMetric(at(0.5), name+"-p50-ms")
	b.ReportMetric(at(0.99), name+"-p99-ms")
}
