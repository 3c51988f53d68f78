package location

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"sync"
	"time"
)

// saveEvery is how long Run gathers what is to be stored, and waits after the
// store failed.
const saveEvery = time.Second

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
		if value, err = r.encode(id.key(), l.cfg.Vault); err == nil {
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

// Before implements inorder.Item: devices are in the order in which something
// of them ends.
func (d *device) Before(o *device) bool { return d.due.Before(o.due) }

// Slot implements inorder.Item.
func (d *device) Slot() *int { return &d.index }
