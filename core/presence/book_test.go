package presence

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const alice = "sip:alice@example.com urn:uuid:1"

// memory is a store in memory, whose writes can be made to fail.
type memory struct {
	mu    sync.Mutex
	all   map[string][]byte
	fails bool
}

var errStore = errors.New("no disk")

func (m *memory) Load(context.Context) (map[string][]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make(map[string][]byte)
	for k, v := range m.all {
		out[k] = bytes.Clone(v)
	}
	return out, nil
}

func (m *memory) Put(key string, value []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fails {
		return errStore
	}
	if m.all == nil {
		m.all = make(map[string][]byte)
	}
	m.all[key] = value
	return nil
}

func (m *memory) Delete(key string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fails {
		return errStore
	}
	delete(m.all, key)
	return nil
}

func (m *memory) len() int { m.mu.Lock(); defer m.mu.Unlock(); return len(m.all) }

func (m *memory) fail(is bool) { m.mu.Lock(); m.fails = is; m.mu.Unlock() }

// mask is a sealer under which nothing can be read.
type mask struct{}

func (mask) Seal(name string, plain []byte) []byte {
	out := []byte(name)
	for _, b := range plain {
		out = append(out, b^0x55)
	}
	return out
}

func (mask) Open(name string, sealed []byte) ([]byte, bool, error) {
	sealed, ok := bytes.CutPrefix(sealed, []byte(name))
	if !ok {
		return nil, false, errors.New("another's")
	}
	return mask{}.Seal("", sealed), false, nil
}

// bookAt is a book in which alice has published the document under the tag "e1".
func bookAt(t *testing.T, cfg Config, store Store) *Book {
	t.Helper()
	b := New(cfg, store, mask{}, nil)
	if err := b.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	publishes(b, alice, head+tuple+tail, "e1")
	return b
}

func publishes(b *Book, device, doc, tag string) {
	r := Request{Expires: time.Hour, Type: PIDF, Body: []byte(doc)}
	b.Answered(device, r, b.Map(device, r), tag, time.Hour)
}

var asleep = Facts{Known: true, Kept: true}

// step is what the book says is to be done now.
func step(t *testing.T, b *Book, f Facts) Step {
	t.Helper()
	s, ok := b.Decide(alice, f)
	if !ok {
		t.Fatal("nothing is to be done")
	}
	return s
}

func TestTSM7_ABookOutlivesItsProcessAndTellsNobodyWhatItHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &memory{}
		b := bookAt(t, Config{Delay: -1}, store)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := b.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		b.Done(step(t, b, asleep), Answer{Tag: "e2", Granted: time.Hour})
		synctest.Wait()
		for _, value := range store.all {
			if bytes.Contains(value, []byte("alice")) {
				t.Errorf("the store can read %q", value)
			}
		}
		// It was killed; another begins.
		again := New(Config{Delay: -1}, store, mask{}, nil)
		if err := again.Load(ctx); err != nil {
			t.Fatal(err)
		}
		if _, changed := again.Len(); changed != 1 || !again.Stirred() {
			t.Error("it is not known that alice is shown as away")
		}
		if m := again.Map(alice, Request{IfMatch: "e1", Expires: time.Hour}); !m.Held || m.IfMatch != "e2" {
			t.Errorf("the client's tag maps to %+v", m)
		}
		if s := step(t, again, Facts{Known: true, Looking: true}); string(s.Body) != head+tuple+tail || s.IfMatch != "e2" {
			t.Errorf("on her return %+v", s)
		}
		// Another mode shows something else.
		other := New(Config{Mode: ModeUnavailable, Delay: -1}, store, mask{}, nil)
		if err := other.Load(ctx); err != nil {
			t.Fatal(err)
		}
		if s := step(t, other, asleep); !strings.Contains(string(s.Body), ">closed<") || s.IfMatch != "e2" {
			t.Errorf("in another mode %+v", s)
		}
		b.Decide(alice, Facts{})
		synctest.Wait()
		if store.len() != 0 {
			t.Error("what is over is still stored")
		}
		cancel()
		wg.Wait()
	})
}

func TestAStoreThatFailsIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &memory{fails: true}
		b := bookAt(t, Config{}, store)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		var err error
		wg.Go(func() { err = b.Run(ctx) })
		time.Sleep(10 * time.Second)
		store.fail(false)
		time.Sleep(saveAgain)
		synctest.Wait()
		if store.len() != 1 {
			t.Error("it is not stored")
		}
		store.fail(true)
		publishes(b, alice, head+tail, "e2")
		cancel()
		wg.Wait()
		if !errors.Is(err, errStore) {
			t.Errorf("Run ended with %v", err)
		}
	})
}

func TestRecordsThatCannotBeReadAreRemoved(t *testing.T) {
	store := &memory{}
	for i, text := range []string{"", "{", `{"v":2}`, `{"v":1}`, `{"v":1,"device":"x","client":"e","asked":1}`, `null`} {
		name := fmt.Sprint("k", i)
		_ = store.Put(name, mask{}.Seal(name, []byte(text)))
	}
	_ = store.Put("other", []byte("x"))
	b := New(Config{}, store, mask{}, nil)
	if err := b.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	if all, _ := b.Len(); all != 0 || store.len() != 0 {
		t.Errorf("%d publications, %d records", all, store.len())
	}
}

func TestABookIsBounded(t *testing.T) {
	b := New(Config{MaxDevices: 3, MaxSize: 3 * len(head+tail)}, nil, nil, nil)
	for i := range 5 {
		publishes(b, fmt.Sprint("device ", i), head+tail, "e")
	}
	if all, _ := b.Len(); all != 3 || b.size != 3*len(head+tail) {
		t.Errorf("%d publications of %d bytes", all, b.size)
	}
	publishes(b, "device 0", head+tuple+tail, "f") // no room for that
	if m := b.Map("device 0", Request{IfMatch: "f", Expires: time.Hour}); !m.Held || b.size != 2*len(head+tail) {
		t.Errorf("%+v, %d bytes", m, b.size)
	}
	publishes(b, "device 1", strings.Repeat("x", MaxDocument+1), "f")
	publishes(b, "device 1", head+tail, strings.Repeat("t", maxTag+1)) // and forgotten
	publishes(b, "device 2", head+tail, "")
	if all, _ := b.Len(); all != 1 || b.size != 0 {
		t.Errorf("%d publications of %d bytes", all, b.size)
	}
}

func TestWhatTheServerSaysOfAStep(t *testing.T) {
	whole, half := asleep, Facts{Known: true}
	for name, c := range map[string]struct {
		facts Facts
		says  Answer
		wait  time.Duration // until the next step; 0 for none
		tag   string
		body  bool
	}{
		"accepted":               {whole, Answer{Tag: "e2", Granted: time.Hour}, time.Hour - lead, "e2", false},
		"accepted for a moment":  {whole, Answer{Tag: "e2", Granted: 40 * time.Second}, 30 * time.Second, "e2", false},
		"accepted without a tag": {whole, Answer{Granted: time.Hour}, 0, "", false},
		"stale":                  {whole, Answer{Verdict: Stale}, time.Nanosecond, "", true},
		"brief":                  {whole, Answer{Verdict: Brief, Granted: 2 * time.Hour}, time.Nanosecond, "e1", true},
		"brief beyond reason":    {whole, Answer{Verdict: Brief, Granted: 48 * time.Hour}, 0, "", false},
		"brief, and it must end": {half, Answer{Verdict: Brief, Granted: 2 * time.Hour}, 0, "", false},
		"refused":                {whole, Answer{Verdict: Refused}, 0, "", false},
		"failed":                 {whole, Answer{Verdict: Failed}, failFirst, "e1", true},
		"failed, come later":     {whole, Answer{Verdict: Failed, Retry: 5 * time.Minute}, 5 * time.Minute, "e1", true},
		"failed, come never":     {whole, Answer{Verdict: Failed, Retry: 99 * time.Hour}, failLast, "e1", true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := bookAt(t, Config{Delay: -1}, nil)
				b.Done(step(t, b, c.facts), c.says)
				if c.wait > 0 {
					time.Sleep(c.wait - time.Nanosecond)
				} else {
					time.Sleep(time.Hour - time.Nanosecond)
				}
				if s, ok := b.Decide(alice, c.facts); ok && c.wait != time.Nanosecond {
					t.Fatalf("too early: %+v", s)
				}
				if c.wait == 0 {
					return
				}
				if c.wait != time.Nanosecond {
					time.Sleep(time.Nanosecond)
					if device, _ := b.Due(); device != alice {
						t.Fatal("nobody is due")
					}
				} else {
					b = bookAt(t, Config{Delay: -1}, nil)
					b.Done(step(t, b, c.facts), c.says)
				}
				if s := step(t, b, c.facts); s.IfMatch != c.tag || (s.Body != nil) != c.body {
					t.Errorf("the next step is %+v", s)
				}
			})
		})
	}
}

func TestDueIsInTheOrderOfTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(Config{Delay: time.Minute}, nil, nil, nil)
		for i := range 3 {
			publishes(b, fmt.Sprint("device ", i), head+tuple+tail, "e")
			if device, _ := b.Due(); device != fmt.Sprint("device ", i) {
				t.Fatalf("%q is due", device)
			}
			b.Decide(fmt.Sprint("device ", i), asleep)
			time.Sleep(time.Second)
		}
		for i := range 3 {
			device, wait := b.Due()
			if want := time.Minute - time.Duration(3)*time.Second + time.Duration(i)*time.Second; i == 0 && (device != "" || wait != want) {
				t.Errorf("%q, %v, want %v", device, wait, want)
			}
		}
		time.Sleep(time.Minute)
		for i := range 3 {
			if device, _ := b.Due(); device != fmt.Sprint("device ", i) {
				t.Errorf("%q is due", device)
			}
		}
		if b.Look("nobody") || !b.Look("device 1") {
			t.Error("who is looked at has a publication")
		}
		if device, _ := b.Due(); device != "device 1" {
			t.Errorf("%q is due", device)
		}
	})
}

func FuzzRecord(f *testing.F) {
	store := &memory{}
	b := New(Config{}, store, nil, nil)
	publishes(b, alice, head+tuple+tail, "e1")
	if err := b.flush(); err != nil {
		f.Fatal(err)
	}
	for _, v := range store.all {
		f.Add(v)
	}
	f.Add([]byte(`{"v":1,"device":"sip:alice@example.com urn:uuid:1","client":"e","asked":1,"shown":9}`))
	f.Fuzz(func(t *testing.T, value []byte) {
		store := &memory{all: map[string][]byte{key(alice): value}}
		b := New(Config{Delay: -1}, store, nil, nil)
		if err := b.Load(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, facts := range []Facts{asleep, {Known: true, Looking: true}, {Known: true}} {
			if s, ok := b.Decide(alice, facts); ok && s.IfMatch == "" && s.Body == nil {
				t.Fatalf("%q makes %+v", value, s)
			}
		}
	})
}
