package jetstream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// traceKeep is when traces end that nobody deleted.
	traceKeep = 30 * 24 * time.Hour
	// markerKeep is how long the mark of a deleted key is kept, for those who
	// watch; without an end, every device that ever was would leave one.
	markerKeep = time.Hour
	// maxValue bounds a value: NATS refuses more than 1 MiB.
	maxValue = 512 << 10
)

// Bucket is a set of values by key, of which the latest counts. Keys are
// letters, digits, '-', '_', '=', '.' and '/'. It serves as the store that
// core/location and core/trace declare.
type Bucket struct {
	// Static.
	store  *Store
	kv     jetstream.KeyValue
	name   string
	prefix string // of subjects
	wait   bool   // Put and Delete wait for the acknowledgement
}

func (s *Store) bucket(ctx context.Context, name string, keep time.Duration, wait bool) (*Bucket, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	want := jetstream.KeyValueConfig{
		Bucket: name, History: 1, TTL: keep, Storage: jetstream.FileStorage,
		Replicas: s.cfg.Replicas, LimitMarkerTTL: markerKeep, MaxValueSize: maxValue,
	}
	kv, err := s.js.CreateKeyValue(ctx, want)
	if errors.Is(err, jetstream.ErrBucketExists) {
		kv, err = s.js.UpdateKeyValue(ctx, want)
	}
	if err != nil {
		return nil, fmt.Errorf("store bucket %s with %d replicas: %w", name, s.cfg.Replicas, err)
	}
	return &Bucket{store: s, kv: kv, name: name, prefix: "$KV." + name + ".", wait: wait}, nil
}

// Load returns every value.
func (b *Bucket) Load(ctx context.Context) (map[string][]byte, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	watch, err := b.kv.WatchAll(ctx, jetstream.IgnoreDeletes())
	if err != nil {
		return nil, fmt.Errorf("store bucket %s: %w", b.name, err)
	}
	defer func() { _ = watch.Stop() }()
	all := make(map[string][]byte)
	for {
		// The end of the values is a nil; a server that falls silent before it
		// must not hold up the core for good.
		silent := time.NewTimer(b.store.cfg.Timeout)
		select {
		case e, ok := <-watch.Updates():
			silent.Stop()
			if !ok {
				return nil, fmt.Errorf("store bucket %s: reading was cut off after %d values", b.name, len(all))
			}
			if e == nil {
				return all, nil
			}
			all[e.Key()] = e.Value()
		case <-silent.C:
			return nil, fmt.Errorf("store bucket %s: no answer after %d values", b.name, len(all))
		case <-ctx.Done():
			silent.Stop()
			return nil, context.Cause(ctx)
		}
	}
}

// Put sets the value of key. Puts of one key by one goroutine keep their order.
func (b *Bucket) Put(key string, value []byte) error {
	if len(value) > maxValue {
		return fmt.Errorf("store bucket %s: value of %d bytes, at most %d", b.name, len(value), maxValue)
	}
	return b.publish(&nats.Msg{Subject: b.prefix + key, Data: value})
}

// Delete removes key and its value; one that is not there is no error.
func (b *Bucket) Delete(key string) error {
	return b.publish(&nats.Msg{Subject: b.prefix + key, Header: nats.Header{
		// The key-value layer's own marks: a purge that removes what was before
		// it and ends by itself.
		"KV-Operation":         {"PURGE"},
		jetstream.MsgRollup:    {jetstream.MsgRollupSubject},
		jetstream.MsgTTLHeader: {markerKeep.String()},
	}})
}

// publish sends m down the one connection, so that order is kept, and waits for
// the acknowledgement where the bucket promises it.
func (b *Bucket) publish(m *nats.Msg) error {
	ack, err := b.store.js.PublishMsgAsync(m, jetstream.WithStallWait(b.store.cfg.Timeout))
	if err != nil {
		return fmt.Errorf("store bucket %s: %w", b.name, err)
	}
	if !b.wait {
		return nil
	}
	select {
	case <-ack.Ok():
		return nil
	case err := <-ack.Err():
		return fmt.Errorf("store bucket %s: not acknowledged: %w", b.name, err)
	}
}
