package apns

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// enterAll lets n goroutines enter g in order, and counts those inside.
func enterAll(t *testing.T, g *gate, n int, inside *atomic.Int32) {
	t.Helper()
	for range n {
		go func() {
			if g.enter(t.Context(), time.Now()) == nil {
				inside.Add(1)
			}
		}()
		synctest.Wait()
	}
}

func TestGateOpensWithTheFirstAcceptedPush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g gate
		var inside atomic.Int32
		step := func(what string, want int32) {
			t.Helper()
			synctest.Wait()
			if got := inside.Load(); got != want {
				t.Fatalf("%s: %d entered so far, want %d", what, got, want)
			}
		}
		enterAll(t, &g, 400, &inside)
		step("cold", 1)
		g.leave(410)
		step("after 410, which is no error of ours", 2)
		g.leave(200)
		step("after 200", 2+warmLimit)
		g.leave(400)
		step("after 400 no more until one is left", 2+warmLimit)
		for range warmLimit - 1 {
			g.leave(0)
		}
		step("when all are out", 3+warmLimit)
		g.leave(200)
		step("after another 200", 3+2*warmLimit)
		if g.drain() {
			t.Error("alone among many")
		}
		for range warmLimit - 1 {
			g.leave(200)
		}
		step("while it drains", 3+2*warmLimit)
		g.leave(200)
		step("drained, one goes to see", 4+2*warmLimit)
		if !g.drain() {
			t.Error("not alone")
		}
		g.leave(0)
		step("and another", 5+2*warmLimit)
		g.leave(200)
		step("and all when it found good", 5+3*warmLimit)
		if g.retire() {
			t.Error("retired gate is empty")
		}
		for i := range warmLimit {
			if empty := g.leave(0); empty != (i == warmLimit-1) {
				t.Fatalf("empty %v after %d", empty, i)
			}
		}
		step("retired", 5+3*warmLimit)
		if err := g.enter(t.Context(), time.Now()); !errors.Is(err, errRetired) {
			t.Errorf("entering a retired gate: %v", err)
		}
	})
}

func TestGateForgetsWhoGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g gate
		if err := g.enter(t.Context(), time.Now()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := g.enter(ctx, time.Now()); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("err %v", err)
		}
		if len(g.waiting) != 0 {
			t.Errorf("%d wait", len(g.waiting))
		}
		g.leave(0)
		if err := g.enter(t.Context(), time.Now()); err != nil {
			t.Errorf("the place is lost: %v", err)
		}
	})
}

func TestGateBoundsItsQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := gate{inflight: 1}
		until := time.Now().Add(10 * time.Second)
		for range maxWaiting {
			g.waiting.Put(newPlace(until))
		}
		if err := g.enter(t.Context(), until); !errors.Is(err, errCrowded) {
			t.Errorf("err %v", err)
		}
		entered := make(chan error)
		go func() { entered <- g.enter(t.Context(), until.Add(-time.Second)) }()
		synctest.Wait() // one that has waited elsewhere is not turned away
		g.leave(0)
		if err := <-entered; err != nil {
			t.Errorf("who comes first is not let in: %v", err)
		}
	})
}

func TestGateLetsInByDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := gate{inflight: 1}
		start := time.Now()
		order := make(chan int, 5)
		for i, after := range []time.Duration{5, 1, 3, 1, 4} {
			go func() {
				if g.enter(t.Context(), start.Add(after*time.Second)) == nil {
					order <- i
				}
			}()
			synctest.Wait()
			time.Sleep(time.Millisecond)
		}
		for _, want := range []int{1, 3, 2, 4, 0} {
			g.leave(0)
			if got := <-order; got != want {
				t.Errorf("%d is let in, want %d", got, want)
			}
		}
	})
}
