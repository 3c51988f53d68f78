package trace

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"time"
)

// Store keeps finished traces over a restart. Keys are letters, digits and
// hyphens, values JSON. Put and Delete may return before the write is done;
// only [Recorder.Run] waits for them.
type Store interface {
	Put(key string, value []byte) error
	Load(ctx context.Context) (map[string][]byte, error)
	Delete(key string) error
}

// Recorder holds the newest traces. Its methods, and those of a [Call], may be
// used by several goroutines, and but for Load and Run none waits for the
// store; a nil Recorder records nothing.
type Recorder struct {
	// Static after New.
	store Store
	max   int
	log   *slog.Logger
	// queued tells Run that there is a write; holds one token.
	queued chan struct{}

	// Guarded by mu, as is the trace in each Call.
	mu    sync.Mutex
	all   []*Call            // oldest first
	byAOR map[string][]*Call // oldest first
	queue []write            // what Run has to tell the store, oldest first
	lost  int                // writes that the queue had no room for
}

// Call is a trace under way. A nil Call takes everything and does nothing.
type Call struct {
	// Static after Begin.
	recorder *Recorder
	key      string

	// Guarded by recorder.mu.
	trace Trace
	ended bool
	kept  bool // still held by the recorder
}

// New returns a recorder that holds at most limit traces, of which 50 of any one
// AOR. A nil store keeps them in memory alone, a nil log discards. What it holds
// is stored while [Recorder.Run] runs.
func New(store Store, limit int, log *slog.Logger) *Recorder {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Recorder{
		store: store, max: max(limit, 1), log: log.With("room", "trace"),
		queued: make(chan struct{}, 1), byAOR: make(map[string][]*Call),
	}
}

// Begin opens the trace of a call to an AOR. The oldest trace makes room.
func (r *Recorder) Begin(callID, aor, from string) *Call {
	if r == nil {
		return nil
	}
	t := Trace{CallID: cut(callID), AOR: cut(canonical(aor)), From: cut(from), Started: time.Now().Round(0)}
	c := &Call{recorder: r, key: keyOf(t), trace: t}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forget(r.add(c))
	return c
}

// Step adds what happened just now; detail is a short text for people. After
// End, and beyond 64 steps, it does nothing.
func (c *Call) Step(step, detail string) {
	if c == nil {
		return
	}
	c.recorder.mu.Lock()
	defer c.recorder.mu.Unlock()
	if !c.ended && len(c.trace.Steps) < maxSteps {
		c.trace.Steps = append(c.trace.Steps, Step{At: time.Now().Round(0), Step: step, Detail: cut(detail)})
	}
}

// State sets the state in which the call found the device.
func (c *Call) State(state string) {
	if c == nil {
		return
	}
	c.recorder.mu.Lock()
	defer c.recorder.mu.Unlock()
	if !c.ended {
		c.trace.State = state
	}
}

// End closes the trace and leaves it to Run to store. outcome is how the call
// ended; failedStep names the step that kept it from being answered, "" when
// none did. Only the first End counts.
func (c *Call) End(outcome, failedStep string) {
	if c == nil {
		return
	}
	r := c.recorder
	r.mu.Lock()
	first := !c.ended
	if first {
		c.ended, c.trace.Outcome, c.trace.FailedStep = true, outcome, failedStep
	}
	if first && c.kept {
		r.put(write{key: c.key, call: c})
	}
	t := c.trace.clone()
	r.mu.Unlock()
	if first {
		r.log.Debug("call ended", "trace", t)
	}
}

// ByAOR returns copies of the traces of an AOR, newest first; "alice@host" is
// taken for sip:alice@host. The empty AOR returns those of all.
func (r *Recorder) ByAOR(aor string) []Trace {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	calls := r.all
	if aor != "" {
		calls = r.byAOR[cut(canonical(aor))]
	}
	found := make([]Trace, 0, len(calls))
	for _, c := range slices.Backward(calls) {
		found = append(found, c.trace.clone())
	}
	return found
}

// Load fills the recorder from its store, once, at the start. What is broken
// there, or more than there is room for, Run deletes from it.
func (r *Recorder) Load(ctx context.Context) error {
	if r == nil || r.store == nil {
		return nil
	}
	values, err := r.store.Load(ctx)
	if err != nil {
		return fmt.Errorf("load traces: %w", err)
	}
	var stored, gone []*Call
	for key, value := range values {
		c := &Call{recorder: r, key: key, ended: true}
		if err := json.Unmarshal(value, &c.trace); err != nil || c.trace.AOR == "" {
			r.log.Warn("broken trace dropped", "key", key, "err", err)
			gone = append(gone, c)
			continue
		}
		stored = append(stored, c)
	}
	slices.SortFunc(stored, func(a, b *Call) int { return a.trace.Started.Compare(b.trace.Started) })
	r.mu.Lock()
	for _, c := range stored {
		gone = append(gone, r.add(c)...)
	}
	slices.SortStableFunc(r.all, func(a, b *Call) int { return cmp.Compare(a.trace.Started.UnixNano(), b.trace.Started.UnixNano()) })
	r.forget(gone)
	r.mu.Unlock()
	return nil
}

// add takes a call in and returns those that must leave for it.
func (r *Recorder) add(c *Call) (gone []*Call) {
	c.kept = true
	r.all = append(r.all, c)
	r.byAOR[c.trace.AOR] = append(r.byAOR[c.trace.AOR], c)
	if mine := r.byAOR[c.trace.AOR]; len(mine) > maxPerAOR {
		gone = append(gone, r.drop(mine[0]))
	}
	if len(r.all) > r.max {
		gone = append(gone, r.drop(r.all[0]))
	}
	return gone
}

func (r *Recorder) drop(c *Call) *Call {
	c.kept = false
	if i := slices.Index(r.all, c); i >= 0 {
		r.all = slices.Delete(r.all, i, i+1)
	}
	mine := r.byAOR[c.trace.AOR]
	if i := slices.Index(mine, c); i >= 0 {
		mine = slices.Delete(mine, i, i+1)
	}
	if len(mine) == 0 {
		delete(r.byAOR, c.trace.AOR)
	} else {
		r.byAOR[c.trace.AOR] = mine
	}
	return c
}

func (t Trace) clone() Trace {
	t.Steps = append(make([]Step, 0, len(t.Steps)), t.Steps...) // never nil: the API says [], not null
	return t
}

// keyOf names a trace in the store: by time, so that a listing is in order,
// and by a hash, since a Call-ID may hold what a key may not.
func keyOf(t Trace) string {
	sum := sha256.Sum256([]byte(t.CallID + "\n" + t.AOR + "\n" + strconv.FormatInt(t.Started.UnixNano(), 10)))
	return t.Started.UTC().Format("20060102T150405") + "-" + hex.EncodeToString(sum[:8])
}
