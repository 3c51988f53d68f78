package trace

import (
	"context"
	"encoding/json"
	"time"
)

// maxQueue bounds the writes that wait for the store: a minute of calls at a
// busy site. What is more is lost to the store, not to memory.
const maxQueue = 4096

// lastPatience bounds what Run does for the store when it is to end.
const lastPatience = 5 * time.Second

// A write is one change that the store has not heard of. An ended trace never
// changes, so it is read when its turn comes.
type write struct {
	key  string
	call *Call // to be stored; nil: the key is to be deleted
}

// put queues a write. Under r.mu.
func (r *Recorder) put(w write) {
	if r.store == nil {
		return
	}
	if len(r.queue) >= maxQueue {
		r.lost++
		return
	}
	r.queue = append(r.queue, w)
	select {
	case r.queued <- struct{}{}:
	default:
	}
}

// forget has Run delete from the store what memory has let go. Under r.mu.
func (r *Recorder) forget(gone []*Call) {
	for _, c := range gone {
		if c.ended { // else the store has never heard of it
			r.put(write{key: c.key})
		}
	}
}

// Run tells the store what was recorded and what was let go, in that order,
// until ctx ends; what is queued then is told before it returns, unless the
// store fails or is slow. A call never waits for the store.
func (r *Recorder) Run(ctx context.Context) error {
	if r == nil {
		<-ctx.Done()
		return nil
	}
	for {
		select {
		case <-ctx.Done():
			r.last()
			return nil
		case <-r.queued:
		}
		for ctx.Err() == nil {
			w, ok := r.next()
			if !ok {
				break
			}
			if err := r.tell(w); err != nil {
				r.log.Warn("trace not stored, or an old one not deleted", "key", w.key, "err", err)
			}
		}
	}
}

// last tells the store what is left, until it fails once or took too long: a
// trace is no promise to anybody.
func (r *Recorder) last() {
	end := time.Now().Add(lastPatience)
	for {
		w, ok := r.next()
		if !ok {
			return
		}
		err := r.tell(w)
		if err == nil && time.Now().Before(end) {
			continue
		}
		r.mu.Lock()
		left := len(r.queue)
		r.mu.Unlock()
		if err != nil || left > 0 {
			r.log.Warn("the core ends before the store took the traces", "left", left, "err", err)
		}
		return
	}
}

// next takes the oldest write off the queue.
func (r *Recorder) next() (w write, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lost > 0 {
		r.log.Warn("the store is too slow for the traces", "not_stored", r.lost)
		r.lost = 0
	}
	if len(r.queue) == 0 {
		r.queue = nil // a burst's memory is given back
		return write{}, false
	}
	w = r.queue[0]
	r.queue[0] = write{}
	r.queue = r.queue[1:]
	return w, true
}

func (r *Recorder) tell(w write) error {
	if w.call == nil {
		return r.store.Delete(w.key)
	}
	r.mu.Lock()
	t, kept := w.call.trace.clone(), w.call.kept
	r.mu.Unlock()
	if !kept { // let go meanwhile
		return nil
	}
	value, err := json.Marshal(t)
	if err != nil {
		return err
	}
	return r.store.Put(w.key, value)
}
