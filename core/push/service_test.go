package push_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"sallyport/core/push"
)

func TestB14_SwitchedOffSendsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		s := push.New(push.Config{}, apps(f), nil, nil)
		tokens := []push.Token{apnsToken(push.KindVoIP, "v"), apnsToken(push.KindAlert, "a")}
		if s.CanCall(push.Target{Tokens: tokens}) || s.CanNote(push.Target{Tokens: tokens}) {
			t.Error("a device seems to be reachable")
		}
		r := s.Call(t.Context(), push.Target{Tokens: tokens, Class: "split"}, carol)
		wantOutcome(t, r, push.NoRoute)
		if r.Reason != "push is switched off" {
			t.Errorf("reason %q", r.Reason)
		}
		stop := running(t, s)
		done := make(chan push.Result, 1)
		s.Post(push.Target{Tokens: tokens, Class: "split"}, push.Note{Event: push.EventMissed}, func(r push.Result) { done <- r })
		wantOutcome(t, <-done, push.NoRoute)
		stop()
		if n := len(f.all()); n != 0 {
			t.Errorf("%d pushes left", n)
		}
	})
}

// running runs s until stop is called.
func running(t *testing.T, s *push.Service) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.Run(ctx); err != nil {
			t.Errorf("run: %v", err)
		}
	})
	return func() { cancel(); wg.Wait() }
}

// slow is a Sender that answers when its context ends.
type slow struct{}

func (slow) Send(ctx context.Context, _ push.Notification) push.Result {
	<-ctx.Done()
	return push.Result{Outcome: push.ProviderDown, Reason: context.Cause(ctx).Error()}
}

func TestCallHasAnOutcomeInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := push.New(push.Config{Enabled: true}, []push.App{{ID: bundle, Provider: "apns", Sender: slow{}}}, nil, nil)
		start := time.Now()
		wantOutcome(t, s.Call(t.Context(), push.Target{Tokens: []push.Token{apnsToken(push.KindVoIP, "v")}}, carol), push.ProviderDown)
		if took := time.Since(start); took != push.CallTimeout {
			t.Errorf("took %v, want %v", took, push.CallTimeout)
		}
	})
}

func TestP18_CallPassesAFullQueueOfNotes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := &fake{}
		s := push.New(push.Config{Enabled: true, Queue: 100, Workers: 2}, []push.App{
			{ID: bundle, Provider: "apns", Sender: byUrgency{calls, slow{}}},
		}, nil, nil)
		stop := running(t, s)
		defer stop()
		tokens := []push.Token{apnsToken(push.KindVoIP, "v"), apnsToken(push.KindAlert, "a")}
		var mu sync.Mutex
		outcomes := make(map[string]int)
		for range 10_000 {
			s.Post(push.Target{Tokens: tokens, Class: "split"}, push.Note{Event: push.EventMissed}, func(r push.Result) {
				mu.Lock()
				defer mu.Unlock()
				outcomes[string(r.Outcome)+": "+r.Reason]++
			})
		}
		start := time.Now()
		wantOutcome(t, s.Call(t.Context(), push.Target{Tokens: tokens, Class: "split"}, carol), push.Accepted)
		if took := time.Since(start); took != 0 {
			t.Errorf("the call waited for %v", took)
		}
		mu.Lock()
		defer mu.Unlock()
		if n := outcomes["provider_down: too many notes wait"]; n < 9_890 || len(outcomes) != 1 {
			t.Errorf("outcomes %v", outcomes)
		}
	})
}

// byUrgency sends calls one way and notes another.
type byUrgency struct{ calls, notes push.Sender }

func (b byUrgency) Send(ctx context.Context, n push.Notification) push.Result {
	if n.Urgent {
		return b.calls.Send(ctx, n)
	}
	return b.notes.Send(ctx, n)
}

func TestEveryPostIsDoneOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := push.New(push.Config{Enabled: true, Workers: 1}, []push.App{{ID: bundle, Provider: "apns", Sender: slow{}}}, nil, nil)
		var mu sync.Mutex
		var reasons []string
		post := func() {
			s.Post(push.Target{Tokens: []push.Token{apnsToken(push.KindAlert, "a")}}, push.Note{}, func(r push.Result) {
				mu.Lock()
				defer mu.Unlock()
				reasons = append(reasons, r.Reason)
			})
		}
		stop := running(t, s)
		for range 3 {
			post()
		}
		synctest.Wait()
		stop()
		post()
		s.Post(push.Target{Tokens: nil}, push.Note{}, nil)
		want := []string{"context canceled", "shutting down", "shutting down", "shutting down"}
		if d := cmp.Diff(want, reasons); d != "" {
			t.Error(d)
		}
	})
}

func TestRunEndsWithAnAppThatFails(t *testing.T) {
	broken := errors.New("broken")
	s := push.New(push.Config{}, []push.App{
		{ID: "a", Provider: "apns", Run: func(ctx context.Context) error { <-ctx.Done(); return nil }},
		{ID: "b", Provider: "apns", Run: func(context.Context) error { return broken }},
	}, nil, nil)
	if err := s.Run(t.Context()); !errors.Is(err, broken) {
		t.Errorf("run: %v", err)
	}
}

func TestCallThatRingsNoMoreIsNotPushed(t *testing.T) {
	f := &fake{}
	c := carol
	c.RingUntil = time.Now().Add(-time.Second)
	wantOutcome(t, service(f).Call(t.Context(), push.Target{Tokens: []push.Token{apnsToken(push.KindVoIP, "v")}}, c), push.Refused)
	if n := len(f.all()); n != 0 {
		t.Errorf("%d pushes left", n)
	}
}

func TestIDOfAPushIsStable(t *testing.T) {
	f := &fake{}
	one, two := apnsToken(push.KindVoIP, "one"), apnsToken(push.KindVoIP, "two")
	for _, token := range []push.Token{one, one, two} {
		if r := service(f).Call(t.Context(), push.Target{Tokens: []push.Token{token}}, carol); r.ID == "" {
			t.Error("result has no id")
		}
	}
	all := f.all()
	if all[0].ID != all[1].ID || all[0].ID == all[2].ID {
		t.Errorf("ids %s, %s to one device, %s to another", all[0].ID, all[1].ID, all[2].ID)
	}
	if id := all[0].ID; len(id) != 36 || id != strings.ToLower(id) || id[14] != '5' {
		t.Errorf("id %s", id)
	}
}

func TestP11_DeadResultNamesTheToken(t *testing.T) {
	f := &fake{answer: func(push.Notification) push.Result {
		return push.Result{Outcome: push.DeadToken, Status: 410, Reason: "Unregistered", DeadSince: time.Unix(5, 0)}
	}}
	voip, alert := apnsToken(push.KindVoIP, "v"), apnsToken(push.KindAlert, "a")
	r := service(f).Call(t.Context(), push.Target{Tokens: []push.Token{voip, alert}, Class: "split"}, carol)
	if r.Token != voip || r.Provider != "apns" || r.Channel != push.VoIP || !r.DeadSince.Equal(time.Unix(5, 0)) {
		t.Errorf("result %+v", r)
	}
}

func TestMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	s := push.New(push.Config{Enabled: true}, apps(&fake{}), nil, reg)
	s.Call(t.Context(), push.Target{Tokens: []push.Token{apnsToken(push.KindVoIP, "v")}, Class: "split"}, carol)
	s.Note(t.Context(), push.Target{Tokens: []push.Token{apnsToken(push.KindAlert, "a")}, Class: "split"}, push.Note{Event: push.EventMissed})
	s.Call(t.Context(), push.Target{Tokens: []push.Token{{Provider: "a stranger's word"}}}, carol)
	err := testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP sallyport_push_total Pushes by provider, app, channel, outcome and reason.
# TYPE sallyport_push_total counter
sallyport_push_total{app="org.example.phone",channel="message",outcome="accepted",provider="apns",reason="none"} 1
sallyport_push_total{app="org.example.phone",channel="voip",outcome="accepted",provider="apns",reason="none"} 1
sallyport_push_total{app="none",channel="voip",outcome="no_route",provider="none",reason="no_route"} 1
`), "sallyport_push_total")
	if err != nil {
		t.Error(err)
	}
	if n, err := testutil.GatherAndCount(reg, "sallyport_push_seconds"); err != nil || n != 2 {
		t.Errorf("%d histograms, %v", n, err)
	}
	problems, err := testutil.GatherAndLint(reg)
	if err != nil || len(problems) != 0 {
		t.Errorf("%v %v", problems, err)
	}
}

func TestTokenNeverShowsItsValue(t *testing.T) {
	token := apnsToken(push.KindVoIP, "secret")
	for _, text := range []string{token.String(), token.GoString(), token.LogValue().String()} {
		if strings.Contains(text, token.Value) || !strings.Contains(text, token.Value[len(token.Value)-6:]) {
			t.Errorf("shown as %s", text)
		}
	}
	if got := push.Redact("short"); got != "…" {
		t.Errorf("short token shown as %s", got)
	}
}

// sick is a Sender with health.
type sick struct{ slow }

func (sick) Health() (bool, string) { return false, "InvalidProviderToken" }

func TestAppsReportTheirHealth(t *testing.T) {
	s := push.New(push.Config{}, []push.App{
		{ID: "a", Provider: "apns", Sender: sick{}},
		{ID: "b", Provider: "fcm", Sender: slow{}},
	}, nil, nil)
	want := []push.AppStatus{
		{ID: "a", Provider: "apns", LastError: "InvalidProviderToken"},
		{ID: "b", Provider: "fcm", OK: true},
	}
	if d := cmp.Diff(want, s.Apps()); d != "" {
		t.Error(d)
	}
}
