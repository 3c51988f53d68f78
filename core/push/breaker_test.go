package push_test

import (
	"testing"
	"testing/synctest"
	"time"

	"sallyport/core/push"
)

func TestBreakerProbesLessAndLessOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b push.Breaker
		if r := b.Refuse(time.Now()); r != "" {
			t.Fatalf("shut breaker refuses: %s", r)
		}
		b.Trip("why", time.Now())
		b.Trip("another push that was under way", time.Now())
		if reason, left := b.State(time.Now()); reason != "why" || left != 5*time.Second {
			t.Errorf("state %q, %v", reason, left)
		}
		var probes []time.Duration
		for start := time.Now(); time.Since(start) < 30*time.Minute; time.Sleep(time.Second) {
			if b.Refuse(time.Now()) != "" {
				if b.Open() != "why" {
					t.Fatal("open, and does not say so")
				}
				continue
			}
			if b.Open() != "" {
				t.Fatal("who tries is told that it may not")
			}
			probes = append(probes, time.Since(start))
			if b.Refuse(time.Now()) == "" {
				t.Fatal("two probes at once")
			}
			b.Trip("why", time.Now())
		}
		if probes[0] != 5*time.Second || probes[1] != 15*time.Second || len(probes) > 12 {
			t.Errorf("probes after %v", probes)
		}
		if got := b.Refuse(time.Now()); got != "why" {
			t.Errorf("reason %q", got)
		}
		b.Reset()
		if got := b.Refuse(time.Now()); got != "" {
			t.Errorf("refuses after reset: %q", got)
		}
		if reason, left := b.State(time.Now()); reason != "" || left != 0 {
			t.Errorf("state after reset %q, %v", reason, left)
		}
	})
}
