package sipproxy

import (
	"context"
	"net/http/httptrace"
	"strings"
	"sync"
	"testing/synctest"
	"time"

	"sallyport/core/push"
)

// pusher is the push service: it accepts all, unless told otherwise.
type pusher struct {
	mu      sync.Mutex
	calls   []push.Call
	notes   []push.Note
	result  push.Result
	connect time.Duration   // before a push leaves
	delay   time.Duration   // from then to the provider's answer
	onCall  func(push.Call) // when a push left
	onCan   func()          // when it is asked whether one can be sent
}

func (p *pusher) CanCall(t push.Target) bool {
	p.mu.Lock()
	onCan := p.onCan
	p.mu.Unlock()
	if onCan != nil {
		onCan()
	}
	return alive(t.Tokens, "voip")
}
func (p *pusher) CanNote(t push.Target) bool {
	return alive(t.Tokens, "voip") || alive(t.Tokens, "alert")
}

func alive(ts []push.Token, kind string) bool {
	for _, t := range ts {
		if t.Kind == kind && !t.Dead {
			return true
		}
	}
	return false
}

func (p *pusher) Call(ctx context.Context, target push.Target, c push.Call) push.Result {
	p.mu.Lock()
	connect, delay, res, onCall := p.connect, p.delay, p.result, p.onCall
	p.mu.Unlock()
	if !pause(ctx, connect) {
		return push.Result{Outcome: push.ProviderDown, Reason: "stopped"}
	}
	if t := httptrace.ContextClientTrace(ctx); t != nil && t.WroteRequest != nil {
		t.WroteRequest(httptrace.WroteRequestInfo{})
	}
	if onCall != nil {
		onCall(c)
	}
	p.mu.Lock()
	p.calls = append(p.calls, c)
	p.mu.Unlock()
	if !pause(ctx, delay) {
		return push.Result{Outcome: push.ProviderDown, Reason: "stopped"}
	}
	if res.Outcome == "" {
		res.Outcome = push.Accepted
	}
	for _, t := range target.Tokens {
		if t.Kind == "voip" {
			res.Token, res.Provider = t, t.Provider
		}
	}
	return res
}

func pause(ctx context.Context, d time.Duration) bool {
	if d == 0 {
		return ctx.Err() == nil
	}
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

func (p *pusher) Post(_ push.Target, n push.Note, done func(push.Result)) {
	p.mu.Lock()
	p.notes = append(p.notes, n)
	p.mu.Unlock()
	if done != nil {
		done(push.Result{Outcome: push.Accepted})
	}
}

// pushed checks how many VoIP pushes left, and which notes.
func (w *town) pushed(calls int, notes ...string) {
	w.t.Helper()
	synctest.Wait()
	w.pushes.mu.Lock()
	defer w.pushes.mu.Unlock()
	if len(w.pushes.calls) != calls {
		w.t.Errorf("%d VoIP pushes left, want %d", len(w.pushes.calls), calls)
	}
	var got []string
	for _, n := range w.pushes.notes {
		got = append(got, n.Event)
	}
	if strings.Join(got, " ") != strings.Join(notes, " ") {
		w.t.Errorf("Message pushes %q, want %q", got, notes)
	}
}

// pass lets time go by.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}
