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
	called  []string // devices, call by call
	notes   []push.Note
	noted   []string // devices, note by note
	result  push.Result
	quiet   bool            // no call is pushed
	connect time.Duration   // before a push leaves
	delay   time.Duration   // from then to the provider's answer
	onCall  func(push.Call) // when a push left
	onCan   func()          // when it is asked whether one can be sent

	// feedback is told of each answer before anybody else; static.
	feedback func(device string, r push.Result)
}

func (p *pusher) CanCall(t push.Target) bool {
	p.mu.Lock()
	onCan := p.onCan
	p.mu.Unlock()
	if onCan != nil {
		onCan()
	}
	return router.CanCall(t)
}

func (p *pusher) CanNote(t push.Target) bool { return router.CanNote(t) }

// router knows the channels of devices, as the push service does.
var router = push.New(push.Config{Enabled: true}, []push.App{
	{ID: "org.example.phone", Provider: push.ProviderAPNs, TeamID: "ABCDE12345"},
	{ID: "org.example.phone", Provider: push.ProviderFCM, Project: "project"},
	{ID: "org.example.phone", Provider: push.ProviderWebPush},
}, nil, nil)

// tokensOf are what a phone of each provider hands over.
var tokensOf = map[string]string{
	"apns":    apns,
	"fcm":     ";pn-provider=fcm;pn-param=project;pn-prid=fid:aa11",
	"webpush": ";pn-provider=webpush;pn-prid=https%3A%2F%2Fpush.example%2Faa11",
}

// of is the phone with the app of a provider.
func (ph *phone) of(provider string) *phone {
	name := strings.TrimPrefix(ph.callID, "reg-")
	ph.push = strings.NewReplacer("aa11", "aa"+name, "bb22", "bb"+name).Replace(tokensOf[provider])
	return ph
}

func (p *pusher) Call(ctx context.Context, target push.Target, c push.Call) push.Result {
	p.mu.Lock()
	connect, delay, res, onCall := p.connect, p.delay, p.result, p.onCall
	p.mu.Unlock()
	if !pause(ctx, connect) {
		return push.Result{Outcome: push.ProviderDown, Reason: "stopped"}
	}
	if p.quiet { // nothing leaves
		return res
	}
	if t := httptrace.ContextClientTrace(ctx); t != nil && t.WroteRequest != nil {
		t.WroteRequest(httptrace.WroteRequestInfo{})
	}
	if onCall != nil {
		onCall(c)
	}
	p.mu.Lock()
	p.calls, p.called = append(p.calls, c), append(p.called, target.Device)
	p.mu.Unlock()
	if !pause(ctx, delay) {
		return push.Result{Outcome: push.ProviderDown, Reason: "stopped"}
	}
	if res.Outcome == "" {
		res.Outcome = push.Accepted
	}
	for _, t := range target.Tokens {
		if t.Kind == "voip" || t.Provider != "apns" {
			res.Token, res.Provider = t, t.Provider
		}
	}
	p.feedback(target.Device, res)
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

func (p *pusher) Enqueue(_ context.Context, target push.Target, n push.Note) error {
	p.Post(target, n, nil)
	return nil
}

func (p *pusher) Post(target push.Target, n push.Note, done func(push.Result)) {
	p.mu.Lock()
	p.notes, p.noted = append(p.notes, n), append(p.noted, target.Device)
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
