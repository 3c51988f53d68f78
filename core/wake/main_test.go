package wake_test

import (
	"context"
	"errors"
	"net/http/httptrace"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"sallyport/core/push"
	"sallyport/core/wake"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const window = 13 * time.Second

// provider is a Pusher whose answers a test gives by hand: each Call takes
// `takes` and ends in `result`, unless its ctx ends first.
type provider struct {
	takes  time.Duration
	result push.Result
	// writes: the request is written at once, and only the answer takes time.
	writes bool
	mute   bool // CanCall and CanNote say no

	mu    sync.Mutex
	calls []push.Call // that were begun
	took  []push.Call // that were taken
	notes []push.Note
}

func accepted() push.Result {
	return push.Result{Outcome: push.Accepted, Provider: "apns", Channel: push.VoIP, ID: "id1"}
}

func (p *provider) CanCall(t push.Target) bool { return !p.mute && len(t.Tokens) > 0 }
func (p *provider) CanNote(t push.Target) bool { return !p.mute && len(t.Tokens) > 0 }

func (p *provider) Call(ctx context.Context, _ push.Target, c push.Call) push.Result {
	p.mu.Lock()
	p.calls = append(p.calls, c)
	takes, result, writes := p.takes, p.result, p.writes
	p.mu.Unlock()
	if writes {
		httptrace.ContextClientTrace(ctx).WroteRequest(httptrace.WroteRequestInfo{})
	}
	select {
	case <-time.After(takes):
	case <-ctx.Done():
		return push.Result{Outcome: push.ProviderDown, Channel: push.VoIP, Reason: ctx.Err().Error()}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.took = append(p.took, c)
	return result
}

func (p *provider) Enqueue(_ context.Context, t push.Target, n push.Note) error {
	p.Post(t, n, func(push.Result) {})
	return nil
}

func (p *provider) Post(_ push.Target, n push.Note, done func(push.Result)) {
	p.mu.Lock()
	p.notes = append(p.notes, n)
	r := p.result
	p.mu.Unlock()
	done(r)
}

func (p *provider) answers(r push.Result) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.result = r
}

// begun and arrived list the Call-IDs of pushes by how far they got.
func (p *provider) begun() []string   { return p.ids(&p.calls) }
func (p *provider) arrived() []string { return p.ids(&p.took) }

func (p *provider) ids(calls *[]push.Call) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	ids := make([]string, 0, len(*calls))
	for _, c := range *calls {
		ids = append(ids, c.CallID)
	}
	return ids
}

func bob() wake.Device {
	return wake.Device{ID: "sip:bob@example.com phone", Class: "split", Tokens: []push.Token{
		{Provider: "apns", Kind: "voip", Value: "voip-token-of-bob"},
		{Provider: "apns", Kind: "alert", Value: "alert-token-of-bob"},
	}}
}

// call is one waiting Call.
type call struct {
	cancel context.CancelCauseFunc
	done   chan struct{}
	start  time.Time

	mu    sync.Mutex
	steps []string

	// Valid after done.
	out  wake.Outcome
	err  error
	took time.Duration
}

var errHangup = errors.New("caller hung up")

// ring starts a Call and returns when it, and all it set off, waits.
func ring(w *wake.Waker, d wake.Device, callID string) *call {
	ctx, cancel := context.WithCancelCause(context.Background())
	c := &call{cancel: cancel, done: make(chan struct{}), start: time.Now()}
	go func() {
		defer close(c.done)
		c.out, c.err = w.Call(ctx, d, push.Call{CallID: callID}, func(step, _ string) {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.steps = append(c.steps, step)
		})
		c.took = time.Since(c.start)
		cancel(nil)
	}()
	synctest.Wait()
	return c
}

func (c *call) hangup() {
	c.cancel(errHangup)
	synctest.Wait()
}

func (c *call) waits() bool {
	synctest.Wait()
	select {
	case <-c.done:
		return false
	default:
		return true
	}
}

// ends waits for the end and checks it.
func (c *call) ends(t *testing.T, flow string, err error, pushed bool) {
	t.Helper()
	<-c.done
	if c.out.Flow != flow || !errors.Is(c.err, err) || c.out.Pushed != pushed {
		t.Errorf("ended with flow %q, %v, pushed %v; want %q, %v, %v", c.out.Flow, c.err, c.out.Pushed, flow, err, pushed)
	}
}

func (c *call) saw(t *testing.T, steps ...string) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if !slices.Equal(c.steps, steps) {
		t.Errorf("trace says %v, want %v", c.steps, steps)
	}
}

func wantIDs(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s %v, want %v", what, got, want)
	}
}

// test runs f in a bubble, with a provider that accepts after 100 ms and a
// running Waker that must leave nothing behind.
func test(t *testing.T, f func(t *testing.T, p *provider, w *wake.Waker)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := &provider{takes: 100 * time.Millisecond, result: accepted()}
		run(t, wake.New(wake.Config{Window: window}, p, nil, nil), func(w *wake.Waker) { f(t, p, w) })
	})
}

func run(t *testing.T, w *wake.Waker, f func(w *wake.Waker)) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- w.Run(ctx) }()
	f(w)
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Run: %v", err)
	}
}
