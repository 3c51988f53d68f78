package apns_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/core/push"
	"sallyport/core/push/pushtest"
)

// R20, Apple's part: as many calls at once as an office has phones. Each has a
// window of 13 s, of which its push may wait for three quarters.

const (
	window  = 13 * time.Second
	waitFor = window / 4 * 3
)

// crowd calls n phones at once and returns the outcomes, and how long the last
// one took.
func crowd(t *testing.T, a *apple, l *pushtest.Listener, n int) (results []push.Result, took time.Duration) {
	t.Helper()
	cfg := a.config()
	cfg.Dial = l.Dial
	s := push.New(push.Config{Enabled: true}, []push.App{
		{ID: bundle, Provider: push.ProviderAPNs, TeamID: "ABCDE12345", Sender: a.client(cfg)},
	}, nil, nil)
	results = make([]push.Result, n)
	start := time.Now()
	var wg sync.WaitGroup
	for i := range n {
		phone := a.phone(push.KindVoIP)
		wg.Go(func() {
			results[i] = s.Call(t.Context(), push.Target{Tokens: []push.Token{phone}}, push.Call{
				CallID: fmt.Sprint("call-", i), FromURI: "sip:carol@example.com", RingUntil: start.Add(window),
			})
		})
	}
	wg.Wait()
	return results, time.Since(start)
}

// acceptedOnce counts the pushes that Apple took, and fails if one came twice.
func (a *apple) acceptedOnce() int {
	a.t.Helper()
	seen := make(map[string]bool)
	for _, p := range a.Accepted() {
		if seen[p.ID] {
			a.t.Errorf("push %s arrived twice", p.ID)
		}
		seen[p.ID] = true
	}
	return len(seen)
}

func TestR20_TenThousandPushesAtOnceAllLeaveInTime(t *testing.T) {
	const n = 10_000 / slow
	inBubble(t, pushtest.APNsConfig{}, func(t *testing.T, a *apple, l *pushtest.Listener) {
		a.SetLatency(50 * time.Millisecond)
		results, took := crowd(t, a, l, n)
		for _, r := range results {
			wantOutcome(t, r, push.Accepted)
		}
		if took > waitFor {
			t.Errorf("took %v", took)
		}
		if got := a.acceptedOnce(); got != n {
			t.Errorf("%d pushes were accepted, want %d", got, n)
		}
		if st := a.Stats(); st.Connections != 1 || st.Refused != 0 {
			t.Errorf("%d connections, %d refused streams; want 1 and 0", st.Connections, st.Refused)
		}
		a.clean()
	})
}

func TestR20_AConnectionThatDiesUnderACrowdLosesNoPush(t *testing.T) {
	const n = 3000 / slow
	inBubble(t, pushtest.APNsConfig{}, func(t *testing.T, a *apple, l *pushtest.Listener) {
		a.SetLatency(50 * time.Millisecond)
		time.AfterFunc(n/3*time.Second/1800, a.BlackHole)
		results, took := crowd(t, a, l, n)
		for _, r := range results {
			wantOutcome(t, r, push.Accepted)
		}
		if took < 2*time.Second || took > waitFor {
			t.Errorf("took %v", took)
		}
		if got := a.acceptedOnce(); got != n {
			t.Errorf("%d pushes were accepted, want %d", got, n)
		}
	})
}

// What Apple does not take in time is not sent late: a phone would ring for a
// call that has ended by the time it has registered.
func TestR20_APushWhoseTurnComesTooLateIsNotSent(t *testing.T) {
	const n = 3000
	inBubble(t, pushtest.APNsConfig{}, func(t *testing.T, a *apple, l *pushtest.Listener) {
		a.SetLatency(500 * time.Millisecond) // 180 a second
		results, took := crowd(t, a, l, n)
		sent := 0
		for _, r := range results {
			switch {
			case r.Outcome == push.Accepted:
				sent++
			case r.Outcome != push.ProviderDown || !strings.Contains(r.Reason, "ahead"):
				t.Fatalf("outcome %s: %s", r.Outcome, r.Reason)
			}
		}
		if sent < 1500 || sent != a.acceptedOnce() {
			t.Errorf("%d say they were accepted, %d were", sent, a.acceptedOnce())
		}
		if took < waitFor || took > waitFor+time.Second {
			t.Errorf("the last was told after %v, want %v", took, waitFor)
		}
	})
}

// One answer that is lost is no dead connection while others come.
func TestR20_OnePushThatIsNotAnsweredIsSentAgainAndTheOthersGoOn(t *testing.T) {
	const n = 1500
	inBubble(t, pushtest.APNsConfig{}, func(t *testing.T, a *apple, l *pushtest.Listener) {
		a.SetLatency(300 * time.Millisecond) // 300 a second: five seconds of crowd
		time.AfterFunc(time.Second, func() { a.Inject(pushtest.Fault{Drop: true}) })
		results, took := crowd(t, a, l, n)
		for _, r := range results {
			wantOutcome(t, r, push.Accepted)
		}
		if got := a.acceptedOnce(); got != n {
			t.Errorf("%d pushes were accepted, want %d", got, n)
		}
		if st := a.Stats(); st.Connections != 2 || took > waitFor {
			t.Errorf("%d connections, %v; want a second one for what was not answered", st.Connections, took)
		}
	})
}

// A crowd does not make the outage of a provider last longer for the caller.
func TestR20_WhenNobodyIsAnsweredTheCrowdDoesNotWait(t *testing.T) {
	const n = 500
	inBubble(t, pushtest.APNsConfig{}, func(t *testing.T, a *apple, l *pushtest.Listener) {
		a.Inject(pushtest.Fault{Drop: true, Count: 10 * n})
		results, took := crowd(t, a, l, n)
		for _, r := range results {
			wantOutcome(t, r, push.ProviderDown)
		}
		if took > push.CallTimeout {
			t.Errorf("took %v, want %v", took, push.CallTimeout)
		}
	})
}

func TestR20_ACrowdStopsWhenOurCredentialsAreRefused(t *testing.T) {
	const n = 500
	inBubble(t, pushtest.APNsConfig{}, func(t *testing.T, a *apple, l *pushtest.Listener) {
		a.SetLatency(50 * time.Millisecond)
		a.Inject(pushtest.Fault{Status: 403, Reason: "InvalidProviderToken", Count: n})
		results, took := crowd(t, a, l, n)
		for _, r := range results {
			wantOutcome(t, r, push.ProviderDown)
		}
		if got := len(a.Pushes()); got > 3 || took > time.Second {
			t.Errorf("%d pushes left in %v", got, took)
		}
	})
}
