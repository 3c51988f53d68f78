package location

import (
	"container/heap"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"sync"
	"time"
)

// record is a device as the store holds it. Bindings carry the id of their
// last flow.
type record struct {
	Version  int       `json:"v"`
	AOR      string    `json:"aor"`
	Instance string    `json:"instance"`
	Class    string    `json:"class,omitempty"`
	Keep     time.Time `json:"keep"`
	LastWake time.Time `json:"last_wake,omitzero"`
	Tokens   []Token   `json:"tokens,omitempty"`
	Bindings []Binding `json:"bindings"`
}

const recordVersion = 1

// saveEvery is how long Run gathers what is to be stored, and waits after the
// store failed.
const saveEvery = time.Second

// key is the device's key in the store. It is a hash because an instance may
// hold any character, and so that the names of keys tell nobody who is
// registered.
func (id DeviceID) key() string {
	sum := sha256.Sum256([]byte(id.AOR + "\x00" + id.Instance))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// Load brings back what the store holds. Every binding is flow-less afterwards,
// until Reattach. Records that cannot be read are logged and left alone. Load
// belongs before the first use of l.
func (l *Location) Load(ctx context.Context) error {
	all, err := l.store.Load(ctx)
	if err != nil {
		return fmt.Errorf("load bindings: %w", err)
	}
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	for key, value := range all {
		var r record
		if err := json.Unmarshal(value, &r); err != nil {
			l.log.Warn("stored device unreadable, skipped", "key", key, "err", err)
			continue
		}
		id := DeviceID{AOR: r.AOR, Instance: r.Instance}
		if r.Version != recordVersion || id.key() != key {
			l.log.Warn("stored device of another version or under a wrong key, skipped", "key", key, "version", r.Version)
			continue
		}
		l.restore(id, r, now)
	}
	return nil
}

func (l *Location) restore(id DeviceID, r record, now time.Time) {
	d := l.add(id)
	d.class, d.keep, d.lastWake = l.words.intern(r.Class), r.Keep, r.LastWake
	for _, b := range r.Bindings {
		b = b.past(now)
		n := &binding{Binding: l.words.compact(b, d.id), dev: d}
		if n.Flow != "" {
			n.FlowLost = now
		}
		d.bindings = append(d.bindings, n)
		l.index(n)
	}
	sortBindings(d.bindings)
	for _, t := range r.Tokens {
		t = l.words.compactToken(t)
		t.Registered = earlier(t.Registered, now)
		if other := l.pushes[t.key()]; other != nil {
			// A crash came between the two writes of a move: the later
			// registration has the token.
			loser := other
			if held := other.token(t.key()); held.Registered.After(t.Registered) {
				loser = d
			}
			l.markDirty(loser.id)
			if loser == d {
				continue
			}
			l.dropTokens(other, func(o *Token) bool { return o.key() == t.key() })
			l.settle(other, now)
		}
		d.tokens = append(d.tokens, t)
		l.pushes[t.key()] = d
	}
	if l.settle(d, now); l.devices[id] == nil {
		l.markDirty(id)
	}
}

// past is a stored binding as a core sees it whose clock was set back since: it
// was made by now at the latest, and nobody knows how much of its grant is left
// at the PBX, which counts by another clock. The PBX is asked next time.
func (b Binding) past(now time.Time) Binding {
	if b.Granted.After(now) {
		b.Granted, b.GrantEnds = now, now
	}
	b.Registered = earlier(b.Registered, now)
	return b
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func (d *device) token(k pushKey) Token {
	for i := range d.tokens {
		if d.tokens[i].key() == k {
			return d.tokens[i]
		}
	}
	return Token{}
}

// Run ends what expires, and stores within a second what nobody saved, until
// ctx ends; what is unsaved then is stored before it returns. A store that is
// slow holds up nothing but itself.
func (l *Location) Run(ctx context.Context) error {
	var sweeping sync.WaitGroup
	sweeping.Go(func() { l.sweepUntil(ctx) })
	l.saveUntil(ctx)
	sweeping.Wait()
	if err := l.flush(context.Background()); err != nil {
		return fmt.Errorf("store bindings: %w", err)
	}
	return nil
}

// saveUntil stores what is dirty, at most once in saveEvery.
func (l *Location) saveUntil(ctx context.Context) {
	failing := false
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.unsaved:
		}
		pause.Reset(saveEvery)
		select {
		case <-ctx.Done():
			return
		case <-pause.C:
		}
		err := l.flush(ctx)
		if err != nil && !failing {
			l.log.Warn("bindings not stored, trying again", "err", err)
		}
		failing = err != nil
	}
}

// sweepUntil settles what is due, when it is due.
func (l *Location) sweepUntil(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		timer.Reset(l.sweep())
		select {
		case <-ctx.Done():
			return
		case <-l.changed:
		case <-timer.C:
		}
	}
}

// sweepIdle is how long Run sleeps when nothing is due.
const sweepIdle = time.Hour

// sweep settles every device that is due and returns the time to the next.
func (l *Location) sweep() time.Duration {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.due) > 0 && !now.Before(l.due[0].due) {
		d := l.due[0]
		l.markDirty(d.id)
		l.settle(d, now)
	}
	if len(l.due) > 0 {
		return min(l.due[0].due.Sub(now), sweepIdle)
	}
	return sweepIdle
}

// markDirty leaves devices to Run to store. Under l.mu.
func (l *Location) markDirty(ids ...DeviceID) {
	for _, id := range ids {
		l.dirty[id] = struct{}{}
	}
	if len(ids) > 0 {
		signal(l.unsaved)
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// flush stores every dirty device and returns the first error. Once ctx has
// ended it leaves the rest for later.
func (l *Location) flush(ctx context.Context) error {
	l.mu.RLock()
	ids := make([]DeviceID, 0, len(l.dirty))
	for id := range l.dirty {
		ids = append(ids, id)
	}
	l.mu.RUnlock()
	for _, id := range ids {
		if ctx.Err() != nil {
			return nil
		}
		if err := l.Save(id); err != nil {
			return err
		}
	}
	return nil
}

var shardSeed = maphash.MakeSeed()

// Save returns when the store has the devices as they are now, or else
// [ErrNotStored]; Run goes on trying then. They are written one after the
// other, a removed one is deleted. Whoever comes later for the same device
// writes a later state, so the last write is always the newest.
func (l *Location) Save(ids ...DeviceID) error {
	var failed error
	for _, id := range ids {
		if err := l.save(id); err != nil {
			failed = errors.Join(failed, fmt.Errorf("%w: %w", ErrNotStored, err))
		}
	}
	return failed
}

func (l *Location) save(id DeviceID) error {
	write := l.writes[maphash.Comparable(shardSeed, id)%writeShards]
	write <- struct{}{}
	defer func() { <-write }()

	l.mu.Lock()
	delete(l.dirty, id)
	d := l.devices[id]
	var r record
	if d != nil {
		r = d.record()
	}
	l.mu.Unlock()

	var err error
	if d == nil {
		err = l.store.Delete(id.key())
	} else {
		var value []byte
		if value, err = json.Marshal(r); err == nil {
			err = l.store.Put(id.key(), value)
		}
	}
	if err != nil {
		l.mu.Lock()
		l.markDirty(id)
		l.mu.Unlock()
	}
	return err
}

func (d *device) record() record {
	s := d.snapshot()
	for i, b := range d.bindings {
		s.Bindings[i].Flow = b.Flow
	}
	return record{
		Version: recordVersion, AOR: d.id.AOR, Instance: d.id.Instance, Class: d.class,
		Keep: d.keep, LastWake: d.lastWake, Tokens: s.Tokens, Bindings: s.Bindings,
	}
}

// dueHeap orders devices by the moment at which something of them ends.
type dueHeap []*device

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].due.Before(h[j].due) }
func (h dueHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

// Push implements heap.Interface.
func (h *dueHeap) Push(x any) {
	d := x.(*device)
	d.index = len(*h)
	*h = append(*h, d)
}

// Pop implements heap.Interface.
func (h *dueHeap) Pop() any {
	old := *h
	d := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	d.index = -1
	return d
}

func (h *dueHeap) fix(d *device) {
	if d.index < 0 {
		heap.Push(h, d)
		return
	}
	heap.Fix(h, d.index)
}

func (h *dueHeap) remove(d *device) {
	if d.index >= 0 {
		heap.Remove(h, d.index)
	}
}
