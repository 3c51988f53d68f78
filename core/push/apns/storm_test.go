package apns_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"sallyport/core/push"
	"sallyport/core/push/pushtest"
)

// Whatever happens to its connections, a sender under load opens no more than
// the 60 a minute that the simulator takes for an attack (rule 27), tells each
// call in time, and is back soon after Apple is.
func TestConnectionsAreNotOpenedInQuickSuccession(t *testing.T) {
	always := func(f func(a *apple)) func(*apple) func() {
		return func(a *apple) func() {
			ctx, cancel := context.WithCancel(context.Background())
			var wg sync.WaitGroup
			wg.Go(func() {
				for ctx.Err() == nil {
					f(a)
					time.Sleep(10 * time.Millisecond)
				}
			})
			return func() { cancel(); wg.Wait() }
		}
	}
	fault := func(f pushtest.Fault) func(*apple) func() {
		f.Count = -1
		return func(a *apple) func() { a.Inject(f); return a.ClearFaults }
	}
	for name, fail := range map[string]func(*apple) func(){
		"closes connections": always(func(a *apple) { a.Disconnect() }),
		"goes away":          always(func(a *apple) { a.GoAway("Shutdown") }),
		"falls silent":       always(func(a *apple) { a.BlackHole() }),
		"resets streams":     fault(pushtest.Fault{Reset: true}),
		"never answers":      fault(pushtest.Fault{Drop: true}),
		"shuts down":         fault(pushtest.Fault{Status: 503, Reason: "Shutdown"}),
		"finds us idle":      fault(pushtest.Fault{Status: 400, Reason: "IdleTimeout"}),
		"is out of order":    fault(pushtest.Fault{Status: 500, Reason: "InternalServerError"}),
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, pushtest.APNsConfig{}, func(t *testing.T, a *apple, l *pushtest.Listener) {
				cfg := a.config()
				cfg.Dial = l.Dial
				c := a.client(cfg)
				a.SetLatency(30 * time.Millisecond)
				voip, alert := a.phone(push.KindVoIP), a.phone(push.KindAlert)
				wantOutcome(t, c.Send(callContext(t), ring(voip)), push.Accepted)
				heal := fail(a)
				var wg sync.WaitGroup
				for range 3 * 75 { // three calls and three notes a second, for more than a minute
					wg.Go(func() {
						start := time.Now()
						c.Send(callContext(t), ring(voip))
						if took := time.Since(start); took > push.CallTimeout {
							t.Errorf("a call took %v", took)
						}
					})
					wg.Go(func() { c.Send(t.Context(), tell(alert)) })
					time.Sleep(time.Second / 3)
				}
				heal()
				a.SetLatency(30 * time.Millisecond)
				start := time.Now()
				for c.Send(callContext(t), ring(voip)).Outcome != push.Accepted {
					if time.Since(start) > 5*time.Second {
						t.Fatal("not back 5 s after Apple")
					}
				}
				wg.Wait()
				a.clean()
			})
		})
	}
}
