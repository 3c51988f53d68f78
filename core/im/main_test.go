package im_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"sallyport/core/im"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// house is a service, and the devices that messages are for. A device is on a
// list with what it answers, or does not look.
type house struct {
	t    *testing.T
	s    *im.Service
	cfg  im.Config
	open im.Store
	stop func()

	mu sync.Mutex
	// Guarded by mu.
	sight map[string]im.Sight
	say   map[string]im.Verdict // what a device answers; Delivered if nothing is said
	slow  map[string]bool       // devices that answer when told to
	deaf  int                   // so often nothing can be sent to who looks
	late  []func(im.Verdict)    // of those
	heard []string              // what was sent, as "device: text"
	ended []string
}

func inHouse(t *testing.T, cfg im.Config, store im.Store, story func(h *house)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h := &house{t: t, cfg: cfg, open: store, sight: map[string]im.Sight{}, say: map[string]im.Verdict{}, slow: map[string]bool{}}
		h.starts()
		story(h)
		h.stop()
	})
}

func (h *house) starts() {
	h.s = im.New(h.cfg, h.open, nil, prometheus.NewRegistry())
	h.s.Attach(h)
	ctx, cancel := context.WithCancel(context.Background())
	var run sync.WaitGroup
	run.Go(func() {
		if err := h.s.Run(ctx); err != nil {
			h.t.Error(err)
		}
	})
	h.stop = func() { cancel(); run.Wait() }
	synctest.Wait()
}

// restarts is a new life of the core over the same store.
func (h *house) restarts() { h.stop(); h.starts() }

func (h *house) looks(device string, s im.Sight) {
	h.mu.Lock()
	h.sight[device] = s
	h.mu.Unlock()
	h.s.Flush(device)
	synctest.Wait()
}

// isDeaf has nothing sent, so often, to who looks, and returns how often is left
// of before.
func (h *house) isDeaf(times int) (left int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	left, h.deaf = h.deaf, times
	return left
}

// Looks implements im.Courier.
func (h *house) Looks(device string) im.Sight {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.sight[device]
}

// Deliver implements im.Courier.
func (h *house) Deliver(device string, _ time.Time, data []byte, done func(im.Verdict)) bool {
	return h.sends(device, string(data), done)
}

// Ended implements im.Courier.
func (h *house) Ended(device string, data []byte, v im.Verdict) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ended = append(h.ended, fmt.Sprintf("%s: %s %d", device, data, v))
}

func (h *house) sends(device, text string, done func(im.Verdict)) bool {
	h.mu.Lock()
	if h.sight[device] == im.Nobody || h.deaf > 0 {
		h.deaf = max(h.deaf-1, 0)
		h.mu.Unlock()
		return false
	}
	h.heard = append(h.heard, device+": "+text)
	v, ok := h.say[device]
	if !ok {
		v = im.Delivered
	}
	if h.slow[device] {
		h.late = append(h.late, done)
		h.mu.Unlock()
		return true
	}
	h.mu.Unlock()
	done(v)
	return true
}

// hears says what was sent since it was asked last.
func (h *house) hears(want ...string) {
	h.t.Helper()
	synctest.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	if !slices.Equal(h.heard, want) {
		h.t.Errorf("sent %q, want %q", h.heard, want)
	}
	h.heard = nil
}

// item is a message that comes.
type item struct {
	h            *house
	device, text string
	m            im.Message
	got          chan string // "fresh", "again", "over", "lost: …", or what Send led to
}

func (h *house) message(device, text string, change ...func(*im.Message)) *item {
	it := &item{h: h, device: device, text: text, m: im.Message{ID: text, Data: []byte(text)}, got: make(chan string, 2)}
	for _, f := range change {
		f(&it.m)
	}
	return it
}

func from(sender string) func(*im.Message) { return func(m *im.Message) { m.Sender = sender } }

// comes has messages arrive, and wants the same to become of each.
func (h *house) comes(device, texts, want string, change ...func(*im.Message)) {
	h.t.Helper()
	for _, text := range strings.Fields(texts) {
		it := h.message(device, text, change...)
		if err := h.s.Submit(device, it); err != nil {
			h.t.Fatal(err)
		}
		synctest.Wait()
		select {
		case got := <-it.got:
			if got != want {
				h.t.Errorf("%s for %s is %s, want %s", text, device, got, want)
			}
		default:
			if want != "waiting" {
				h.t.Errorf("%s for %s is not settled, want %s", text, device, want)
			}
		}
	}
}

func (it *item) Send(done func(im.Verdict)) bool {
	if it.h.Looks(it.device) != im.Itself {
		return false
	}
	return it.h.sends(it.device, it.text, func(v im.Verdict) {
		if v != im.Kept {
			it.got <- "sent"
		}
		done(v)
	})
}
func (it *item) Message() im.Message { return it.m }
func (it *item) Held(_ context.Context, h im.Holding) {
	it.got <- map[im.Holding]string{im.Fresh: "fresh", im.Again: "again", im.Over: "over"}[h]
}
func (it *item) Lost(err error) { it.got <- "lost: " + err.Error() }

// moody is a store that fails when told to.
type moody struct {
	im.Store
	err    error
	during func() // called once a message is stored, before that is told
}

func (m *moody) Add(ctx context.Context, e im.Entry, data []byte) (uint64, bool, error) {
	if m.err != nil {
		return 0, false, m.err
	}
	seq, added, err := m.Store.Add(ctx, e, data)
	if m.during != nil {
		m.during()
	}
	return seq, added, err
}
