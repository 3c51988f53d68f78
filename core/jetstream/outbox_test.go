package jetstream_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"sallyport/core/jetstream"
	"sallyport/core/push"
)

// follower takes rows from an outbox until stop is called.
type follower struct {
	stop func()

	mu     sync.Mutex
	rows   []string          // guarded by mu
	before int               // guarded by mu; rows before the word that these were all, -1 until then
	remove map[string]func() // guarded by mu
	change *sync.Cond        // of all that mu guards
	ended  bool              // guarded by mu
}

func follow(t *testing.T, o *jetstream.Outbox) *follower {
	t.Helper()
	f := &follower{before: -1, remove: map[string]func(){}}
	f.change = sync.NewCond(&f.mu)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		err := o.Follow(ctx, func(row []byte, remove func()) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.rows = append(f.rows, string(row))
			f.remove[string(row)] = remove
			f.change.Broadcast()
		}, func() {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.before = len(f.rows)
			f.change.Broadcast()
		})
		if err == nil {
			t.Error("Follow ended without an error")
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		f.ended = true
		f.change.Broadcast()
	})
	f.stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	t.Cleanup(f.stop)
	return f
}

// wait waits until ok, which runs under the lock.
func (f *follower) wait(t *testing.T, what string, ok func() bool) {
	t.Helper()
	late := time.AfterFunc(20*time.Second, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.ended = true
		f.change.Broadcast()
	})
	defer late.Stop()
	f.mu.Lock()
	defer f.mu.Unlock()
	for !ok() {
		if f.ended {
			t.Fatalf("waiting for %s: it has %d rows, %d before the word", what, len(f.rows), f.before)
		}
		f.change.Wait()
	}
}

func (f *follower) got(t *testing.T, want ...string) {
	t.Helper()
	f.wait(t, fmt.Sprintf("rows %q", want), func() bool { return f.before >= 0 && len(f.rows) >= len(want) })
	f.mu.Lock()
	defer f.mu.Unlock()
	if !slices.Equal(f.rows, want) {
		t.Errorf("rows %q, want %q", f.rows, want)
	}
}

func add(t *testing.T, o *jetstream.Outbox, device, row string) {
	t.Helper()
	if added, err := o.Add(t.Context(), device, "key of "+row, []byte(row)); err != nil || !added {
		t.Fatalf("row %s: added %v, %v", row, added, err)
	}
}

func TestRowsWaitForTheirTurnAndSurviveARestart(t *testing.T) {
	dir := t.TempDir()
	s := open(t, jetstream.Config{Dir: dir})
	o := s.Outbox()
	add(t, o, "bob", "one")
	add(t, o, "eve", "two")
	f := follow(t, o)
	f.got(t, "one", "two")
	if f.before != 2 {
		t.Errorf("told of the end after %d rows, want 2", f.before)
	}
	add(t, o, "bob", "three")
	f.got(t, "one", "two", "three")
	f.remove["one"]()
	f.remove["three"]()
	f.stop()
	f.remove["two"]() // too late: the turn is over
	closed(t, s)

	s = open(t, jetstream.Config{Dir: dir})
	defer closed(t, s)
	f = follow(t, s.Outbox())
	f.got(t, "two")
	f.remove["two"]()
	f.stop()
	f = follow(t, s.Outbox())
	f.got(t)
	f.stop()
}

func TestARowIsStoredOncePerKey(t *testing.T) {
	s := open(t, jetstream.Config{Dir: t.TempDir()})
	defer closed(t, s)
	o := s.Outbox()
	add(t, o, "bob", "one")
	if added, err := o.Add(t.Context(), "bob", "key of one", []byte("again")); err != nil || added {
		t.Errorf("added %v, %v; want neither a row nor an error", added, err)
	}
	f := follow(t, o)
	f.got(t, "one")
	f.remove["one"]()
	if added, err := o.Add(t.Context(), "bob", "key of one", []byte("again")); err != nil || added {
		t.Errorf("after it was sent: added %v, %v; want neither a row nor an error", added, err)
	}
	f.stop()
}

func TestOneDeviceCannotFillTheQueue(t *testing.T) {
	s := open(t, jetstream.Config{Dir: t.TempDir()})
	defer closed(t, s)
	o := s.Outbox()
	for i := range 1000 {
		add(t, o, "mallory", fmt.Sprint(i))
	}
	if _, err := o.Add(t.Context(), "mallory", "more", []byte("row")); !errors.Is(err, push.ErrQueueFull) {
		t.Errorf("row 1001 of a device: %v, want %v", err, push.ErrQueueFull)
	}
	add(t, o, "bob", "row")
	f := follow(t, o)
	f.wait(t, "all rows", func() bool { return f.before == 1001 })
	f.remove["500"]()
	f.stop()
	add(t, o, "mallory", "row for which there is room again")
	if _, err := o.Add(t.Context(), "bob", "huge", make([]byte, 1<<20)); err == nil {
		t.Error("a row of a megabyte was stored")
	}
}

// cluster is an external server.
func cluster(t *testing.T) jetstream.Config {
	t.Helper()
	ns, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	ns.Start()
	t.Cleanup(func() { ns.Shutdown(); ns.WaitForShutdown() })
	if !ns.ReadyForConnections(10 * time.Second) {
		t.Fatal("the server does not start")
	}
	return jetstream.Config{NATS: []string{ns.ClientURL()}}
}

func TestOneCoreAtATimeHasTheTurn(t *testing.T) {
	cfg := cluster(t)
	one, two := open(t, cfg), open(t, cfg)
	defer closed(t, one)
	defer closed(t, two)
	first := follow(t, one.Outbox())
	first.got(t)
	second := follow(t, two.Outbox())
	add(t, two.Outbox(), "bob", "from two")
	add(t, one.Outbox(), "bob", "from one")
	first.got(t, "from two", "from one")
	first.remove["from two"]()
	if len(second.rows) != 0 || second.before != -1 {
		t.Fatalf("both cores have the turn")
	}
	first.stop()
	second.got(t, "from one")
	second.stop()
}

func TestWhatWasRemovedRightBeforeTheTurnEndsIsNotSentAgain(t *testing.T) {
	s := open(t, jetstream.Config{Dir: t.TempDir()})
	defer closed(t, s)
	for round := range 5 {
		for i := range 400 {
			add(t, s.Outbox(), "bob", fmt.Sprint(round, " ", i))
		}
		f := follow(t, s.Outbox())
		f.wait(t, "all rows", func() bool { return len(f.rows) == 400 })
		for _, remove := range f.remove {
			remove()
		}
		f.stop()
		next := follow(t, s.Outbox())
		next.got(t)
		next.stop()
		if t.Failed() {
			return
		}
	}
}

func TestTheTurnOfACoreThatVanishedIsTakenOver(t *testing.T) {
	cfg := cluster(t)
	one, two := open(t, cfg), open(t, cfg)
	defer closed(t, two)
	first := follow(t, one.Outbox())
	add(t, one.Outbox(), "bob", "row")
	first.got(t, "row")
	second := follow(t, two.Outbox())
	closed(t, one) // its connection ends, and it has given nothing back
	second.got(t, "row")
	second.stop()
}

func TestWordsReachEveryCore(t *testing.T) {
	cfg := cluster(t)
	one, two := open(t, cfg), open(t, cfg)
	defer closed(t, one)
	defer closed(t, two)
	heard := make(chan string, 100)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for name, s := range map[string]*jetstream.Store{"one": one, "two": two} {
		wg.Go(func() {
			if err := s.Outbox().Hear(ctx, func(w []byte) { heard <- name + " " + string(w) }); !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
	}
	defer wg.Wait()
	defer cancel()
	want := map[string]bool{"one hello": true, "two hello": true}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for len(want) > 0 {
		select {
		case w := <-heard:
			delete(want, w)
		case <-tick.C: // a word said before one listens is lost, and may be
			if err := one.Outbox().Tell([]byte("hello")); err != nil {
				t.Fatal(err)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("not heard: %v", want)
		}
	}
}
