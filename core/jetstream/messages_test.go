package jetstream_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"sallyport/core/im"
	"sallyport/core/jetstream"
	"sallyport/core/vault"
)

// told is who hears of what the store holds.
type told struct {
	mu      sync.Mutex
	held    []im.Entry // guarded by mu
	removed []uint64   // guarded by mu
	news    chan struct{}
	caught  chan struct{}
	stop    func()
}

func hearing(t *testing.T, m *jetstream.Messages) *told {
	t.Helper()
	w := &told{news: make(chan struct{}, 1000), caught: make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- m.Follow(ctx, func(e im.Entry) {
			w.mu.Lock()
			w.held = append(w.held, e)
			w.mu.Unlock()
			w.news <- struct{}{}
		}, func(_ string, seq uint64) {
			w.mu.Lock()
			w.removed = append(w.removed, seq)
			w.mu.Unlock()
			w.news <- struct{}{}
		}, func() { close(w.caught) })
	}()
	w.stop = func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("following ended with %v", err)
		}
	}
	within(t, w.caught)
	return w
}

func within[T any](t *testing.T, c <-chan T) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(20 * time.Second):
		t.Fatal("nothing is told")
	}
}

// keys are those that were told of, in order.
func (w *told) keys() (keys []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.held {
		keys = append(keys, e.Key[21:])
	}
	return keys
}

const alicesPhone = "sip:alice@example.com <urn:uuid:1>"

func message(device string, n int) im.Entry {
	now := time.Now().Truncate(time.Millisecond)
	return im.Entry{Device: device, Key: fmt.Sprintf("%022d", n), Sender: 1<<63 + 5, Added: now, Expires: now.Add(time.Hour)}
}

func holds(t *testing.T, m *jetstream.Messages, e im.Entry, data string) (seq uint64) {
	t.Helper()
	seq, added, err := m.Add(t.Context(), e, []byte(data))
	if err != nil || !added {
		t.Fatalf("added %v, %v", added, err)
	}
	return seq
}

// both tells a story with the embedded store and with a cluster.
func both(t *testing.T, story func(t *testing.T, cfg jetstream.Config)) {
	t.Run("embedded", func(t *testing.T) { story(t, jetstream.Config{Dir: t.TempDir()}) })
	t.Run("cluster", func(t *testing.T) { story(t, cluster(t)) })
}

func TestHeldMessagesAreToldOfInTheirOrderAndThenEachThatComes(t *testing.T) {
	both(t, func(t *testing.T, cfg jetstream.Config) {
		s := open(t, cfg)
		m := s.Messages()
		first := message(alicesPhone, 1)
		one := holds(t, m, first, "one")
		two := holds(t, m, message("sip:bob@example.com <urn:uuid:2>", 2), "two")
		holds(t, m, message(alicesPhone, 3), "three")
		if removed, err := m.Remove(t.Context(), "", two); err != nil || !removed {
			t.Errorf("removed %v, %v", removed, err)
		}
		closed(t, s)

		s = open(t, cfg)
		defer func() { closed(t, s) }()
		m = s.Messages()
		w := hearing(t, m)
		defer w.stop()
		if got := w.keys(); !slices.Equal(got, []string{"1", "3"}) {
			t.Fatalf("told of %q", got)
		}
		if first.Seq = one; w.held[0] != first {
			t.Errorf("told of %+v, want %+v", w.held[0], first)
		}
		for len(w.news) > 0 {
			<-w.news
		}
		holds(t, m, message(alicesPhone, 4), "four")
		within(t, w.news)
		if got := w.keys(); !slices.Equal(got, []string{"1", "3", "4"}) {
			t.Errorf("told of %q", got)
		}
		if data, err := m.Get(t.Context(), one); err != nil || string(data) != "one" {
			t.Errorf("read %q, %v", data, err)
		}
	})
}

func TestAMessageIsAddedOncePerDeviceAndRemovedOnce(t *testing.T) {
	both(t, func(t *testing.T, cfg jetstream.Config) {
		s := open(t, cfg)
		defer closed(t, s)
		m := s.Messages()
		seq := holds(t, m, message(alicesPhone, 1), "one")
		if again, added, err := m.Add(t.Context(), message(alicesPhone, 1), []byte("one")); err != nil || added || again != seq {
			t.Errorf("again: %d, added %v, %v", again, added, err)
		}
		holds(t, m, message("sip:alice@example.com <urn:uuid:2>", 1), "a copy for her laptop")
		for i, want := range []bool{true, false} {
			if removed, err := m.Remove(t.Context(), alicesPhone, seq); err != nil || removed != want {
				t.Errorf("%d: removed %v, %v", i, removed, err)
			}
		}
		if _, err := m.Get(t.Context(), seq); !errors.Is(err, im.ErrNotHeld) {
			t.Errorf("read what is gone: %v", err)
		}
		if _, added, err := m.Add(t.Context(), message(alicesPhone, 1), []byte("one")); err != nil || added {
			t.Errorf("what was delivered is added again: %v, %v", added, err)
		}
	})
}

func TestCoresOfAClusterHearWhatTheOthersHoldAndDeliver(t *testing.T) {
	cfg := cluster(t)
	one, two := open(t, cfg), open(t, cfg)
	defer closed(t, one)
	defer closed(t, two)
	w := hearing(t, two.Messages())
	defer w.stop()
	seq := holds(t, one.Messages(), message(alicesPhone, 1), "one")
	within(t, w.news)
	if data, err := two.Messages().Get(t.Context(), seq); err != nil || string(data) != "one" {
		t.Errorf("the other core reads %q, %v", data, err)
	}
	if _, err := one.Messages().Remove(t.Context(), alicesPhone, seq); err != nil {
		t.Fatal(err)
	}
	within(t, w.news)
	if !slices.Equal(w.removed, []uint64{seq}) {
		t.Errorf("told that %v are gone, want %d", w.removed, seq)
	}
}

// A server that lags behind would say that a message which was acknowledged just
// now is not there, and its core would forget it.
func TestB21_InAClusterMessagesAreReadFromTheLeader(t *testing.T) {
	cfg := cluster(t)
	s := open(t, cfg)
	defer closed(t, s)
	conn, err := nats.Connect(cfg.NATS[0])
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	js, err := natsjs.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), "sallyport_im")
	if err != nil {
		t.Fatal(err)
	}
	if stream.CachedInfo().Config.AllowDirect {
		t.Error("any copy may answer")
	}
}

// letters is an im.Courier whose devices look, or do not.
type letters struct {
	looks im.Sight
	got   chan string
}

func (l *letters) Looks(string) im.Sight { return l.looks }
func (l *letters) Deliver(_ string, _ time.Time, data []byte, done func(im.Verdict)) bool {
	l.got <- string(data)
	done(im.Delivered)
	return true
}
func (l *letters) Ended(string, []byte, im.Verdict) {}

// heldNote is an im.Item for a device that does not look.
type heldNote struct {
	id, text string
	held     chan error
}

func (n heldNote) Send(func(im.Verdict)) bool { return false }
func (n heldNote) Message() im.Message        { return im.Message{ID: n.id, Data: []byte(n.text)} }
func (n heldNote) Held(context.Context, im.Holding) {
	n.held <- nil
}
func (n heldNote) Lost(err error) { n.held <- err }

// mailing runs a service over a store for one life of a core.
func mailing(t *testing.T, s *jetstream.Store, v *vault.Vault, l *letters, story func(*im.Service)) {
	t.Helper()
	svc := im.New(im.Config{Sealer: v}, s.Messages(), nil, nil)
	svc.Attach(l)
	ctx, cancel := context.WithCancel(t.Context())
	var run sync.WaitGroup
	run.Go(func() { _ = svc.Run(ctx) })
	defer func() { cancel(); run.Wait() }()
	within(t, svc.Ready())
	story(svc)
}

func TestNoFileShowsWhatAMessageSaysAndAnotherKeyDoesNotLoseIt(t *testing.T) {
	dir := t.TempDir()
	right, err := vault.New(vault.NewKey())
	if err != nil {
		t.Fatal(err)
	}
	wrong, err := vault.New(vault.NewKey())
	if err != nil {
		t.Fatal(err)
	}
	l := &letters{got: make(chan string, 10)}
	life := func(v *vault.Vault, looks im.Sight, story func(*im.Service)) {
		t.Helper()
		s := open(t, jetstream.Config{Dir: dir})
		defer closed(t, s)
		l.looks = looks
		mailing(t, s, v, l, story)
	}
	life(right, im.Nobody, func(svc *im.Service) {
		n := heldNote{"id-1", "geheim, sehr geheim", make(chan error, 1)}
		if err := svc.Submit(alicesPhone, n); err != nil {
			t.Fatal(err)
		}
		if err := <-n.held; err != nil {
			t.Fatal(err)
		}
	})
	found := false
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if bytes.Contains(text, []byte("geheim")) {
			t.Errorf("%s shows what a message says", path)
		}
		found = found || strings.Contains(path, "messages") && bytes.Contains(text, []byte("sip:alice@example.com"))
		return err
	})
	if err != nil || !found {
		t.Errorf("the message is in no file (%v)", err)
	}
	life(wrong, im.Itself, func(svc *im.Service) {
		svc.Flush(alicesPhone)
		for svc.Held(alicesPhone) > 0 { // until it is seen that nobody can read it
			runtime.Gosched()
		}
	})
	life(right, im.Itself, func(svc *im.Service) {
		svc.Flush(alicesPhone)
		select {
		case got := <-l.got:
			if got != "geheim, sehr geheim" {
				t.Errorf("delivered %q", got)
			}
		case <-time.After(20 * time.Second):
			t.Fatal("nothing is delivered")
		}
	})
}

// BenchmarkHoldAMessage is one message of 500 bytes on disk, for as many
// senders at a time.
func BenchmarkHoldAMessage(b *testing.B) {
	for _, senders := range []int{1, 16} {
		b.Run(fmt.Sprint(senders, "-senders"), func(b *testing.B) {
			s, err := jetstream.Open(context.Background(), jetstream.Config{Dir: b.TempDir()}, nil)
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			var wg sync.WaitGroup
			for i := range senders {
				wg.Go(func() {
					for n := i; n < b.N; n += senders {
						e := im.Entry{Device: fmt.Sprint("device", n%100), Key: fmt.Sprintf("%022d", n), Added: time.Now(), Expires: time.Now().Add(time.Hour)}
						if _, _, err := s.Messages().Add(context.Background(), e, make([]byte, 500)); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			b.ReportMetric(float64(m.HeapInuse)/1e6, "MB-heap")
		})
	}
}

// BenchmarkOpen is a store that is opened, and what it occupies while nobody
// uses it: with a cluster there is no server in the process.
func BenchmarkOpen(b *testing.B) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	goroutines := runtime.NumGoroutine()
	dir := b.TempDir()
	for b.Loop() {
		s, err := jetstream.Open(context.Background(), jetstream.Config{Dir: dir}, nil)
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapInuse-before.HeapInuse)/1e6, "MB-heap")
		b.ReportMetric(float64(runtime.NumGoroutine()-goroutines), "goroutines")
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}
