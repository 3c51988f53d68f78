package presence

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Store keeps records across restarts. Keys are 43 characters of the base64url
// alphabet. Calls come one at a time.
type Store interface {
	Load(ctx context.Context) (map[string][]byte, error)
	// Put returns when value will survive the death of this process.
	Put(key string, value []byte) error
	// Delete of a key that is not there is no error.
	Delete(key string) error
}

// Sealer keeps what a record says from whoever reads the store. name is not
// secret; a value opens under the name alone under which it was sealed.
type Sealer interface {
	Seal(name string, plain []byte) []byte
	Open(name string, sealed []byte) (plain []byte, stale bool, err error)
}

// record is a publication as the store holds it.
type record struct {
	Version int  `json:"v"`
	Mode    Mode `json:"mode,omitempty"`
	*publication
}

const recordVersion = 1

// key is a device's key in the store; it tells nobody who that is.
func key(device string) string {
	sum := sha256.Sum256([]byte("presence\x00" + device))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

var errRecord = errors.New("of another version, or under a wrong key")

func (b *Book) encode(name string, p *publication) ([]byte, error) {
	plain, err := json.Marshal(record{recordVersion, b.cfg.Mode, p})
	if err != nil || b.sealer == nil {
		return plain, err
	}
	return b.sealer.Seal(name, plain), nil
}

func (b *Book) decode(name string, value []byte) (p *publication, err error) {
	if b.sealer != nil {
		if value, _, err = b.sealer.Open(name, value); err != nil {
			return nil, err
		}
	}
	r := record{publication: &publication{index: -1}}
	if err := json.Unmarshal(value, &r); err != nil {
		return nil, err
	}
	p = r.publication
	if r.Version != recordVersion || p == nil || key(p.Device) != name || p.ClientTag == "" ||
		len(p.Doc) > MaxDocument || p.Shown < ShownOwn || p.Shown > ShownNothing || p.Asked <= 0 {
		return nil, errRecord
	}
	p.Asked = min(p.Asked, maxExpires)
	p.setDocument(b.cfg.Mode, p.Type, p.Doc)
	if r.Mode != b.cfg.Mode && p.Shown == ShownChanged {
		p.Shown = ShownNothing // that the mode of now would show
	}
	return p, nil
}

// settling is how long after a start clients are given to be heard on the flows
// that outlived it.
const settling = 5 * time.Second

// Load brings back what the store holds. A record
// that cannot be read is logged and removed: its publication lapses by itself.
// Load belongs before the first use of b.
func (b *Book) Load(ctx context.Context) error {
	if b.store == nil {
		return nil
	}
	all, err := b.store.Load(ctx)
	if err != nil {
		return fmt.Errorf("load publications: %w", err)
	}
	now := time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	for name, value := range all {
		p, err := b.decode(name, value)
		if err == nil && (len(b.of) >= b.cfg.MaxDevices || b.size+len(p.Doc) > b.cfg.MaxSize) {
			err = errors.New("no room")
		}
		if err != nil {
			b.log.Warn("stored publication not taken", "key", name, "err", err)
			if err := b.store.Delete(name); err != nil {
				return fmt.Errorf("load publications: %w", err)
			}
			continue
		}
		b.of[p.Device] = p
		b.size += len(p.Doc)
		b.stir(p)
		b.at(p, now.Add(settling))
	}
	return nil
}

// mark leaves a publication to Run to store. Under b.mu.
func (b *Book) mark(p *publication) {
	if b.store == nil {
		return
	}
	b.dirty[p.Device] = struct{}{}
	signal(b.unsaved)
}

// saveAgain is how long Run waits after the store failed.
const saveAgain = time.Second

// Run stores what changes, at once, until ctx ends; what is unsaved then is
// stored before it returns. A store that is slow holds up nothing but itself.
func (b *Book) Run(ctx context.Context) error {
	failing := false
	again := time.NewTimer(time.Hour)
	defer again.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
			continue
		case <-b.unsaved:
		case <-again.C:
		}
		err := b.flush()
		if err != nil && !failing {
			b.log.Warn("publications not stored, trying again", "err", err)
		}
		if failing = err != nil; failing {
			again.Reset(saveAgain)
		}
	}
	return b.flush()
}

// flush stores every dirty publication, or returns the first error.
func (b *Book) flush() error {
	for {
		name, device, value, err := b.dirtyOne()
		switch {
		case err != nil:
		case name == "":
			return nil
		case value == nil:
			err = b.store.Delete(name)
		default:
			err = b.store.Put(name, value)
		}
		if err != nil {
			b.mu.Lock()
			b.dirty[device] = struct{}{}
			b.mu.Unlock()
			return fmt.Errorf("store publication: %w", err)
		}
	}
}

// dirtyOne takes one device whose record is to be written; a nil value is to be
// deleted.
func (b *Book) dirtyOne() (name, device string, value []byte, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for device = range b.dirty {
		break
	}
	if device == "" {
		return "", "", nil, nil
	}
	delete(b.dirty, device)
	name = key(device)
	if p := b.of[device]; p != nil {
		value, err = b.encode(name, p)
	}
	return name, device, value, err
}
