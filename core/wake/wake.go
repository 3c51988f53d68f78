// Package wake brings sleeping devices back. It owns who waits for which
// device, when a push is sent for them and how many a device may get; it does
// not know how a push travels (core/push), what the waiting request is
// (core/sipproxy, core/im) or where bindings are kept (core/location).
package wake

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sallyport/core/push"
)

// Token, Call and Note are those of core/push, for callers that do not import
// it.
type (
	Token  = push.Token
	Call   = push.Call
	Note   = push.Note
	Result = push.Result
)

// Events of a [Note]: a call that nobody answered, one that was answered on
// another device, the wish that the device register, which shows nothing, and a
// message that waits.
const (
	EventMissed            = push.EventMissed
	EventAnsweredElsewhere = push.EventAnsweredElsewhere
	EventRegister          = push.EventRegister
	EventMessage           = push.EventMessage
)

// Accepted is the outcome of a push that the provider took.
const Accepted = push.Accepted

// Why a wait ended without a registration.
var (
	// ErrWindow: the device did not register in time (B16).
	ErrWindow = errors.New("device did not register in time")
	// ErrNoRoute: there is no usable token, or push is switched off (B14).
	ErrNoRoute = errors.New("no way to push to the device")
	// ErrDeadToken: the provider called the token dead (B19).
	ErrDeadToken = errors.New("push token is dead")
	// ErrProviderDown: the provider, the way to it or our credentials are out
	// of order, or it refused the push.
	ErrProviderDown = errors.New("push provider did not take the push")
	// ErrQuiet: quiet hours or do-not-disturb. Nothing was pushed, and the call
	// is a missed one at once.
	ErrQuiet = errors.New("not to be disturbed")
	// ErrRate: the device got its pushes of this minute already (B28), or more
	// requests wait for it than are worth holding.
	ErrRate = errors.New("too many pushes to the device")
	// ErrRefused: the device's REGISTER was refused for good (RFC 8599 §5.6.2).
	ErrRefused = errors.New("registration of the device was refused")
	// ErrGone: the device unregistered.
	ErrGone = errors.New("device unregistered")
	// ErrStopped: this Waker has ended.
	ErrStopped = errors.New("wake has stopped")
)

// Steps that an [Observer] hears, as traces name them.
const (
	StepPushSent     = "push_sent"
	StepPushAccepted = "push_accepted"
	StepPushRefused  = "push_refused"
	StepRegistered   = "registered"
	StepWindowOver   = "window_over"
)

// Observer is told the steps of one wait, one after the other. In Call it runs
// on the caller's goroutine and never after Call returned. nil observes
// nothing.
type Observer func(step, detail string)

// Pusher sends pushes; *push.Service is one. Call returns within
// push.CallTimeout of the moment at which the provider could take the push,
// and at once when its ctx ends. Post does not block; Enqueue returns when the
// note will outlive this process.
type Pusher interface {
	CanCall(t push.Target) bool
	CanNote(t push.Target) bool
	Call(ctx context.Context, t push.Target, c push.Call) push.Result
	Post(t push.Target, n push.Note, done func(push.Result))
	Enqueue(ctx context.Context, t push.Target, n push.Note) error
}

// Device is what a push needs to know.
type Device struct {
	ID     string
	Tokens []push.Token
	Class  string
	// Flow is the flow that the caller knows of and does not wait for: that of
	// a silent device, "" for one without. A registration on it frees nobody.
	Flow string
}

func (d Device) target() push.Target {
	return push.Target{Device: d.ID, Tokens: d.Tokens, Class: d.Class}
}

// Outcome is what a wait brought.
type Outcome struct {
	Flow string // the flow on which the device registered
	// Pushed: a VoIP push for this device left, so it rings or soon will (B28).
	Pushed bool
	Took   time.Duration // from push to registration, zero without a push
}

// Config says how long and how often. Zero fields take the defaults.
type Config struct {
	// Window is how long a device may take to register. Default 13 s.
	Window time.Duration
	// PerMinute is how many VoIP pushes a device may get in any minute (B28).
	// Default 10.
	PerMinute int
	// Flow tells the device's newest live flow, "" if it has none. It is asked
	// right after a wait began, so that a registration which came between the
	// caller's look and the wait is not missed. nil is never asked. It must not
	// call back into the Waker.
	Flow func(device string) string
	// Scored is told whether an accepted push woke the device that slept, as soon
	// as that is known. It must not call back into the Waker. nil is told nothing.
	Scored func(Score)
}

// maxAnnouncing bounds the foreground pushes under way at a time: ten times
// what a busy site has, at 2.5 s each.
const maxAnnouncing = 1024

// maxWaiters bounds the requests held for one device. Nobody answers more calls
// than a few; the rest is an attack or a loop.
const maxWaiters = 64

// Waker runs at most one attempt per device, however many requests wait. It
// keeps a goroutine for a push under way, and nothing else: waiting happens on
// the callers' goroutines. All methods are safe for concurrent use.
type Waker struct {
	// Static after New.
	cfg     Config
	p       Pusher
	log     *slog.Logger
	metrics *metrics
	scores  *scores         // has its own lock
	ctx     context.Context // of pushes under way; ends with Run
	cancel  context.CancelFunc
	pushing sync.WaitGroup // Add under mu while !closed

	mu sync.Mutex
	// Guarded by mu.
	attempts   map[string]*attempt // by device; none without a waiter or a push to stop
	recent     recent
	announcing int
	closed     bool
}

// New returns a Waker that pushes through p; nil never pushes (B14). log and
// reg may be nil. What a provider says of a token, p tells those who keep tokens.
func New(cfg Config, p Pusher, log *slog.Logger, reg prometheus.Registerer) *Waker {
	if cfg.Window <= 0 {
		cfg.Window = 13 * time.Second
	}
	if cfg.PerMinute <= 0 {
		cfg.PerMinute = 10
	}
	if cfg.Flow == nil {
		cfg.Flow = func(string) string { return "" }
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	ctx, cancel := context.WithCancel(context.Background())
	m := newMetrics(reg)
	return &Waker{
		cfg: cfg, p: p,
		log:     log.With("room", "wake"),
		metrics: m,
		scores:  newScores(cfg.Scored, m),
		ctx:     ctx, cancel: cancel,
		attempts: make(map[string]*attempt),
	}
}

// Run scores pushes until ctx ends. Then everybody who waits gets [ErrStopped], pushes
// under way are stopped, and Run returns when none is left.
func (w *Waker) Run(ctx context.Context) error {
	w.scores.run(ctx)
	w.mu.Lock()
	w.closed = true
	for device, a := range w.attempts {
		a.finish(a.waiters, "", ErrStopped)
		delete(w.attempts, device)
	}
	w.mu.Unlock()
	w.cancel()
	w.pushing.Wait()
	return nil
}

// Call blocks until d registered, and returns the flow. It sends a VoIP push
// that announces c, unless one is already out for d: a later call joins the
// attempt without a push of its own and has a window of its own. A call that
// leaves before its push left stops the push; if others wait, the next of them
// is announced instead.
//
// It ends with one of this package's errors, or with context.Cause(ctx). A
// registration that came first wins over ctx. Without any way to push it
// returns [ErrNoRoute] at once; see [Waker.Await].
func (w *Waker) Call(ctx context.Context, d Device, c push.Call, obs Observer) (Outcome, error) {
	now := time.Now()
	if c.Sent.IsZero() {
		c.Sent = now
	}
	if c.RingUntil.IsZero() {
		c.RingUntil = now.Add(w.cfg.Window)
	}
	if reason := w.quiet(d, c); reason != "" {
		if flow := w.cfg.Flow(d.ID); flow == "" || flow == d.Flow {
			if obs != nil {
				obs(StepPushRefused, reason)
			}
			w.metrics.count(ErrQuiet)
			return Outcome{}, fmt.Errorf("%w: %s", ErrQuiet, reason)
		}
	}
	v := &waiter{device: d.ID, known: d.Flow, call: &c, observed: obs != nil, signal: make(chan struct{}, 1)}
	out, err := w.wait(ctx, d, v, w.cfg.Window, obs)
	w.metrics.count(err)
	return out, err
}

// Await waits up to limit for device to register, and pushes nothing (B27,
// B30). It ends with the errors that Call ends with; a limit that is over, or
// not positive, is [ErrWindow].
func (w *Waker) Await(ctx context.Context, device string, limit time.Duration) (flow string, err error) {
	return w.AwaitOther(ctx, device, "", limit)
}

// AwaitOther is Await for a device that has a flow which may be dead: only a
// registration on another one counts.
func (w *Waker) AwaitOther(ctx context.Context, device, known string, limit time.Duration) (flow string, err error) {
	if limit <= 0 {
		return "", ErrWindow
	}
	v := &waiter{device: device, known: known, signal: make(chan struct{}, 1)}
	out, err := w.wait(ctx, Device{ID: device}, v, limit, nil)
	return out.Flow, err
}

// wait enters v, sees that a push goes out, and stays until v is finished.
func (w *Waker) wait(ctx context.Context, d Device, v *waiter, limit time.Duration, obs Observer) (Outcome, error) {
	if err := w.join(d, v); err != nil {
		return Outcome{}, err
	}
	window := time.NewTimer(limit)
	defer window.Stop()
	for {
		select {
		case <-v.signal:
		case <-window.C:
			w.leave(v, ErrWindow)
		case <-ctx.Done():
			w.leave(v, context.Cause(ctx))
		}
		w.mu.Lock()
		steps, over := v.steps, v.over
		v.steps = nil
		w.mu.Unlock()
		for _, s := range steps {
			obs(s.name, s.detail)
		}
		if over {
			return v.out, v.err
		}
	}
}

// Registered tells that device registered on flow and the registrar accepted
// it. Everybody who waits for it is freed, once: a second REGISTER finds nobody
// (B20). A device that nobody waits for is no error (R9).
func (w *Waker) Registered(device, flow string) {
	w.scores.back(device, time.Now())
	w.mu.Lock()
	defer w.mu.Unlock()
	a := w.attempts[device]
	if a == nil {
		return
	}
	var freed, rest []*waiter
	for _, v := range a.waiters {
		if v.known != "" && v.known == flow {
			rest = append(rest, v)
			continue
		}
		freed = append(freed, v)
	}
	if len(freed) == 0 {
		return
	}
	a.waiters = rest
	if took := a.finish(freed, flow, nil); took > 0 {
		w.metrics.woke(a.provider, took)
	}
	if len(rest) == 0 {
		// A push that has left is let through: the client may be here because of it.
		delete(w.attempts, device)
	}
}

// Refused tells that the device's REGISTER was refused for good, by anything
// but a challenge: who waits gets [ErrRefused] (PN-12, R6).
func (w *Waker) Refused(device string) {
	w.scores.back(device, time.Now()) // awake, all the same
	w.end(device, ErrRefused)
}

// Gone tells that the device unregistered: who waits gets [ErrGone] (R17).
func (w *Waker) Gone(device string) {
	w.scores.forget(device)
	w.end(device, ErrGone)
}

func (w *Waker) end(device string, why error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	a := w.attempts[device]
	if a == nil {
		return
	}
	delete(w.attempts, device)
	a.finish(a.waiters, "", why)
	a.waiters = nil
	if a.run != nil {
		a.run.stop()
	}
}

// Waking reports whether a VoIP push is out for device and somebody waits for
// what it brings.
func (w *Waker) Waking(device string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	a := w.attempts[device]
	return a != nil && len(a.waiters) > 0 && (a.pushed || a.run != nil)
}
