package push

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// answering is a Sender that gives one answer.
type answering struct {
	result Result
	sent   int
}

func (a *answering) Send(context.Context, Notification) Result {
	a.sent++
	return a.result
}

func TestAQuarantinedTokenIsPushedToSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &answering{result: Result{Outcome: Refused, Reason: "BadDeviceToken", Status: 400, Suspect: true}}
		token := Token{Provider: ProviderAPNs, Kind: KindVoIP, App: "app", Value: "v"}
		s := New(Config{Enabled: true, Feedback: func(_ string, r Result) {
			if r.Suspect { // as core/location keeps it
				token.Suspects, token.Suspected = token.Suspects+1, time.Now()
			} else if r.Outcome == Accepted {
				token.Suspects = 0
			}
		}}, []App{{ID: "app", Provider: ProviderAPNs, Sender: a}}, nil, nil)
		call := func() Result { return s.Call(t.Context(), Target{Tokens: []Token{token}}, Call{}) }
		note := func() Result {
			return s.Note(t.Context(), Target{Tokens: []Token{token}}, Note{Event: EventMessage})
		}
		if r := call(); !r.Suspect || token.Suspects != 1 {
			t.Fatalf("%+v", r)
		}
		for range 3600 { // an hour of calls, one a second
			time.Sleep(time.Second)
			if r := call(); r.Outcome != Refused || r.Reason == "" {
				t.Fatalf("%+v", r)
			}
		}
		if a.sent != 61 {
			t.Errorf("%d calls left in an hour, want one a minute", a.sent-1)
		}
		a.sent, token.Suspects, token.Suspected = 0, 1, time.Now()
		for left := 24 * time.Hour; left > 0; {
			r := note()
			if r.Outcome != Refused || r.Status == 0 && (r.Retry <= 0 || r.Retry > time.Hour) {
				t.Fatalf("%+v", r)
			}
			time.Sleep(max(r.Retry, time.Second))
			left -= max(r.Retry, time.Second)
		}
		if a.sent < 24 || a.sent > 32 { // 1, 2, 4, 8, 16, 32 min, then hourly
			t.Errorf("%d notes left in a day", a.sent)
		}
		a.result = Result{Outcome: Accepted, Status: 200}
		time.Sleep(time.Hour)
		if r := note(); r.Outcome != Accepted || token.Suspects != 0 || call().Outcome != Accepted {
			t.Errorf("%+v, then a call", r)
		}
	})
}

func TestALiveTokenGoesBeforeAQuarantinedOne(t *testing.T) {
	apps := []App{{ID: "a", Provider: ProviderFCM}, {ID: "b", Provider: ProviderFCM}}
	live := Token{Provider: ProviderFCM, App: "a", Value: "live", Registered: time.Unix(1, 0)}
	held := Token{Provider: ProviderFCM, App: "b", Value: "held", Registered: time.Unix(2, 0), Suspects: 1}
	for _, tokens := range [][]Token{{live, held}, {held, live}} {
		if r, _ := find(apps, tokens, "", needCall); r.token.Value != "live" {
			t.Errorf("%q chosen", r.token.Value)
		}
	}
	if r, _ := find(apps, []Token{held}, "", needCall); r.token.Value != "held" {
		t.Error("a quarantined token is no route at all")
	}
}

func TestP12_SuspicionBeginsAtOneInFiveOfFifty(t *testing.T) {
	now := time.Unix(1e9, 0)
	for name, c := range map[string]struct{ all, suspects, each int }{
		"49, all suspect":          {49, 49, 1},
		"one token, often":         {1, 1, 500},
		"1000, one in six suspect": {1000, 166, 1},
	} {
		var s suspicion
		for range c.each {
			for i := range c.all {
				if open, _ := s.note(fmt.Sprint(i), "r", (i+1)*c.suspects/c.all > i*c.suspects/c.all, now); open {
					t.Fatalf("%s: open at token %d", name, i)
				}
			}
		}
	}
	var s suspicion
	news := 0
	for i := range 50 {
		if open, n := s.note(fmt.Sprint(i), "r", i%5 == 0, now); n {
			if news++; !open || i != 49 {
				t.Errorf("open %v at token %d, want at the 50th", open, i)
			}
		}
	}
	// Silence says nothing; the first accepted push after the window does.
	now = now.Add(time.Hour)
	if open, _, _, _ := s.isOpen(); !open || news != 1 {
		t.Errorf("open %v, told %d times", open, news)
	}
	if open, n := s.note("1", "", false, now); open || !n {
		t.Error("still open after an hour without a suspect")
	}
	for i := range 40 { // older than the window: they do not count
		s.note(fmt.Sprint("old", i), "r", true, now)
	}
	now = now.Add(suspectWindow + 2*time.Minute)
	if open, _ := s.note("new", "r", true, now); open {
		t.Error("answers from before the window count")
	}
}

func TestSuspicionIsBoundedAndKeepsItsShare(t *testing.T) {
	var s suspicion
	now := time.Unix(1e9, 0)
	for i := range 100_000 {
		s.note(fmt.Sprint(i), "r", i%10 == 0, now)
	}
	if n := len(s.heard); n > maxHeard || n < maxHeard/4 {
		t.Errorf("%d tokens remembered", n)
	}
	if share := float64(s.suspects) / float64(len(s.heard)); share < .08 || share > .12 {
		t.Errorf("share of suspects %.3f, want 0.1", share)
	}
}
