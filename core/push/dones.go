package push

import (
	"context"
	"sync"
)

// maxDones bounds those who wait to hear what became of a note.
const maxDones = 16384

// dones are those who wait to hear what became of a note, and the door that
// shuts when the service ends. Safe for concurrent use.
type dones struct {
	mu    sync.Mutex
	ended bool                      // guarded by mu; nothing may be queued any more
	wait  map[string][]func(Result) // guarded by mu; by key of the row
	count int                       // guarded by mu
	calls []func()                  // guarded by mu; of those who can hear it now

	signal chan struct{} // holds one token: calls or ended changed
}

func newDones() *dones {
	return &dones{wait: make(map[string][]func(Result)), signal: make(chan struct{}, 1)}
}

// queue runs put, which must not block, and enters done (nil for nobody) under
// key, unless there is no room or the service has ended.
func (d *dones) queue(key string, done func(Result), put func() error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.ended:
		return ErrStopped
	case done != nil && d.count >= maxDones:
		return ErrQueueFull
	}
	if err := put(); err != nil {
		return err
	}
	if done != nil {
		d.wait[key] = append(d.wait[key], done)
		d.count++
	}
	return nil
}

// settle has everybody under key hear r.
func (d *dones) settle(key string, r Result) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.settleLocked(key, r)
}

func (d *dones) settleLocked(key string, r Result) {
	for _, done := range d.wait[key] {
		d.calls = append(d.calls, func() { done(r) })
	}
	d.count -= len(d.wait[key])
	delete(d.wait, key)
	d.ring()
}

func (d *dones) ring() {
	select {
	case d.signal <- struct{}{}:
	default:
	}
}

// over says whether the service has ended.
func (d *dones) over() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ended
}

// shut lets nobody in any more.
func (d *dones) shut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ended = true
}

// close has everybody who still waits hear r.
func (d *dones) close(r Result) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for key := range d.wait {
		d.settleLocked(key, r)
	}
	d.ring()
}

// run calls those who can hear it, until ctx ends and all have heard.
func (d *dones) run(ctx context.Context) {
	for {
		d.mu.Lock()
		calls := d.calls
		d.calls = nil
		d.mu.Unlock()
		for _, call := range calls {
			call()
		}
		if len(calls) > 0 {
			continue
		}
		select {
		case <-d.signal:
		case <-ctx.Done():
			d.mu.Lock()
			none := len(d.calls) == 0
			d.mu.Unlock()
			if none {
				return
			}
		}
	}
}
