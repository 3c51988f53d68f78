package trace_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"sallyport/core/trace"
)

// memory is a store that outlives a recorder.
type memory struct {
	mu   sync.Mutex
	data map[string][]byte
	fail error
}

func (m *memory) Put(key string, value []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.data[key] = value
	return m.fail
}

func (m *memory) Load(context.Context) (map[string][]byte, error) { return m.data, m.fail }

func (m *memory) Delete(key string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.data, key)
	return m.fail
}

func newMemory() *memory { return &memory{data: map[string][]byte{}} }

// written lets Run tell the store what is queued, and returns its last word.
func written(r *trace.Recorder) error {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return r.Run(ctx)
}

func TestATraceReadsAsTheAPIPromises(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := trace.New(nil, 10, nil)
		c := r.Begin("id1@pbx", "sip:alice@Example.com", "sip:bob@example.com")
		c.Step(trace.StepInvite, "")
		c.State("suspended")
		c.Step(trace.StepPushSent, "apns voip")
		time.Sleep(13 * time.Second)
		c.Step(trace.StepWindowOver, "the device did not register")
		c.End("480", trace.StepWindowOver)
		c.Step(trace.StepRinging, "too late")
		c.End("answered", "")
		got, err := json.Marshal(r.ByAOR("alice@example.COM"))
		if err != nil {
			t.Fatal(err)
		}
		want := `[{"call_id":"id1@pbx","aor":"sip:alice@example.com","from":"sip:bob@example.com","started":"2000-01-01T00:00:00Z",` +
			`"state":"suspended","outcome":"480","failed_step":"window_over","steps":[` +
			`{"at":"2000-01-01T00:00:00Z","step":"invite","detail":""},` +
			`{"at":"2000-01-01T00:00:00Z","step":"push_sent","detail":"apns voip"},` +
			`{"at":"2000-01-01T00:00:13Z","step":"window_over","detail":"the device did not register"}]}]`
		if text := strings.ReplaceAll(string(got), offset(), "Z"); text != want {
			t.Errorf("got  %s\nwant %s", text, want)
		}
	})
}

// offset is how the local zone ends a time in JSON.
func offset() string { return time.Date(2000, 1, 1, 0, 0, 0, 0, time.Local).Format("Z07:00") }

func TestNewestFirstAndEmptyIsAList(t *testing.T) {
	r := trace.New(nil, 10, nil)
	for _, id := range []string{"1", "2", "3"} {
		r.Begin(id, "sip:alice@example.com", "")
	}
	r.Begin("other", "sip:bob@example.com", "")
	if got := ids(r.ByAOR("sip:alice@example.com")); got != "3 2 1" {
		t.Errorf("order %q", got)
	}
	if got := ids(r.ByAOR("")); got != "other 3 2 1" {
		t.Errorf("all: %q", got)
	}
	if got, _ := json.Marshal(r.ByAOR("sip:nobody@example.com")); string(got) != "[]" {
		t.Errorf("nothing is %s, want []", got)
	}
	if steps, _ := json.Marshal(r.ByAOR("sip:bob@example.com")[0].Steps); string(steps) != "[]" {
		t.Errorf("no steps are %s, want []", steps)
	}
}

func ids(traces []trace.Trace) string {
	var all []string
	for _, t := range traces {
		all = append(all, t.CallID)
	}
	return strings.Join(all, " ")
}

func TestMemoryIsBounded(t *testing.T) {
	store := newMemory()
	r := trace.New(store, 100, nil)
	for i := range 300 {
		c := r.Begin(fmt.Sprint(i), fmt.Sprintf("sip:u%d@example.com", i), strings.Repeat("ü", 1000))
		for range 1000 {
			c.Step(trace.StepState, strings.Repeat("x", 5000))
		}
		c.End("480", "")
	}
	all := r.ByAOR("")
	if len(all) != 100 || all[0].CallID != "299" {
		t.Errorf("%d traces, newest %s", len(all), all[0].CallID)
	}
	if err := written(r); err != nil || len(store.data) != 100 {
		t.Errorf("%d traces stored, want the 100 that memory holds", len(store.data))
	}
	if n := len(all[0].Steps); n != 64 {
		t.Errorf("%d steps", n)
	}
	if n := len(all[0].Steps[0].Detail); n != 256 {
		t.Errorf("detail of %d bytes", n)
	}
	if from := all[0].From; len(from) > 256 || !strings.HasSuffix(from, "ü…") {
		t.Errorf("caller of %d bytes, ends in %q", len(from), from[len(from)-6:])
	}
}

func TestOneAORUnderAttackLeavesRoomForOthers(t *testing.T) {
	r := trace.New(nil, 100, nil)
	r.Begin("precious", "sip:bob@example.com", "")
	for i := range 1000 {
		r.Begin(fmt.Sprint(i), "sip:alice@example.com", "")
	}
	if got := ids(r.ByAOR("sip:bob@example.com")); got != "precious" {
		t.Errorf("bob's trace: %q", got)
	}
	if n := len(r.ByAOR("sip:alice@example.com")); n != 50 {
		t.Errorf("alice has %d traces", n)
	}
}

func TestARestartKeepsEndedTraces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newMemory()
		before := trace.New(store, 10, nil)
		for _, id := range []string{"1", "2", "3"} {
			c := before.Begin(id, "sip:alice@example.com", "sip:bob@example.com")
			c.Step(trace.StepInvite, "a/b c")
			c.End("answered", "")
			time.Sleep(time.Second)
		}
		before.Begin("under way", "sip:alice@example.com", "")
		if err := written(before); err != nil || len(store.data) != 3 {
			t.Errorf("%d traces stored, %v", len(store.data), err)
		}
		store.data["broken"] = []byte("{")
		for key := range store.data {
			if !regexp.MustCompile(`^[A-Za-z0-9-]+$`).MatchString(key) {
				t.Errorf("key %q does not fit a key-value bucket", key)
			}
		}
		after := trace.New(store, 2, nil)
		if err := after.Load(t.Context()); err != nil {
			t.Fatal(err)
		}
		got, want := after.ByAOR("sip:alice@example.com"), before.ByAOR("sip:alice@example.com")[1:3]
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("after a restart (-want +got):\n%s", diff)
		}
		if err := written(after); err != nil || len(store.data) != 2 {
			t.Errorf("%d values left in the store, want 2", len(store.data))
		}
	})
}

func TestAStoreThatFailsIsLoggedAndHarmsNoCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		store := newMemory()
		store.fail = errors.New("disk full")
		r := trace.New(store, 1, slog.New(slog.NewTextHandler(&out, nil)))
		ended := running(r)
		r.Begin("1", "sip:alice@example.com", "").End("answered", "")
		synctest.Wait()
		r.Begin("2", "sip:alice@example.com", "")
		synctest.Wait()
		if got := strings.Count(out.String(), "disk full"); got != 2 {
			t.Errorf("logged %d times:\n%s", got, out.String())
		}
		if err := ended(); err != nil {
			t.Errorf("Run: %v, with nothing left to store", err)
		}
		r.Begin("3", "sip:alice@example.com", "").End("answered", "")
		if err := written(r); err != nil || strings.Count(out.String(), "disk full") != 3 {
			t.Errorf("Run: %v, logged:\n%s", err, out.String())
		}
		if err := r.Load(t.Context()); !errors.Is(err, store.fail) {
			t.Errorf("Load: %v", err)
		}
	})
}

// running runs r, until ended is called.
func running(r *trace.Recorder) (ended func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- r.Run(ctx) }()
	return func() error { cancel(); return <-done }
}

// slow is a store that has lost its cluster.
type slow struct{ *memory }

func (s slow) Put(key string, value []byte) error {
	time.Sleep(5 * time.Second)
	return s.memory.Put(key, value)
}

func (s slow) Delete(key string) error {
	time.Sleep(5 * time.Second)
	return s.memory.Delete(key)
}

func TestNoCallWaitsForTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newMemory()
		r := trace.New(slow{store}, 2, nil)
		ended := running(r)
		start := time.Now()
		for i := range 10000 {
			r.Begin(fmt.Sprint(i), fmt.Sprintf("sip:u%d@example.com", i), "").End("answered", "")
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("calls waited %v", took)
		}
		start = time.Now()
		if err := ended(); err != nil || time.Since(start) > 15*time.Second {
			t.Errorf("Run: %v after %v", err, time.Since(start))
		}
		if len(store.data) > 2 {
			t.Errorf("%d traces stored, want no more than memory holds", len(store.data))
		}
	})
}

func TestTracesRedactThemselvesInLogs(t *testing.T) {
	var out bytes.Buffer
	tr := trace.Trace{CallID: "c1", AOR: "sip:alice@example.com", From: "sip:bob@example.net", Steps: []trace.Step{{Step: "invite", Detail: "from 192.0.2.7"}}}
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "trace", tr)
	for _, secret := range []string{"alice", "bob", "192.0.2.7"} {
		if strings.Contains(out.String(), secret) {
			t.Errorf("%q is in the log: %s", secret, out.String())
		}
	}
}

func TestNilRecordsNothing(t *testing.T) {
	var r *trace.Recorder
	c := r.Begin("1", "sip:alice@example.com", "")
	c.Step(trace.StepInvite, "")
	c.State("gone")
	c.End("480", "")
	if got := r.ByAOR(""); len(got) != 0 || r.Load(t.Context()) != nil {
		t.Errorf("a nil recorder holds %v", got)
	}
}

func TestManyGoroutines(t *testing.T) {
	r := trace.New(newMemory(), 20, nil)
	defer func(ended func() error) { _ = ended() }(running(r))
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 100 {
				c := r.Begin(fmt.Sprint(i, j), "sip:alice@example.com", "")
				go c.Step(trace.StepRegistered, "")
				c.End("answered", "")
				r.ByAOR("")
			}
		})
	}
	wg.Wait()
	if n := len(r.ByAOR("")); n != 20 {
		t.Errorf("%d traces", n)
	}
}
