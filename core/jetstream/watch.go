package jetstream

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
)

// errCutOff ends a watch that the server no longer serves.
var errCutOff = errors.New("watch was cut off")

// Watch tells every value there is and then each change, this store's own
// included, one after the other, until ctx ends, upon which it returns nil. A
// nil value is one that was deleted.
func (b *Bucket) Watch(ctx context.Context, changed func(key string, value []byte)) error {
	watch, err := b.kv.WatchAll(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("store bucket %s: %w", b.name, err)
	}
	defer func() { _ = watch.Stop() }()
	for {
		select {
		case <-ctx.Done():
			return nil
		case e, ok := <-watch.Updates():
			switch {
			case !ok && ctx.Err() != nil:
				return nil
			case !ok:
				return fmt.Errorf("store bucket %s: %w", b.name, errCutOff)
			case e == nil: // the end of the values there were
			case e.Operation() != jetstream.KeyValuePut:
				changed(e.Key(), nil)
			default:
				changed(e.Key(), e.Value())
			}
		}
	}
}
