package im

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Config says how long and how much is held. Zero fields take the defaults.
type Config struct {
	// Keep is how long a message waits for its reader, unless it expires before.
	// Default 7 days.
	Keep time.Duration
	// PerAOR and PerDevice are how many messages are held at most. One more is
	// refused, and those that are held stay, but for copies that another device
	// of the user has had. Defaults 2000 and 1000.
	PerAOR, PerDevice int
	// PerSender is how many of those for a device may be of one sender, so that
	// no stranger fills a user's box. Default half of PerDevice.
	PerSender int
	// Sealer seals messages in the store; nil leaves them in clear, which is for
	// stores that end with the process.
	Sealer Sealer
}

// MaxSize bounds one message, in bytes: what an edge lets through, and room for
// what a core notes with it.
const MaxSize = 80 << 10

// Bounds of messages that are being handled, in memory.
const (
	maxLine  = 256    // of one device
	maxLines = 16_384 // of all
)

// Message is what is held.
type Message struct {
	// ID names the message at its source: the same ID for the same device is the
	// same message, and for another device of the user a copy of it.
	ID     string
	Sender string // who sent it, for [Config.PerSender]; "" is not counted
	Data   []byte // opaque
	// Added is when it came; the zero time is now.
	Added time.Time
	// Expires is when nobody wants it any more; the zero time stands for
	// [Config.Keep] after Added, which is the latest.
	Expires time.Time
}

// Verdict is what became of a message that was sent.
type Verdict int

// The verdicts.
const (
	// Kept: no final answer, or one that says "not now". The message is held and
	// sent again.
	Kept Verdict = iota
	// Delivered: the device has it.
	Delivered
	// Refused: the device does not want it.
	Refused
	// Elsewhere: the device is gone, and another of the user's has had a copy. The
	// message waits for its own device only.
	Elsewhere
)

// Holding is how a message is held that was not taken.
type Holding int

// The holdings.
const (
	// Fresh: on disk, since now.
	Fresh Holding = iota
	// Again: it was on disk already, and is still.
	Again
	// Over: it was delivered a while ago, and is not held again.
	Over
)

// Sight is who looks for a device.
type Sight int

// The sights.
const (
	// Nobody looks.
	Nobody Sight = iota
	// Another device of the user looks; the device itself is gone.
	Another
	// Itself: the device looks.
	Itself
)

// An Item is a message that has just come. Its methods are called by one
// goroutine, one after the other.
type Item interface {
	// Send sends the message if its device looks, and has done called, once, with
	// what became of it; the sender has been answered unless that is Kept. It
	// reports false, and calls nothing, if the device does not look.
	Send(done func(Verdict)) bool
	// Message is what is to be held, if it must be.
	Message() Message
	// Held says that the message is on disk, or needs not be. It may wait for
	// something as fast as a disk.
	Held(ctx context.Context, h Holding)
	// Lost says that the message is neither delivered nor held.
	Lost(err error)
}

// A Courier sends what was held.
type Courier interface {
	// Looks says who can be sent now what is held for a device.
	Looks(device string) Sight
	// Deliver sends a message, and has done called, once, with what became of it.
	// It reports false, and calls nothing, if nobody looks.
	Deliver(device string, added time.Time, data []byte, done func(Verdict)) bool
	// Ended hears of a message that is held no longer, and was delivered to none of
	// the user's devices: it was Refused, or, with Kept, has expired. Of several
	// cores one hears it.
	Ended(device string, data []byte, v Verdict)
}

// Service holds messages. All methods are safe for concurrent use.
type Service struct {
	// Static after New and Attach.
	cfg     Config
	store   Store
	courier Courier
	log     *slog.Logger
	m       *metrics
	ctx     context.Context // of the workers; ends with Run
	stop    context.CancelFunc
	ready   chan struct{}
	readied sync.Once
	workers sync.WaitGroup // Add under mu while !closed
	total   atomic.Int64   // messages held

	mu sync.Mutex
	// Guarded by mu.
	boxes  map[string]*box            // by device; none without held messages or a worker
	aors   map[string]map[string]*box // the same by AOR
	counts map[string]int             // messages held, or being stored, of each AOR
	lined  int                        // items in all lines
	seen   uint64                     // up to here the store has told what it holds
	gone   map[uint64]struct{}        // removed here, and still to come in what the store tells
	recent recent
	closed bool
}

// New returns a service that keeps messages in store. log and reg may be nil.
// Before the first message, [Service.Attach] must have been called;
// [Service.Run] must run.
func New(cfg Config, store Store, log *slog.Logger, reg prometheus.Registerer) *Service {
	if cfg.Keep <= 0 {
		cfg.Keep = 7 * 24 * time.Hour
	}
	if cfg.PerAOR <= 0 {
		cfg.PerAOR = 2000
	}
	if cfg.PerDevice <= 0 {
		cfg.PerDevice = 1000
	}
	if cfg.PerSender <= 0 {
		cfg.PerSender = max(1, cfg.PerDevice/2)
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	ctx, stop := context.WithCancel(context.Background())
	s := &Service{
		cfg: cfg, store: store, log: log.With("room", "im"), ctx: ctx, stop: stop, ready: make(chan struct{}),
		boxes: make(map[string]*box), aors: make(map[string]map[string]*box), counts: make(map[string]int), gone: make(map[uint64]struct{}),
	}
	s.m = newMetrics(s, reg)
	return s
}

// Attach hands over who sends what was held.
func (s *Service) Attach(c Courier) { s.courier = c }

// Ready is closed once it is known what the store holds.
func (s *Service) Ready() <-chan struct{} { return s.ready }

// Submit takes a message for a device. It does not block. Errors are [ErrBusy]
// and [ErrStopped]; then the item hears nothing.
func (s *Service) Submit(device string, it Item) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrStopped
	}
	b := s.box(device)
	if len(b.line) >= maxLine || s.lined >= maxLines {
		s.tidy(b)
		s.m.refused.WithLabelValues("busy").Inc()
		return ErrBusy
	}
	b.line = append(b.line, it)
	s.lined++
	s.work(b)
	return nil
}

// Flush says that a device has come back: what is held for it is sent. It does
// not block.
func (s *Service) Flush(device string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b := s.boxes[device]; b != nil && len(b.held) > 0 && !s.closed {
		b.again, b.tries, b.rests = true, 0, time.Time{}
		s.work(b)
	}
}

// Look says that a device may look, as far as one can tell: Flush for one that
// has not just failed to take a message. It does not block.
func (s *Service) Look(device string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b := s.boxes[device]; b != nil && len(b.held) > 0 {
		s.look(b)
	}
}

// look is Look under mu.
func (s *Service) look(b *box) {
	if !s.closed && !b.working && !time.Now().Before(b.rests) {
		s.work(b)
	}
}

// Empty says whether nothing is held for anybody.
func (s *Service) Empty() bool { return s.total.Load() == 0 }

// Held is how many messages are held for a device.
func (s *Service) Held(device string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b := s.boxes[device]; b != nil {
		return len(b.held)
	}
	return 0
}

// Boxes are the devices of an AOR that messages are held for.
func (s *Service) Boxes(aor string) (devices []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for device, b := range s.aors[aor] {
		if len(b.held) > 0 {
			devices = append(devices, device)
		}
	}
	return devices
}

// Known says whether a device has had a message lately, or it is held for it.
func (s *Service) Known(device, id string) bool {
	k := keyOf(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.recent.has(markOf(device, k), time.Now()) {
		return true
	}
	b := s.boxes[device]
	return b != nil && b.find(k) >= 0
}

// Had says whether a device has had a message lately.
func (s *Service) Had(device, id string) bool { return s.known(device, keyOf(id)) }

// Got says that a device has had a message that was held for another.
func (s *Service) Got(device, id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.had(device, keyOf(id))
}

// Delivered says that the device has got a message after all: it answered one
// late, which is held since. From now on it is not sent again.
func (s *Service) Delivered(device, id string) {
	s.late(device, keyOf(id), Delivered, func(e entry) { s.erase(e.seq, device) })
}

// Refused is Delivered for one that the device does not want: its courier hears
// that it has ended.
func (s *Service) Refused(device, id string) {
	s.late(device, keyOf(id), Refused, func(e entry) {
		if data, ok := s.read(device, e); ok && s.erase(e.seq, device) && !e.taken {
			s.courier.Ended(device, data, Refused)
		}
	})
}

func (s *Service) late(device string, k key, v Verdict, end func(entry)) {
	s.note(device, k, v)
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.boxes[device]
	if b == nil || s.closed {
		return
	}
	if i := b.find(k); i >= 0 {
		e := b.held[i]
		s.leave(device, e.seq)
		s.m.ended.WithLabelValues(map[Verdict]string{Delivered: "delivered", Refused: "refused"}[v]).Inc()
		s.workers.Go(func() { end(e) })
	}
}
