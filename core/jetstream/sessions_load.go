package jetstream

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// errRecord: a record is not one of ours.
var errRecord = errors.New("record damaged")

// Load implements [session.Store]. A record that cannot be read is left where
// it is, and told in the log.
func (k *Sessions) Load(ctx context.Context, each func(id string, record []byte) bool) error {
	subjects := recordSubject + k.core + ".*"
	reader, err := k.records.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{subjects}, NamePrefix: "load_" + rand.Text(), DeliverPolicy: jetstream.DeliverAllPolicy,
	})
	if err != nil {
		return fmt.Errorf("store stream %s: %w", recordStream, err)
	}
	if reader.CachedInfo().NumPending == 0 {
		return nil
	}
	records := make(chan jetstream.Msg, wordsAhead)
	over := make(chan struct{})
	reading, err := reader.Consume(func(m jetstream.Msg) {
		select {
		case records <- m:
		case <-over:
		}
	})
	if err != nil {
		return fmt.Errorf("store stream %s: %w", recordStream, err)
	}
	defer func() {
		close(over)
		reading.Stop()
		<-reading.Closed()
	}()
	return k.load(ctx, records, reading.Closed(), each)
}

// load hands over what comes, until it is all.
func (k *Sessions) load(ctx context.Context, records <-chan jetstream.Msg, ended <-chan struct{}, each func(string, []byte) bool) error {
	bad, last := 0, error(nil)
	defer func() {
		if bad > 0 {
			k.store.log.Error("xmpp sessions cannot be read, and what waits for them is not delivered",
				"sessions", bad, "err", last, "remedy", "is store.key_file the one they were sealed with?")
		}
	}()
	silent := time.NewTimer(k.store.cfg.Timeout)
	defer silent.Stop()
	for {
		select {
		case m := <-records:
			silent.Reset(k.store.cfg.Timeout)
			id, record, err := k.record(m)
			if err != nil {
				bad, last = bad+1, err
			} else if !each(id, record) {
				return nil
			}
			if md, err := m.Metadata(); err == nil && md.NumPending == 0 {
				return nil
			}
		case <-silent.C:
			return fmt.Errorf("store stream %s: no answer", recordStream)
		case <-ended:
			return fmt.Errorf("store stream %s: reading was cut off", recordStream)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// record opens a record.
func (k *Sessions) record(m jetstream.Msg) (id string, record []byte, err error) {
	plain, err := k.open(m.Subject(), m.Data())
	if err != nil {
		return "", nil, err
	}
	if len(plain) < 2 {
		return "", nil, errRecord
	}
	n := int(binary.BigEndian.Uint16(plain))
	if len(plain) < 2+n {
		return "", nil, errRecord
	}
	return string(plain[2 : 2+n]), plain[2+n:], nil
}
