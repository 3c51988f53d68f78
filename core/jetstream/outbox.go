package jetstream

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"sallyport/core/push"
)

// Bounds of the queue of pushes: so many rows and bytes wait in all, and so
// many rows for one device. What comes beyond them is refused, not dropped.
const (
	maxRows       = 100_000
	maxRowBytes   = 128 << 20
	maxDeviceRows = 1000
	maxRow        = 128 << 10 // the largest note, with each character escaped, sealed and in base64

	// rowKeep ends rows that nobody can read.
	rowKeep = 30 * 24 * time.Hour
	// rowKnown is for how long a row of the same key is not taken again.
	rowKnown = 10 * time.Minute

	// turnEnds is how long a core that holds the turn may be silent.
	turnEnds = 10 * time.Second
	// turnPull is how long a request for rows lasts; a core asks again before.
	turnPull = 5 * time.Second
	// turnAsk is how often a core asks whether the turn is free.
	turnAsk = 2 * time.Second
	// rowsAhead is how many rows are on their way to the core at most.
	rowsAhead = 512
	// wordsAhead is how many words wait for a core that is busy; more are lost.
	wordsAhead = 4096
)

const (
	outboxStream = "sallyport_push"
	rowSubject   = "sallyport.push.row."
	wordSubject  = "sallyport.push.word"
)

// errTurn: a work queue has one consumer (JSConsumerWQMultipleUnfilteredErr).
const errTurn jetstream.ErrorCode = 10099

// errStoreFailed: the stream is full, of messages, of bytes or of messages of one
// subject, or could not be written to; the description tells (JSStreamStoreFailedF).
const errStoreFailed jetstream.ErrorCode = 10077

// Outbox is the queue of pushes, a JetStream work queue; see [push.Outbox].
//
// The turn to send is the stream's one consumer: the server lets no second one
// exist beside it. A core that holds it asks for rows all the time; when it has
// not for [turnEnds], another one ends its turn. A row that was removed is an
// acknowledged message, which the server deletes.
type Outbox struct {
	store  *Store
	stream jetstream.Stream
}

var _ push.Outbox = (*Outbox)(nil)

func (s *Store) newOutbox(ctx context.Context) (*Outbox, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	stream, err := s.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name: outboxStream, Subjects: []string{rowSubject + "*"}, Storage: jetstream.FileStorage,
		Retention: jetstream.WorkQueuePolicy, Replicas: s.cfg.Replicas,
		Discard: jetstream.DiscardNew, DiscardNewPerSubject: true,
		MaxMsgs: maxRows, MaxBytes: maxRowBytes, MaxMsgsPerSubject: maxDeviceRows, MaxMsgSize: maxRow,
		MaxAge: rowKeep, Duplicates: rowKnown,
	})
	if err != nil {
		return nil, fmt.Errorf("store stream %s with %d replicas: %w", outboxStream, s.cfg.Replicas, err)
	}
	return &Outbox{store: s, stream: stream}, nil
}

// Add implements [push.Outbox].
func (o *Outbox) Add(ctx context.Context, device, key string, row []byte) (added bool, err error) {
	ack, err := o.store.js.PublishMsgAsync(&nats.Msg{
		Subject: rowSubject + subjectOf(device), Data: row,
		Header: nats.Header{jetstream.MsgIDHeader: {key}},
	}, jetstream.WithStallWait(o.store.cfg.Timeout))
	if err != nil {
		return false, fmt.Errorf("store stream %s: %w", outboxStream, err)
	}
	select {
	case a := <-ack.Ok():
		return !a.Duplicate, nil
	case err := <-ack.Err():
		if full(err) {
			return false, push.ErrQueueFull
		}
		return false, fmt.Errorf("store stream %s: not acknowledged: %w", outboxStream, err)
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
}

// full says whether the server refused a row because one of the bounds above is
// reached, and not because its disk is full or broken.
func full(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && api.ErrorCode == errStoreFailed && strings.HasPrefix(api.Description, "maximum ")
}

// subjectOf is a subject's token for a device, which says nothing of it.
func subjectOf(device string) string {
	sum := sha256.Sum256([]byte(device))
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

// Follow implements [push.Outbox].
func (o *Outbox) Follow(ctx context.Context, row func([]byte, func()), caughtUp func()) error {
	turn, err := o.claim(ctx)
	if err != nil {
		return err
	}
	var removed atomic.Uint64
	defer func() { o.release(ctx, turn, &removed) }()
	before := turn.CachedInfo().NumPending // rows that are there already
	if before == 0 {
		caughtUp()
	}
	lost := make(chan error, 1)
	rows, err := turn.Consume(func(m jetstream.Msg) {
		row(m.Data(), func() { // a row whose acknowledgement is lost is sent again, under the same id
			if m.Ack() == nil {
				removed.Add(1)
			}
		})
		if before == 0 {
			return
		}
		before--
		if md, err := m.Metadata(); err == nil && md.NumPending == 0 {
			before = 0
		}
		if before == 0 {
			caughtUp()
		}
	}, jetstream.PullMaxMessages(rowsAhead), jetstream.PullExpiry(turnPull), jetstream.ConsumeErrHandler(
		func(_ jetstream.ConsumeContext, err error) {
			select {
			case lost <- err:
			default:
			}
		}))
	if err != nil {
		return fmt.Errorf("store stream %s: %w", outboxStream, err)
	}
	defer func() {
		rows.Stop()
		<-rows.Closed()
	}()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case err := <-lost:
			if !o.mine(ctx, turn) {
				return fmt.Errorf("store stream %s: turn lost: %w", outboxStream, err)
			}
		case <-rows.Closed():
			return fmt.Errorf("store stream %s: turn lost", outboxStream)
		}
	}
}

// claim waits for the turn: until no other core is the consumer.
func (o *Outbox) claim(ctx context.Context) (jetstream.Consumer, error) {
	if o.store.embedded != nil {
		o.end(ctx, func(*jetstream.ConsumerInfo) bool { return true }) // nobody else is on this store
	}
	asked := make(map[string]time.Time) // when a turn was last seen to ask for rows
	for {
		c, err := o.create(ctx)
		if err == nil {
			return c, nil
		}
		var api *jetstream.APIError
		if !errors.As(err, &api) || api.ErrorCode != errTurn {
			return nil, fmt.Errorf("store stream %s: %w", outboxStream, err)
		}
		timer := time.NewTimer(turnAsk)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, context.Cause(ctx)
		}
		o.end(ctx, func(i *jetstream.ConsumerInfo) bool {
			if at, ok := asked[i.Name]; ok && i.NumWaiting == 0 {
				return time.Since(at) >= turnEnds
			}
			asked[i.Name] = time.Now()
			return false
		})
	}
}

// end ends the turns of which over says so. The server would do it by itself,
// but not while rows are out for acknowledgement.
func (o *Outbox) end(ctx context.Context, over func(*jetstream.ConsumerInfo) bool) {
	ctx, cancel := context.WithTimeout(ctx, o.store.cfg.Timeout)
	defer cancel()
	for info := range o.stream.ListConsumers(ctx).Info() {
		if over(info) {
			_ = o.stream.DeleteConsumer(ctx, info.Name) // or another core was first
		}
	}
}

func (o *Outbox) create(ctx context.Context) (jetstream.Consumer, error) {
	ctx, cancel := context.WithTimeout(ctx, o.store.cfg.Timeout)
	defer cancel()
	// A name for each turn: a core whose turn ended while it was cut off cannot
	// take rows from the next one's.
	return o.stream.CreateConsumer(ctx, jetstream.ConsumerConfig{
		Name: "turn_" + rand.Text(), InactiveThreshold: turnEnds, MemoryStorage: true, Replicas: 1,
		DeliverPolicy: jetstream.DeliverAllPolicy, AckPolicy: jetstream.AckExplicitPolicy,
		AckWait: rowKeep, MaxDeliver: -1, MaxAckPending: -1,
		Metadata: map[string]string{"core": o.store.cfg.Name},
	})
}

// release gives the turn to the next, as soon as the server has seen what was
// removed: with the turn it would forget acknowledgements that are on their way,
// and the next turn would send those rows again.
func (o *Outbox) release(ctx context.Context, turn jetstream.Consumer, removed *atomic.Uint64) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), o.store.cfg.Timeout)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for ctx.Err() == nil {
		i, err := turn.Info(ctx)
		if err != nil || i.Delivered.Consumer-uint64(i.NumAckPending) >= removed.Load() {
			break
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	_ = o.stream.DeleteConsumer(ctx, turn.CachedInfo().Name) // or it ends by itself
}

// mine says whether the turn is still this core's, as far as can be found out:
// a server that does not answer may yet come back with it.
func (o *Outbox) mine(ctx context.Context, turn jetstream.Consumer) bool {
	ctx, cancel := context.WithTimeout(ctx, o.store.cfg.Timeout)
	defer cancel()
	_, err := turn.Info(ctx)
	return !errors.Is(err, jetstream.ErrConsumerNotFound)
}

// Tell implements [push.Outbox]. Words travel by core NATS, and are not kept.
func (o *Outbox) Tell(word []byte) error { return o.store.conn.Publish(wordSubject, word) }

// Hear implements [push.Outbox].
func (o *Outbox) Hear(ctx context.Context, word func([]byte)) error {
	words := make(chan *nats.Msg, wordsAhead)
	sub, err := o.store.conn.ChanSubscribe(wordSubject, words)
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	for {
		select {
		case m := <-words:
			word(m.Data)
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), sub.Unsubscribe())
		}
	}
}
