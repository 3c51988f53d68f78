package wake_test

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/core/push"
	"sallyport/core/wake"
)

// R20, the Waker's part: 10,000 devices, of which each comes back once, and one
// in ten is called twice.
func TestR20_TenThousandDevicesGetOnePushEach(t *testing.T) {
	const n, calls = 10_000 / slow, 11_000 / slow
	test(t, func(t *testing.T, p *provider, w *wake.Waker) {
		var waits sync.WaitGroup
		var woken, other atomic.Int32
		idle := runtime.NumGoroutine()
		for i := range calls {
			d := bob()
			d.ID = fmt.Sprint("device ", i%n)
			waits.Go(func() {
				out, err := w.Call(context.Background(), d, push.Call{CallID: fmt.Sprint("call-", i)}, nil)
				if err == nil && out.Pushed && out.Flow == "flow of "+d.ID {
					woken.Add(1)
				} else {
					other.Add(1)
				}
			})
		}
		time.Sleep(time.Second) // every push is accepted
		synctest.Wait()
		if got := runtime.NumGoroutine() - idle; got > calls {
			t.Errorf("%d goroutines for %d calls that wait", got, calls)
		}
		for i := range n {
			d := fmt.Sprint("device ", i)
			if !w.Waking(d) {
				t.Fatalf("%s is not waking", d)
			}
			w.Registered(d, "flow of "+d)
			w.Registered(d, "another flow of "+d) // finds nobody
			if w.Waking(d) {
				t.Fatalf("%s is still waking", d)
			}
		}
		waits.Wait()
		if woken.Load() != calls || other.Load() != 0 {
			t.Errorf("%d calls got their flow, %d did not", woken.Load(), other.Load())
		}
		if got := len(p.arrived()); got != n {
			t.Errorf("%d pushes, want %d", got, n)
		}
	})
}
