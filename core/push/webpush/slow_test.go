package webpush_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/core/push"
	"sallyport/core/push/pushtest"
	"sallyport/core/push/webpush"
)

// crowd sends n pushes at once and returns their results.
func crowd(c *webpush.Client, n int, of func(i int) push.Notification) []push.Result {
	out := make([]push.Result, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { out[i] = c.Send(context.Background(), of(i)) })
	}
	wg.Wait()
	return out
}

func count(all []push.Result, o push.Outcome) (n int) {
	for _, r := range all {
		if r.Outcome == o {
			n++
		}
	}
	return n
}

// P7 for Web Push: a connection that died in silence costs a call 1.25 s, and
// the call is pushed once.
func TestACallOutlivesADeadConnection(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		s, c := w.one(pushtest.WebPushConfig{})
		token := s.subscribe(c.VAPID())
		for _, n := range []func(push.Token) push.Notification{ring, tell} {
			wantOutcome(t, c.Send(t.Context(), n(token)), push.Accepted)
			s.BlackHole()
			before, start := len(s.Accepted()), time.Now()
			wantOutcome(t, c.Send(t.Context(), n(token)), push.Accepted)
			limit := push.CallTimeout
			if !n(token).Urgent {
				limit = 6 * time.Second
			}
			if took := time.Since(start); took > limit {
				t.Errorf("it took %v", took)
			}
			if got := len(s.Accepted()) - before; got != 1 {
				t.Errorf("accepted %d times", got)
			}
		}
		s.clean()
	})
}

// A push service that answers late on a connection that is alive is not asked
// twice: it may have taken the push.
func TestALateAnswerIsNotAskedForTwice(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		s, c := w.one(pushtest.WebPushConfig{})
		token := s.subscribe(c.VAPID())
		s.SetLatency(2 * time.Second)
		wantOutcome(t, c.Send(t.Context(), ring(token)), push.Accepted)
		if n := len(s.Pushes()); n != 1 {
			t.Errorf("%d requests on the first connection", n)
		}
		s.SetLatency(3 * time.Second) // and now it is too late
		fresh := w.client(w.config(), nil, nil)
		start := time.Now()
		r := fresh.Send(t.Context(), ring(s.subscribe(fresh.VAPID())))
		if took := time.Since(start); r.Outcome != push.ProviderDown || took != push.CallTimeout || !strings.Contains(r.Reason, "push.example: no answer in time") {
			t.Errorf("%+v after %v", r, took)
		}
	})
}

// A push service that never answers holds up no other, nor its own calls; notes
// to it are told so at once until it answers again.
func TestASlowPushServiceIsNotFeltByOthers(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		slow, quick := w.service("slow.example", pushtest.WebPushConfig{}), w.service("quick.example", pushtest.WebPushConfig{})
		c := w.client(w.config(), nil, nil)
		ts, tq := slow.subscribe(c.VAPID()), quick.subscribe(c.VAPID())
		slow.Inject(pushtest.Fault{Drop: true, Count: -1})
		stuck := make(chan []push.Result, 1)
		go func() { stuck <- crowd(c, 8, func(int) push.Notification { return tell(ts) }) }()
		synctest.Wait()
		start := time.Now()
		all := crowd(c, 200, func(i int) push.Notification {
			if i%2 == 0 {
				return ring(tq)
			}
			return tell(tq)
		})
		if n := count(all, push.Accepted); n != 200 || len(quick.Accepted()) != n || time.Since(start) > 10*time.Millisecond {
			t.Errorf("%d accepted, %d arrived in %v", n, len(quick.Accepted()), time.Since(start))
		}
		results := <-stuck
		if took := time.Since(start); took > 11*time.Second || count(results, push.ProviderDown) != 8 {
			t.Errorf("after %v: %v", took, results)
		}
		if n := len(slow.Pushes()); n > 1 {
			t.Errorf("%d notes were under way to a stranger that does not answer", n)
		}
		start = time.Now()
		for range 10 {
			if r := c.Send(t.Context(), tell(ts)); r.Outcome != push.ProviderDown || r.Retry == 0 {
				t.Errorf("while it is silent: %+v", r)
			}
		}
		if took := time.Since(start); took > 11*time.Second { // one of them tried
			t.Errorf("ten notes to a silent push service took %v", took)
		}
		slow.ClearFaults()
		wantOutcome(t, c.Send(t.Context(), ring(ts)), push.Accepted) // calls always try
		wantOutcome(t, c.Send(t.Context(), tell(ts)), push.Accepted)
	})
}

// P18 for Web Push: a call never waits behind notes, not even behind those to
// its own push service.
func TestCallsNeverWaitBehindNotes(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		s, c := w.one(pushtest.WebPushConfig{MaxStreams: 4})
		token := s.subscribe(c.VAPID())
		wantOutcome(t, c.Send(t.Context(), tell(token)), push.Accepted)
		s.Inject(pushtest.Fault{Drop: true, Count: 4})
		stuck := make(chan []push.Result, 1)
		go func() { stuck <- crowd(c, 50, func(int) push.Notification { return tell(token) }) }()
		synctest.Wait()
		start := time.Now()
		for range 20 {
			wantOutcome(t, c.Send(t.Context(), ring(token)), push.Accepted)
		}
		if took := time.Since(start); took > 10*time.Millisecond {
			t.Errorf("20 calls took %v", took)
		}
		<-stuck
	})
}

// Whoever gives tokens names as many push services as he likes. Few of them are
// known at a time, and one in use is not forgotten.
func TestFewPushServicesAreKnownAtATime(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		s, c := w.one(pushtest.WebPushConfig{})
		token := s.subscribe(c.VAPID())
		s.SetLatency(2 * time.Second)
		slow := make(chan push.Result, 1)
		go func() { slow <- c.Send(context.Background(), ring(token)) }()
		synctest.Wait()
		for i := range 600 {
			c.Send(t.Context(), ring(push.Token{Value: fmt.Sprintf("https://n%d.example/x", i)}))
		}
		if n := webpush.Known(c); n != webpush.MaxOrigins {
			t.Errorf("%d push services are known, want %d", n, webpush.MaxOrigins)
		}
		wantOutcome(t, <-slow, push.Accepted)
		s.SetLatency(0)
		before, _ := s.Connections()
		wantOutcome(t, c.Send(t.Context(), ring(token)), push.Accepted)
		if after, _ := s.Connections(); after != before {
			t.Errorf("the connection in use was given up: %d, then %d", before, after)
		}
	})
}

// P8 for Web Push: a push service that goes away amid a crowd of calls loses
// none of them, and doubles none.
func TestGoingAwayLosesNoCall(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		s, c := w.one(pushtest.WebPushConfig{GoAwayAfter: 100})
		tokens := make([]push.Token, 200)
		for i := range tokens {
			tokens[i] = s.subscribe(c.VAPID())
		}
		all := crowd(c, len(tokens), func(i int) push.Notification { return ring(tokens[i]) })
		if n := count(all, push.Accepted); n != len(tokens) {
			t.Errorf("%d accepted", n)
		}
		for _, token := range tokens {
			if n := len(s.Delivered(token.Value)); n != 1 {
				t.Errorf("delivered %d times", n)
			}
		}
	})
}

// Who gives up gets an outcome at once, and it speaks against nobody.
func TestGivingUpSpeaksAgainstNobody(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		s, c := w.one(pushtest.WebPushConfig{})
		token := s.subscribe(c.VAPID())
		s.SetLatency(time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		time.AfterFunc(100*time.Millisecond, cancel)
		if r := c.Send(ctx, tell(token)); r.Outcome != push.ProviderDown || !strings.Contains(r.Reason, "given up") {
			t.Errorf("%+v", r)
		}
		s.SetLatency(0)
		wantOutcome(t, c.Send(t.Context(), tell(token)), push.Accepted) // no breaker is open
		c.Close()
		if r := c.Send(t.Context(), tell(token)); r.Outcome != push.ProviderDown || r.Reason != "shutting down" {
			t.Errorf("after Close: %+v", r)
		}
	})
}
