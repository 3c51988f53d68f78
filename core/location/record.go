package location

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"sallyport/core/vault"
)

// record is a device as the store holds it. Bindings carry the id of their
// last flow. What is secret is in Sealed alone, where there is a vault.
type record struct {
	Version  int       `json:"v"`
	AOR      string    `json:"aor"`
	Instance string    `json:"instance"`
	Class    string    `json:"class,omitempty"`
	Keep     time.Time `json:"keep"`
	LastWake time.Time `json:"last_wake,omitzero"`
	Tokens   []Token   `json:"tokens,omitempty"`
	Bindings []Binding `json:"bindings"`
	// Sealed are the secrets as JSON, sealed under the record's key.
	Sealed []byte `json:"sealed,omitempty"`

	again bool // to be written again: in clear, or sealed with the older key
}

// secrets are what a record must not show, in the order of its tokens and
// bindings. A contact is the client's own words, tokens among them.
type secrets struct {
	Tokens   []tokenSecrets `json:"tokens,omitempty"`
	Contacts []string       `json:"contacts,omitempty"`
}

type tokenSecrets struct {
	Value string `json:"value"`
	Key   string `json:"key,omitempty"`
	Auth  string `json:"auth,omitempty"`
}

// Versions of records.
const (
	recordClear  = 1
	recordSealed = 2
)

// key is the device's key in the store. It is a hash because an instance may
// hold any character, and so that the names of keys tell nobody who is
// registered.
func (id DeviceID) key() string {
	sum := sha256.Sum256([]byte(id.AOR + "\x00" + id.Instance))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// encode seals r for the store, under the key at which it will be. r is the
// caller's own and is changed.
func (r *record) encode(key string, v *vault.Vault) ([]byte, error) {
	r.Version = recordClear
	if v != nil {
		var s secrets
		for i := range r.Tokens {
			t := &r.Tokens[i]
			s.Tokens = append(s.Tokens, tokenSecrets{t.Value, t.Key, t.Auth})
			t.Value, t.Key, t.Auth = "", "", ""
		}
		for i := range r.Bindings {
			s.Contacts = append(s.Contacts, r.Bindings[i].Contact)
			r.Bindings[i].Contact = ""
		}
		plain, err := json.Marshal(s)
		if err != nil {
			return nil, err
		}
		r.Version, r.Sealed = recordSealed, v.Seal(key, plain)
	}
	return json.Marshal(r)
}

var errVersion = errors.New("of another version or under a wrong key")

// decode reads what encode wrote, or what the version before wrote in clear.
func decode(key string, value []byte, v *vault.Vault) (r record, err error) {
	if err := json.Unmarshal(value, &r); err != nil {
		return r, err
	}
	if (DeviceID{AOR: r.AOR, Instance: r.Instance}).key() != key {
		return r, errVersion
	}
	switch r.Version {
	case recordClear:
		r.again = v != nil
		return r, nil
	case recordSealed:
		return r, r.open(key, v)
	default:
		return r, errVersion
	}
}

// open puts the secrets back to their places.
func (r *record) open(key string, v *vault.Vault) error {
	if v == nil {
		return vault.ErrKey
	}
	plain, stale, err := v.Open(key, r.Sealed)
	if err != nil {
		return err
	}
	var s secrets
	if err := json.Unmarshal(plain, &s); err != nil {
		return err
	}
	if len(s.Tokens) != len(r.Tokens) || len(s.Contacts) != len(r.Bindings) {
		return vault.ErrForged
	}
	for i, t := range s.Tokens {
		r.Tokens[i].Value, r.Tokens[i].Key, r.Tokens[i].Auth = t.Value, t.Key, t.Auth
	}
	for i, c := range s.Contacts {
		r.Bindings[i].Contact = c
	}
	r.Sealed, r.again = nil, stale
	return nil
}

// Load brings back what the store holds. Every binding is flow-less afterwards,
// until Reattach. Records that cannot be read are logged and left alone, but
// with records sealed by a key that the vault does not have Load fails
// ([vault.ErrKey]), and the store is as it was: a core that began without these
// devices would wake none of them, and tell nobody. Load belongs before the
// first use of l.
func (l *Location) Load(ctx context.Context) error {
	all, err := l.store.Load(ctx)
	if err != nil {
		return fmt.Errorf("load bindings: %w", err)
	}
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	locked := 0
	for key, value := range all {
		r, err := decode(key, value, l.cfg.Vault)
		switch {
		case errors.Is(err, vault.ErrKey):
			locked++
		case err != nil:
			l.log.Warn("stored device unreadable, skipped", "key", key, "version", r.Version, "err", err)
		default:
			l.restore(DeviceID{AOR: r.AOR, Instance: r.Instance}, r, now)
		}
	}
	if locked > 0 {
		return fmt.Errorf("%d of %d devices are %w", locked, len(all), vault.ErrKey)
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
		key := id.tokenKey(&t)
		if other := l.pushes[key]; other != nil {
			// A crash came between the two writes of a move: the later
			// registration has the token.
			loser := other
			if held := other.token(key); held.Registered.After(t.Registered) {
				loser = d
			}
			l.markDirty(loser.id)
			if loser == d {
				continue
			}
			l.lose(other, key)
			l.settle(other, now)
		}
		d.tokens = append(d.tokens, t)
		l.pushes[key] = d
	}
	if l.settle(d, now); l.devices[id] == nil || r.again {
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
		if d.id.tokenKey(&d.tokens[i]) == k {
			return d.tokens[i]
		}
	}
	return Token{}
}

func (d *device) record() record {
	s := d.snapshot()
	for i, b := range d.bindings {
		s.Bindings[i].Flow = b.Flow
	}
	return record{
		AOR: d.id.AOR, Instance: d.id.Instance, Class: d.class,
		Keep: d.keep, LastWake: d.lastWake, Tokens: s.Tokens, Bindings: s.Bindings,
	}
}
