package push_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sallyport/core/push"
)

// plain is a Sealer that seals nothing.
type plain struct{}

func (plain) Seal(_ string, text []byte) []byte { return text }

func (plain) Open(_ string, sealed []byte) ([]byte, bool, error) { return sealed, false, nil }

// crate is an outbox in memory, of one core.
type crate struct {
	mu     sync.Mutex
	full   error           // guarded by mu; what Add says, for its lack of room
	rows   [][]byte        // guarded by mu
	gone   map[string]bool // guarded by mu; rows that were removed
	change chan struct{}   // guarded by mu; closed when rows or cut change
	cut    bool            // guarded by mu; the turn is lost, once
}

func newCrate() *crate { return &crate{gone: map[string]bool{}, change: make(chan struct{})} }

// set changes the crate and lets those know who wait for it.
func (c *crate) set(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
	close(c.change)
	c.change = make(chan struct{})
}

// Add implements push.Outbox.
func (c *crate) Add(_ context.Context, _, _ string, row []byte) (added bool, err error) {
	c.set(func() {
		if err = c.full; err == nil {
			c.rows = append(c.rows, row)
		}
	})
	return err == nil, err
}

// Follow implements push.Outbox.
func (c *crate) Follow(ctx context.Context, row func([]byte, func()), caughtUp func()) error {
	for n := 0; ; caughtUp() {
		c.mu.Lock()
		change, cut := c.change, c.cut
		c.cut = false
		rows := c.rows[n:]
		n = len(c.rows)
		c.mu.Unlock()
		if cut {
			return errors.New("turn lost")
		}
		for _, r := range rows {
			c.mu.Lock()
			gone := c.gone[string(r)]
			c.mu.Unlock()
			if !gone {
				row(r, func() { c.set(func() { c.gone[string(r)] = true }) })
			}
		}
		if len(rows) > 0 {
			continue
		}
		select {
		case <-change:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Tell implements push.Outbox; nobody hears it but this core.
func (c *crate) Tell([]byte) error { return errors.New("nobody is there") }

// Hear implements push.Outbox.
func (c *crate) Hear(ctx context.Context, _ func([]byte)) error {
	<-ctx.Done()
	return ctx.Err()
}

var hush = []push.QuietRule{{AOR: "*", From: 22 * time.Hour, To: 7 * time.Hour}} // synctest begins at midnight

func TestNotesThatTheStoreDoesNotTakeAreBoundedInMemory(t *testing.T) {
	store := newCrate()
	store.full = errors.New("the disk is on fire")
	inWorld(t, push.Config{Outbox: store, Sealer: plain{}, Quiet: hush, Queue: 8}, nil, func(w *world) {
		refused := 0
		for i := range 40 {
			end := w.post("device"+string(rune('A'+i)), message("chat", 0))
			within(time.Second)
			if r := end(); r.Reason == "too many notes wait" {
				refused++
			}
		}
		if refused != 32 {
			t.Errorf("%d of 40 refused, want 32: there is room for 8", refused)
		}
	})
}

func TestANoteBeyondItsDevicesBoundTakesNoMemoryOfOthers(t *testing.T) {
	store := newCrate()
	store.full = push.ErrQueueFull
	inWorld(t, push.Config{Outbox: store, Sealer: plain{}, Quiet: hush}, nil, func(w *world) {
		end := w.post("bob", message("chat", 0))
		within(time.Second)
		if r := end(); r.Outcome != push.ProviderDown || r.Reason != "too many notes wait" {
			t.Errorf("ended with %+v, want that it was refused", r)
		}
		w.count("full=1")
		within(8 * time.Hour)
		if n := len(w.box.all()); n != 0 {
			t.Errorf("%d pushes of a refused note", n)
		}
	})
}

func TestMessagesAreNotCountedTwiceByACoreThatGetsItsTurnBack(t *testing.T) {
	store := newCrate()
	down := push.Result{Outcome: push.ProviderDown, Reason: "no answer"}
	inWorld(t, push.Config{Outbox: store, Sealer: plain{}}, later(down, 3), func(w *world) {
		for i := range 3 {
			w.post("bob", message("chat", i))
			within(100 * time.Millisecond)
		}
		for len(w.box.all()) < 2 { // all three were tried together
			within(time.Second)
		}
		store.set(func() { store.cut = true })
		within(time.Minute)
		all := w.box.all()
		if n := all[len(all)-1].count; n != 3 {
			t.Errorf("the last of %d attempts counts %d messages, want 3", len(all), n)
		}
	})
}

func TestAChatBehindOneThatIsDroppedIsSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, box: &mailbox{start: time.Now()}, reg: prometheus.NewRegistry()}
		w.box.answer = func(push.Notification, int) push.Result {
			time.Sleep(10 * time.Second)
			return accept()
		}
		w.Service = push.New(push.Config{Enabled: true, Workers: 1, Targets: targets}, []push.App{
			{ID: bundle, Provider: push.ProviderAPNs, TeamID: team, Sender: w.box},
		}, nil, w.reg)
		defer running(t, w.Service)()
		for _, device := range []string{"bob", "eve", "ann"} { // one is under way, two wait for its slot
			w.post(device, message("chat", 0))
			within(100 * time.Millisecond)
		}
		w.Returned("eve")
		within(time.Minute)
		if n := len(w.box.all()); n != 2 {
			t.Errorf("%d pushes, want 2: ann's waits for a slot that is free", n)
		}
	})
}

func TestAVIPIsHeardInAChatThatWaitsForTheMorning(t *testing.T) {
	quiet := []push.QuietRule{{AOR: "*", From: 22 * time.Hour, To: 7 * time.Hour, VIP: []string{"carol@example.com"}}}
	inWorld(t, push.Config{Quiet: quiet}, nil, func(w *world) {
		for i, from := range []string{"sip:eve@example.com", "sip:carol@example.com"} {
			n := message("sip:room@example.com", i)
			n.FromURI = from
			w.post("bob", n)
			within(time.Minute)
		}
		if at := w.box.at(); len(at) != 1 || at[0] != time.Minute {
			t.Errorf("pushes at %v, want one when Carol wrote", at)
		}
	})
}
