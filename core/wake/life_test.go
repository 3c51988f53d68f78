package wake_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/core/wake"
)

func TestDevicesDoNotTouchEachOther(t *testing.T) {
	test(t, func(t *testing.T, p *provider, w *wake.Waker) {
		carol := bob()
		carol.ID = "sip:carol@example.com phone"
		one, two := ring(w, bob(), "call1"), ring(w, carol, "call1")
		time.Sleep(time.Second)
		w.Registered(bob().ID, "flow1")
		w.Refused(carol.ID)
		one.ends(t, "flow1", nil, true)
		two.ends(t, "", wake.ErrRefused, true)
		wantIDs(t, "pushes", p.arrived(), "call1", "call1")
	})
}

func TestRunEndsEveryWaitAndEveryPush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &provider{takes: time.Hour, result: accepted()}
		w := wake.New(wake.Config{}, p, nil, nil)
		var c *call
		run(t, w, func(w *wake.Waker) { c = ring(w, bob(), "call1") })
		c.ends(t, "", wake.ErrStopped, false)
		ring(w, bob(), "call2").ends(t, "", wake.ErrStopped, false)
	})
}

func TestWaitersForOneDeviceAreBounded(t *testing.T) {
	test(t, func(t *testing.T, p *provider, w *wake.Waker) {
		for i := range 64 {
			ring(w, bob(), fmt.Sprint(i))
		}
		ring(w, bob(), "one more").ends(t, "", wake.ErrRate, false)
		w.Gone(bob().ID)
	})
}
