package presence

import (
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"sallyport/core/inorder"
)

// Config says how a book is kept. Zero fields take the defaults.
type Config struct {
	Mode Mode
	// Delay is how long a device may have fallen silent before others see it.
	// Negative: none. Default 10 s.
	Delay time.Duration
	// MaxSize bounds the documents that are held, in bytes. Default 64 MiB.
	MaxSize int
	// MaxDevices bounds the publications. Default 200,000.
	MaxDevices int
}

func (c Config) withDefaults() Config {
	if c.Delay == 0 {
		c.Delay = 10 * time.Second
	}
	c.Delay = max(c.Delay, 0)
	if c.MaxSize <= 0 {
		c.MaxSize = 64 << 20
	}
	if c.MaxDevices <= 0 {
		c.MaxDevices = 200_000
	}
	return c
}

// A Book holds the publications of devices. All methods are safe for concurrent
// use and none but Load and Run waits for the store. The calls for one device
// must follow one another as the requests to the server do: [Book.Map] before a
// PUBLISH of the client goes out, [Book.Answered] when it was answered;
// [Book.Decide] and [Book.Done] likewise.
type Book struct {
	// Static after New.
	cfg    Config
	store  Store
	sealer Sealer
	log    *slog.Logger

	// unsaved and changed hold one token each: something is dirty; the first of
	// due has changed.
	unsaved, changed chan struct{}

	stirred atomic.Int64 // publications that are

	mu   sync.Mutex
	of   map[string]*publication    // by device; guarded by mu
	due  inorder.Heap[*publication] // guarded by mu
	size int                        // of all Docs; guarded by mu
	// dirty are devices whose record is to be written; guarded by mu.
	dirty map[string]struct{}
	full  bool // it was said that there is no more room; guarded by mu
}

// New returns an empty book. store may be nil: nothing outlives the process.
// sealer may be nil: records are in clear. A nil log discards.
func New(cfg Config, store Store, sealer Sealer, log *slog.Logger) *Book {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Book{
		cfg: cfg.withDefaults(), store: store, sealer: sealer, log: log.With("room", "presence"),
		unsaved: make(chan struct{}, 1), changed: make(chan struct{}, 1),
		of: make(map[string]*publication), dirty: make(map[string]struct{}),
	}
}

// A Request is a PUBLISH of a client (RFC 3903 §4.1).
type Request struct {
	IfMatch string        // SIP-If-Match, "" for an initial publication
	Expires time.Duration // as asked; 0 ends the publication
	Type    string        // Content-Type
	Body    []byte        // nil for a refresh, or a removal
	Encoded bool          // Body is in a Content-Encoding: it is not looked into
}

// diff says whether the body changes what is there and is not all of it
// (RFC 5264).
func (r *Request) diff() bool { return Partial(r.Type, r.Body) }

// A Mapped is how a PUBLISH of a client goes to the server.
type Mapped struct {
	// IfMatch takes the place of its SIP-If-Match; "" leaves the header out.
	IfMatch string
	// Held: the book knows the publication, and the rest of this holds.
	Held bool
	// Type and Body take the place of the client's, where Body is not nil.
	Type string
	Body []byte
	// Stale: the client has to publish its whole document again (412): what it
	// changes a part of is not what the server holds.
	Stale bool
}

// Map says how a PUBLISH of a device goes to the server. A device has one
// publication: an initial one takes the place of an older, of which the client
// knows no more, since that would stay beside it for as long as it is kept alive.
func (b *Book) Map(device string, r Request) Mapped {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.of[device]
	if p == nil || r.IfMatch != "" && r.IfMatch != p.ClientTag && r.IfMatch != p.OlderTag {
		return Mapped{IfMatch: r.IfMatch}
	}
	if r.IfMatch == "" && r.Expires == 0 {
		return Mapped{} // means nothing (RFC 3903 §4.5)
	}
	m := Mapped{IfMatch: p.ServerTag, Held: true, Stale: r.Expires > 0 && r.diff() && p.Shown != ShownOwn}
	if p.ServerTag == "" && r.Body == nil && r.Expires > 0 {
		m.Type, m.Body = p.Type, p.Doc
		m.Stale = p.Doc == nil
	}
	return m
}

// Anew says how a PUBLISH that the server answered with 412, though it went as
// Map said, goes once more: as an initial publication, with the client's
// document or the one it published last. ok is false where the client has to be
// told 412. From now on the server is known to hold nothing.
func (b *Book) Anew(device string, r Request) (m Mapped, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.of[device]
	if p == nil || r.Expires == 0 || r.diff() || r.Body == nil && p.Doc == nil {
		b.forget(device)
		return Mapped{}, false
	}
	p.ServerTag, p.Shown = "", ShownNothing
	b.stir(p)
	b.mark(p)
	m.Held = true
	if r.Body == nil {
		m.Type, m.Body = p.Type, p.Doc
	}
	return m, true
}

// Answered notes a 2xx to a PUBLISH of a device that went as m says: its
// entity-tag, and its Expires as granted. A publication without tag is not one
// (RFC 3903 §6 step 8), and one of which only a refresh was seen is not known.
func (b *Book) Answered(device string, r Request, m Mapped, tag string, granted time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.of[device]
	switch {
	case r.Expires == 0:
		if m.Held {
			b.forget(device)
		}
		return
	case tag == "" || len(tag) > maxTag || len(r.Type) > maxType || granted <= 0 || !m.Held && (r.Body == nil || r.diff()):
		if m.Held || r.Body != nil {
			b.forget(device)
		}
		return
	case p == nil:
		if r.Body == nil {
			return
		}
		if p = b.room(device); p == nil {
			return
		}
	}
	now := time.Now()
	if r.Body != nil {
		b.document(p, &r)
		p.Shown = ShownOwn
	} else if m.Body != nil {
		p.Shown = ShownOwn
	}
	if p.OlderTag = ""; m.Held {
		p.OlderTag = strings.Clone(r.IfMatch)
	}
	p.ClientTag = strings.Clone(tag)
	p.ServerTag, p.Asked = p.ClientTag, min(r.Expires, maxExpires)
	p.Granted, p.Ends = now, now.Add(granted)
	p.muted, p.retry, p.fails = false, time.Time{}, 0
	b.stir(p)
	b.mark(p)
	b.at(p, now)
}

// room makes a new publication, if there is room for it. Under b.mu.
func (b *Book) room(device string) *publication {
	if len(b.of) >= b.cfg.MaxDevices {
		b.sayFull()
		return nil
	}
	p := &publication{Device: strings.Clone(device), index: -1}
	b.of[p.Device] = p
	return p
}

func (b *Book) sayFull() {
	if !b.full {
		b.full = true
		b.log.Warn("more is published than can be held: who sleeps from now on is not shown as away", "devices", len(b.of), "bytes", b.size)
	}
}

// document takes the client's document into a publication, or the fact that it
// is not known. Under b.mu.
func (b *Book) document(p *publication, r *Request) {
	b.size -= len(p.Doc)
	var doc []byte
	switch {
	case r.Encoded || r.diff() || len(r.Body) > MaxDocument:
	case b.size+len(r.Body) > b.cfg.MaxSize:
		b.sayFull()
	default:
		doc = append(make([]byte, 0, len(r.Body)), r.Body...)
	}
	p.setDocument(b.cfg.Mode, strings.Clone(r.Type), doc)
	b.size += len(p.Doc)
}

// forget ends a publication. Under b.mu.
func (b *Book) forget(device string) {
	p := b.of[device]
	if p == nil {
		return
	}
	b.size -= len(p.Doc)
	if p.stirred {
		b.stirred.Add(-1)
	}
	delete(b.of, device)
	b.due.Remove(p)
	b.mark(p)
}

// Look has a device's publication looked at now: something about the device has
// changed. It reports whether there is one.
func (b *Book) Look(device string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.of[device]
	if p == nil {
		return false
	}
	b.at(p, time.Now())
	return true
}

// stir notes whether a publication is stirred. Under b.mu.
func (b *Book) stir(p *publication) {
	is := p.Shown != ShownOwn || !p.quiet.IsZero()
	switch {
	case is && !p.stirred:
		b.stirred.Add(1)
	case !is && p.stirred:
		b.stirred.Add(-1)
	}
	p.stirred = is
}

// Stirred says whether anybody's publication shows, or may soon show, something
// else than the client's own document. It is cheap.
func (b *Book) Stirred() bool { return b.stirred.Load() > 0 }

// Back is [Book.Look] for a device that looks again, if its publication is one
// of those that [Book.Stirred] speaks of.
func (b *Book) Back(device string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if p := b.of[device]; p != nil && p.stirred {
		b.at(p, time.Now())
	}
}

// Len returns how many publications are held, and how many of them show
// something else than the client's own document.
func (b *Book) Len() (all, changed int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range b.of {
		if p.Shown == ShownChanged {
			changed++
		}
	}
	return len(b.of), changed
}

// Decide says what to publish for a device that was due, if anything, and looks
// at it again when there may be more to do. The step has to be told to
// [Book.Done].
func (b *Book) Decide(device string, f Facts) (s Step, ok bool) {
	now := time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.of[device]
	if p == nil {
		return Step{}, false
	}
	step, next, over := p.decide(now, f, b.cfg.Mode, b.cfg.Delay)
	b.stir(p)
	switch {
	case over:
		b.forget(device)
	case step != nil:
		return *step, true
	case !next.IsZero():
		b.at(p, next)
	}
	return Step{}, false
}

// Verdict is what the server said to a step.
type Verdict int

// The verdicts.
const (
	Accepted Verdict = iota // 2xx
	Stale                   // 412: the server does not hold what IfMatch names
	Brief                   // 423: the server wants a longer Expires
	Refused                 // any other answer that would not change, 401 and 407 among them
	Failed                  // no answer, or one that may change
)

// An Answer is the server's to a step.
type Answer struct {
	Verdict Verdict
	Tag     string        // SIP-ETag of a 2xx
	Granted time.Duration // Expires of a 2xx; Min-Expires with Brief
	Retry   time.Duration // Retry-After with Failed, 0 for none
}

// Done notes what became of a step.
func (b *Book) Done(s Step, a Answer) {
	now := time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.of[s.Device]
	if p == nil {
		return
	}
	switch {
	case a.Verdict == Accepted && a.Tag != "" && len(a.Tag) <= maxTag && a.Granted > 0:
		p.ServerTag, p.Shown = strings.Clone(a.Tag), s.shows
		p.Granted, p.Ends = now, now.Add(a.Granted)
		p.retry, p.fails = time.Time{}, 0
		b.mark(p)
	case a.Verdict == Stale && s.IfMatch != "":
		p.ServerTag, p.Shown = "", ShownNothing
		b.mark(p)
	case a.Verdict == Brief && s.whole && a.Granted > s.Expires && a.Granted <= maxExpires:
		p.Asked = a.Granted
		b.mark(p)
	case a.Verdict == Failed:
		p.retry = now.Add(max(min(failFirst<<min(p.fails, 10), failLast), min(a.Retry, failLast)))
		p.fails++
	default:
		p.muted = true
	}
	b.stir(p)
	b.at(p, now)
}
