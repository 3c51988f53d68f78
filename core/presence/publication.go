package presence

import (
	"bytes"
	"mime"
	"time"
)

// Mode is what others see of a device that sleeps.
type Mode int

// The modes.
const (
	ModeAway        Mode = iota // its own document, with away: see [Away]
	ModeKeep                    // its own document
	ModeUnavailable             // its own document, closed: see [Closed]
)

// Bounds and rhythms.
const (
	// MaxDocument is the size of the largest document that is kept, in bytes. A
	// larger one cannot be changed; its publication is refreshed like others.
	MaxDocument = 16 << 10
	// maxTag bounds an entity-tag, maxType a content type.
	maxTag, maxType = 256, 256
	// burst and pace bound how often we publish for one device: so many at once,
	// and then one each pace.
	burst = 4
	pace  = 5 * time.Second
	// failFirst is how long after a failure it is tried again, doubled each time
	// up to failLast.
	failFirst = 30 * time.Second
	failLast  = 10 * time.Minute
	// maxExpires bounds what is asked for; a server that insists on more is not
	// served (RFC 3903 §4.1, 423).
	maxExpires = 24 * time.Hour
	// lead is how long before its end a publication is refreshed, at most.
	lead = time.Minute
)

// Shown says what the server holds of a device.
type Shown int

// What the server may hold.
const (
	ShownOwn     Shown = iota // the client's own document
	ShownChanged              // that document, as the mode changes it
	ShownNothing              // the server has lost it (412)
)

// A publication is one device's at the server. Guarded by Book.mu.
type publication struct {
	// Kept in the store.
	Device    string        `json:"device"`
	Type      string        `json:"type,omitempty"`   // of Doc
	Doc       []byte        `json:"doc,omitempty"`    // the client's own; nil where it is not known
	ClientTag string        `json:"client"`           // the entity-tag that the client knows
	OlderTag  string        `json:"older,omitempty"`  // the one before, of which a lost answer would leave the client
	ServerTag string        `json:"server,omitempty"` // the one that the server knows; "" with ShownNothing
	Shown     Shown         `json:"shown,omitempty"`
	Asked     time.Duration `json:"asked"` // the lifetime that the client wants
	Granted   time.Time     `json:"granted"`
	Ends      time.Time     `json:"ends"` // at the server

	// stirred: others see, or may soon see, something else than the client's own.
	// Counted in Book.stirred.
	stirred bool
	// alterable: the mode has something to change in Doc. Follows from Doc.
	alterable bool
	// quiet is when the device was first seen not to look; zero while it looks.
	quiet time.Time
	// muted: the server let us not publish; the client's next word may change that.
	muted bool
	// room is when the whole burst is there again.
	room  time.Time
	retry time.Time // not before that
	fails int

	due   time.Time // when it is to be looked at
	index int       // in Book.due; -1 for not there
}

// changed is the document as the mode has it for a sleeping device.
func (m Mode) changed(kind string, doc []byte) []byte {
	change := Away
	switch m {
	case ModeKeep:
		return doc
	case ModeUnavailable:
		change = Closed
	case ModeAway:
	}
	if media, _, err := mime.ParseMediaType(kind); err != nil || media != PIDF {
		return doc
	}
	if out, err := change(doc); err == nil {
		return out
	}
	return doc
}

// setDocument takes a document of the client's.
func (p *publication) setDocument(m Mode, kind string, doc []byte) {
	p.Type, p.Doc = kind, doc
	p.alterable = doc != nil && !bytes.Equal(m.changed(kind, doc), doc)
}

// Facts are what is known of a device at one moment.
type Facts struct {
	// Known: the device is registered, or kept. One that is not has left.
	Known bool
	// Looking: a live flow that answers, not reported inactive.
	Looking bool
	// Told: the client itself said that nobody looks. No delay then.
	Told bool
	// Kept: the device can be woken, so it comes back: its publication is kept
	// alive. That of another lapses.
	Kept bool
}

// A Step is one PUBLISH on a device's behalf.
type Step struct {
	Device  string
	IfMatch string        // SIP-If-Match; "" publishes anew
	Type    string        // Content-Type of Body
	Body    []byte        // nil refreshes what is there (RFC 3903 §4.3)
	Expires time.Duration // whole seconds

	shows Shown
	whole bool // Expires is what the client wants
}

// decide says what to do about a publication now, and when to look again; a
// zero time is never. over says that it has ended.
func (p *publication) decide(now time.Time, f Facts, mode Mode, delay time.Duration) (s *Step, next time.Time, over bool) {
	if f.Looking {
		p.quiet = time.Time{}
	} else if p.quiet.IsZero() || p.quiet.After(now) {
		p.quiet = now
	}
	kept := !f.Looking && f.Kept
	if !f.Known || !kept && !now.Before(p.Ends) || p.ServerTag == "" && p.Doc == nil {
		return nil, next, true
	}
	if p.muted {
		return nil, p.Ends, !now.Before(p.Ends)
	}
	want := ShownOwn
	if !f.Looking && p.alterable {
		at := p.quiet
		if !f.Told {
			at = at.Add(delay)
		}
		switch {
		case !now.Before(at):
			want = ShownChanged
		case p.Shown == ShownChanged: // as it was before this core started
			want = ShownChanged
		default:
			next = at
		}
	}
	refresh := p.Ends.Add(-min(lead, p.Ends.Sub(p.Granted)/4))
	switch {
	case want != p.Shown:
	case !kept:
		return nil, sooner(next, p.Ends), false
	case now.Before(refresh):
		return nil, sooner(next, refresh), false
	}
	if at := p.free(); now.Before(at) {
		return nil, sooner(next, at), false
	}
	return p.step(now, want, kept || f.Looking, mode)
}

// step is the PUBLISH that shows what is wanted, for the whole time that the
// client asks for, or for what is left.
func (p *publication) step(now time.Time, want Shown, whole bool, mode Mode) (s *Step, next time.Time, over bool) {
	s = &Step{Device: p.Device, IfMatch: p.ServerTag, Expires: p.Asked, shows: want, whole: whole}
	if !whole {
		if s.Expires = p.Ends.Sub(now).Truncate(time.Second); s.Expires < pace {
			return nil, p.Ends, false
		}
	}
	if want != p.Shown || p.ServerTag == "" {
		s.Type, s.Body = p.Type, p.Doc
		if want == ShownChanged {
			s.Body = mode.changed(p.Type, p.Doc)
		}
	}
	if p.room.Before(now) {
		p.room = now
	}
	p.room = p.room.Add(pace)
	return s, next, false
}

// free is when the next PUBLISH may go.
func (p *publication) free() time.Time {
	at := p.room.Add(-(burst - 1) * pace)
	if p.retry.After(at) {
		at = p.retry
	}
	return at
}

// sooner is the earlier of two times of which a zero one is none.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
