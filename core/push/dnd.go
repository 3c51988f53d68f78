package push

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"sort"
	"strings"
	"sync"
	"time"
)

// maxDND bounds how many addresses may ask not to be disturbed.
const maxDND = 100_000

// DND says that somebody is not to be disturbed, from now on. What that means
// for messages, calls and VIPs is what the first [QuietRule] for the address
// says, at whatever time; without one, notes wait and calls do not ring.
type DND struct {
	AOR   string    `json:"aor"`
	Since time.Time `json:"since"`
	Until time.Time `json:"until,omitzero"` // zero: until it is switched off
}

// DNDStore keeps DND durably, by key, for all cores on it. Put and Delete return
// when it is safe. Watch tells changes, of others and its own, until ctx ends: a
// nil value is one that was deleted.
type DNDStore interface {
	Load(ctx context.Context) (map[string][]byte, error)
	Put(key string, value []byte) error
	Delete(key string) error
	Watch(ctx context.Context, changed func(key string, value []byte)) error
}

// quiet knows who is not to be disturbed now. All methods are safe for
// concurrent use.
type quiet struct {
	// Static.
	rules   []QuietRule
	store   DNDStore // nil keeps DND in memory alone
	changed func(aor string)

	mu  sync.RWMutex
	dnd map[string]DND // by key; guarded by mu
}

// dndKey is the key of an AOR in the store.
func dndKey(aor string) string {
	user, host := address(aor)
	return base64.RawURLEncoding.EncodeToString([]byte(user + "@" + host))
}

// load reads what is stored. What cannot be read is named in the error, and
// the rest counts.
func (q *quiet) load(ctx context.Context) error {
	if q.store == nil {
		return nil
	}
	all, err := q.store.Load(ctx)
	if err != nil {
		return fmt.Errorf("do not disturb: %w", err)
	}
	var faults []error
	for key, value := range all {
		if err := q.take(key, value); err != nil {
			faults = append(faults, err)
		}
	}
	return errors.Join(faults...)
}

// take enters one value of the store; nil takes it out.
func (q *quiet) take(key string, value []byte) error {
	var d DND
	if value != nil {
		if err := json.Unmarshal(value, &d); err != nil {
			return fmt.Errorf("do not disturb: record %s: %w", key, err)
		}
	}
	q.mu.Lock()
	before, was := q.dnd[key]
	same := was && value != nil && before.AOR == d.AOR && before.Since.Equal(d.Since) && before.Until.Equal(d.Until)
	switch {
	case value == nil:
		delete(q.dnd, key)
		d.AOR = before.AOR
	case was || len(q.dnd) < maxDND:
		if q.dnd == nil {
			q.dnd = make(map[string]DND)
		}
		q.dnd[key] = d
	}
	q.mu.Unlock()
	if q.changed != nil && (was || value != nil) && !same {
		q.changed(d.AOR)
	}
	return nil
}

// set switches DND of an AOR on, or off where d is nil.
func (q *quiet) set(aor string, d *DND) error {
	if user, host := address(aor); user == "" || host == "" {
		return fmt.Errorf("do not disturb: %q is no address such as sip:alice@example.com", clip(aor))
	}
	key := dndKey(aor)
	if d == nil {
		if q.store != nil {
			if err := q.store.Delete(key); err != nil {
				return fmt.Errorf("do not disturb: %w", err)
			}
		}
		return q.take(key, nil)
	}
	q.mu.RLock()
	_, was := q.dnd[key]
	full := !was && len(q.dnd) >= maxDND
	q.mu.RUnlock()
	if full {
		return fmt.Errorf("do not disturb: more than %d addresses", maxDND)
	}
	value, err := json.Marshal(d)
	if err != nil {
		return fmt.Errorf("do not disturb: %w", err)
	}
	if q.store != nil {
		if err := q.store.Put(key, value); err != nil {
			return fmt.Errorf("do not disturb: %w", err)
		}
	}
	return q.take(key, value)
}

// list returns who is not to be disturbed at now, by address.
func (q *quiet) list(now time.Time) []DND {
	q.mu.RLock()
	defer q.mu.RUnlock()
	all := make([]DND, 0, len(q.dnd))
	for _, d := range q.dnd {
		if d.Until.IsZero() || now.Before(d.Until) {
			all = append(all, d)
		}
	}
	sort.Slice(all, func(i, j int) bool { return all[i].AOR < all[j].AOR })
	return all
}

// rule says what holds at now for a push to aor that comes from a caller or
// writer. DND comes before the hours.
func (q *quiet) rule(n need, aor, from string, now time.Time) Ruling {
	if q == nil || aor == "" {
		return Ruling{}
	}
	q.mu.RLock()
	d, on := q.dnd[dndKeyOf(q.dnd, aor)]
	q.mu.RUnlock()
	if on && (d.Until.IsZero() || now.Before(d.Until)) {
		return q.manner(aor).ruling(n, from, d.Until, d.reason())
	}
	for i := range q.rules {
		r := &q.rules[i]
		if !names(r.AOR, aor) {
			continue
		}
		if until, ok := r.active(now); ok {
			return r.ruling(n, from, until, r.reason(until))
		}
	}
	return Ruling{}
}

// dndKeyOf spares the making of a key where nobody is in DND.
func dndKeyOf(dnd map[string]DND, aor string) string {
	if len(dnd) == 0 {
		return ""
	}
	return dndKey(aor)
}

// manner is what DND of aor means: as the first rule for it says.
func (q *quiet) manner(aor string) *QuietRule {
	for i := range q.rules {
		if names(q.rules[i].AOR, aor) {
			return &q.rules[i]
		}
	}
	return &QuietRule{}
}

func (d *DND) reason() string {
	if d.Until.IsZero() {
		return "do not disturb"
	}
	return "do not disturb until " + d.Until.UTC().Format(time.RFC3339)
}

// run tells the changes that other cores make, until ctx ends.
func (q *quiet) run(ctx context.Context, warn func(err error)) {
	if q.store == nil {
		return
	}
	for wait := time.Second; ; wait = min(2*wait, time.Minute) {
		err := q.store.Watch(ctx, func(key string, value []byte) {
			if err := q.take(key, value); err != nil {
				warn(err)
			}
		})
		if ctx.Err() != nil {
			return
		}
		warn(err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// QuietNote says what quiet hours and do-not-disturb hold for a note to t now.
// Requests to register are silent by themselves, and go.
func (s *Service) QuietNote(t Target, n Note) Ruling {
	if n.Event == EventRegister {
		return Ruling{}
	}
	return s.quiet.rule(needNote, t.aor(n.To), n.FromURI, time.Now())
}

// QuietCall is QuietNote for a call: Hold means that it must not ring.
func (s *Service) QuietCall(t Target, c Call) Ruling {
	return s.quiet.rule(needCall, t.aor(c.To), c.FromURI, time.Now())
}

// aor is whose device t is; to, what the push says, where that is not known.
func (t Target) aor(to string) string {
	if aor, _, ok := strings.Cut(t.Device, " "); ok {
		return aor
	}
	return to
}

// SetDND switches do-not-disturb of an AOR on until a time, which may be zero
// for no end. It returns when that is safe.
func (s *Service) SetDND(aor string, until time.Time) error {
	return s.quiet.set(aor, &DND{AOR: aor, Since: time.Now().UTC(), Until: until.UTC()})
}

// ClearDND switches do-not-disturb of an AOR off. One that is not on is no
// error.
func (s *Service) ClearDND(aor string) error { return s.quiet.set(aor, nil) }

// DND lists who is not to be disturbed now.
func (s *Service) DND() []DND { return s.quiet.list(time.Now()) }

// LoadDND reads who is not to be disturbed from the store. It is called once,
// before Run.
func (s *Service) LoadDND(ctx context.Context) error { return s.quiet.load(ctx) }
