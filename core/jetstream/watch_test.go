package jetstream_test

import (
	"context"
	"testing"

	"sallyport/core/jetstream"
)

func TestAWatchTellsWhatThereIsAndEachChange(t *testing.T) {
	s := open(t, jetstream.Config{Dir: t.TempDir()})
	defer closed(t, s)
	b := s.DND()
	if err := b.Put("there", []byte("1")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	type change struct{ key, value string }
	changes, ended := make(chan change), make(chan error, 1)
	go func() {
		ended <- b.Watch(ctx, func(key string, value []byte) {
			c := change{key, string(value)}
			if value == nil {
				c.value = "deleted"
			}
			changes <- c
		})
	}()
	if c := <-changes; c != (change{"there", "1"}) {
		t.Errorf("first: %+v", c)
	}
	if err := b.Put("new", []byte("2")); err != nil {
		t.Fatal(err)
	}
	if c := <-changes; c != (change{"new", "2"}) {
		t.Errorf("then: %+v", c)
	}
	if err := b.Delete("there"); err != nil {
		t.Fatal(err)
	}
	if c := <-changes; c != (change{"there", "deleted"}) {
		t.Errorf("last: %+v", c)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
