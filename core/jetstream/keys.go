package jetstream

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// keySize suits HMAC-SHA-256.
const keySize = 32

// keyRing is what the store holds under a key's name: the newest first, at most
// two.
type keyRing struct {
	Version int       `json:"v"`
	Made    time.Time `json:"made"` // the newest
	Keys    [][]byte  `json:"keys"`
}

func (r keyRing) pair() (newest, previous []byte) {
	newest = r.Keys[0]
	if len(r.Keys) > 1 {
		previous = r.Keys[1]
	}
	return newest, previous
}

// Keys returns the two valid keys of a name, such as "contact" or "nonce", 32
// bytes each; previous is nil until the first rotation. The first to ask makes
// the key; all cores on one store get the same. Names are letters, digits, '-'
// and '_'.
func (s *Store) Keys(ctx context.Context, name string) (newest, previous []byte, err error) {
	for {
		ring, _, err := s.ring(ctx, name)
		if err == nil {
			newest, previous = ring.pair()
			return newest, previous, nil
		}
		if !errors.Is(err, jetstream.ErrKeyNotFound) {
			return nil, nil, err
		}
		value, err := json.Marshal(keyRing{Version: 1, Made: time.Now(), Keys: [][]byte{newKey()}})
		if err != nil {
			return nil, nil, fmt.Errorf("store key %s: %w", name, err)
		}
		_, err = s.keys.Create(ctx, name, value)
		if err != nil && !errors.Is(err, jetstream.ErrKeyExists) {
			return nil, nil, fmt.Errorf("store key %s: %w", name, err)
		}
	}
}

// RotateKeys makes a new key for name if the newest is at least age old, and
// returns the keys then valid. The one before the previous ends. Cores that
// rotate at the same time agree on one new key.
func (s *Store) RotateKeys(ctx context.Context, name string, age time.Duration) (newest, previous []byte, err error) {
	if _, _, err := s.Keys(ctx, name); err != nil {
		return nil, nil, err
	}
	for {
		ring, revision, err := s.ring(ctx, name)
		if err != nil {
			return nil, nil, err
		}
		if time.Since(ring.Made) < age {
			newest, previous = ring.pair()
			return newest, previous, nil
		}
		next := keyRing{Version: 1, Made: time.Now(), Keys: [][]byte{newKey(), ring.Keys[0]}}
		value, err := json.Marshal(next)
		if err != nil {
			return nil, nil, fmt.Errorf("store key %s: %w", name, err)
		}
		switch _, err = s.keys.Update(ctx, name, value, revision); {
		case err == nil:
			newest, previous = next.pair()
			return newest, previous, nil
		case errors.Is(err, jetstream.ErrKeyExists), wrongRevision(err):
			age = max(age, time.Second) // another core was first: take its key
		default:
			return nil, nil, fmt.Errorf("store key %s: %w", name, err)
		}
	}
}

func wrongRevision(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence
}

func (s *Store) ring(ctx context.Context, name string) (keyRing, uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	e, err := s.keys.Get(ctx, name)
	if err != nil {
		return keyRing{}, 0, fmt.Errorf("store key %s: %w", name, err)
	}
	var r keyRing
	if err := json.Unmarshal(e.Value(), &r); err != nil {
		return keyRing{}, 0, fmt.Errorf("store key %s is unreadable: %w", name, err)
	}
	if r.Version != 1 || len(r.Keys) == 0 || len(r.Keys[0]) != keySize {
		return keyRing{}, 0, fmt.Errorf("store key %s is of another version (%d)", name, r.Version)
	}
	return r, e.Revision(), nil
}

func newKey() []byte {
	key := make([]byte, keySize)
	_, _ = rand.Read(key) // never fails (crypto/rand)
	return key
}
