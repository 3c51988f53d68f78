package load

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"sallyport/core"
	"sallyport/core/push/pushtest"
	"sallyport/test/e2e"
	"sallyport/test/phone"
)

const (
	// crowdSize is as many phones as there are descriptors for: each takes one
	// here and one at the edge, in its life before and in that after.
	crowdSize = 3000
	// crowdCallers share the calls; a client may have 256 under way.
	crowdCallers = 24
	// wakesWithin is over what time the radios of the pushed phones come up.
	wakesWithin = 4 * time.Second
)

// BenchmarkCrowdWake is R20 through edge, tunnel, core, PBX and Apple's
// simulator: everybody sleeps, everybody is called at once, and each phone is
// woken by its own push and nothing else. It fails if one push, one INVITE or
// one answer is missing or comes twice.
func BenchmarkCrowdWake(b *testing.B) {
	ctx, cancel := context.WithTimeout(b.Context(), 5*time.Minute)
	defer cancel()
	c := &pushedCrowd{pushes: make(chan pushtest.Push, 2*crowdSize)}
	h := startTown(b, ctx, e2e.Config{
		Users:  names(crowdSize + crowdCallers),
		OnPush: func(p pushtest.Push) { c.pushes <- p },
		// The phones' half of the work is done on the same processors.
		Core: func(c *core.Config) { c.Wake.Window.Duration, c.Log.Level = time.Minute, "warn" },
	})
	c.town = h.Town
	half := crowdSize / 2
	c.phones = append(crowd(b, ctx, h.Town, phone.TLS, half), crowdFrom(b, ctx, h.Town, phone.WSS, half, half)...)
	callers := crowdFrom(b, ctx, h.Town, phone.TLS, crowdSize, crowdCallers)
	c.byToken = make(map[string]*phone.Phone, crowdSize)
	for i, p := range c.phones {
		p.Sleep()
		c.byToken[e2e.Token(name(i), "voip")] = p
	}
	before := h.core.memory()
	b.ResetTimer()
	c.called(b, ctx, callers)
	b.StopTimer()
	c.check(b)
	report(b, c.toPush, "invite-to-push")
	report(b, c.toInvite, "register-to-invite")
	report(b, c.total, "invite-to-invite")
	b.ReportMetric(float64(h.core.cpu().Milliseconds())/1000, "core-cpu-s")
	b.ReportMetric((h.core.memory().goroutines-before.goroutines)/crowdSize, "core-goroutines-left/phone")
	b.ReportMetric(0, "ns/op") // once is enough, whatever b.N says
}

// pushedCrowd is the phones, and what became of their calls.
type pushedCrowd struct {
	// Static after the crowd has gone to sleep.
	town    *e2e.Town
	phones  []*phone.Phone
	byToken map[string]*phone.Phone
	pushes  chan pushtest.Push

	mu sync.Mutex
	// Guarded by mu.
	began                   map[string]time.Time // when each call began
	toPush, toInvite, total []time.Duration
}

// called has everybody called, and waits until all is over.
func (c *pushedCrowd) called(b *testing.B, ctx context.Context, callers []*phone.Phone) {
	c.began = make(map[string]time.Time, crowdSize)
	var all sync.WaitGroup
	all.Go(func() {
		for i := range crowdSize {
			select {
			case p := <-c.pushes:
				all.Go(func() { c.wakes(b, ctx, p, wakesWithin*time.Duration(i%97)/97) })
			case <-ctx.Done():
				b.Errorf("%d of %d pushes came", i, crowdSize)
				return
			}
		}
	})
	for n, caller := range callers {
		all.Go(func() {
			for i := n; i < crowdSize; i += len(callers) {
				start := time.Now()
				call, err := caller.Call(ctx, "sip:"+name(i)+"@"+e2e.PBXDomain)
				if err != nil {
					b.Errorf("call to %s: %v", name(i), err)
					continue
				}
				c.mu.Lock()
				c.began[call.CallID()] = start
				c.mu.Unlock()
				all.Go(func() {
					if _, err := call.Wait(ctx, 486); err != nil {
						b.Errorf("call to %s: %v", name(i), err)
					}
				})
			}
		})
	}
	all.Wait()
}

// wakes is a pushed phone: after a while it connects, registers, and is busy.
func (c *pushedCrowd) wakes(b *testing.B, ctx context.Context, push pushtest.Push, after time.Duration) {
	p := c.byToken[push.Token]
	if p == nil {
		b.Errorf("a push to nobody's token, on %s", push.Topic)
		return
	}
	time.Sleep(after) // the radio comes up: what is modelled, not waited for
	if err := p.Connect(ctx); err != nil {
		b.Error(err)
		return
	}
	start := time.Now()
	user := p.AOR()[len("sip:") : len(p.AOR())-len("@"+e2e.PBXDomain)]
	if _, err := p.Register(ctx, phone.Registration{Push: c.town.PushOf(user), RegID: 1}); err != nil {
		b.Error(err)
		return
	}
	select {
	case in := <-p.Calls():
		c.rang(b, in, push, start)
	case <-ctx.Done():
		b.Errorf("%s did not ring", user)
	}
}

func (c *pushedCrowd) rang(b *testing.B, in *phone.Incoming, push pushtest.Push, registering time.Time) {
	now := time.Now()
	if err := in.Reject(486, "Busy Here"); err != nil {
		b.Error(err)
	}
	var said struct {
		CallID string `json:"call_id"`
	}
	if err := json.Unmarshal(push.Payload, &said); err != nil || said.CallID != in.CallID() {
		b.Errorf("pushed for call %q, invited to %q", said.CallID, in.CallID())
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	began := c.began[in.CallID()]
	c.toPush = append(c.toPush, push.At.Sub(began))
	c.toInvite = append(c.toInvite, now.Sub(registering))
	c.total = append(c.total, now.Sub(began))
}

// check counts: one of each, and no ghost.
func (c *pushedCrowd) check(b *testing.B) {
	b.Helper()
	if n := len(c.town.APNs.Pushes()); n != crowdSize {
		b.Errorf("%d pushes left, want %d", n, crowdSize)
	}
	for _, p := range c.phones {
		if n := p.Count("INVITE"); n != 1 {
			b.Errorf("%s was invited %d times", p.AOR(), n)
		}
		for _, text := range p.Complaints() {
			b.Errorf("%s complains: %s", p.AOR(), text)
		}
	}
	for _, v := range c.town.APNs.Violations() {
		b.Errorf("Apple's rules: %s", v)
	}
	if b.Failed() {
		b.Fatal(fmt.Sprint("the crowd lost something: ", len(c.total), " of ", crowdSize, " rang"))
	}
}
