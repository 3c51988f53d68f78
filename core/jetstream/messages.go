package jetstream

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"sallyport/core/im"
)

// Bounds of the messages that wait for their readers, all together.
const (
	maxHeld      = 1_000_000
	maxHeldBytes = 4 << 30
	maxHeldSize  = im.MaxSize + 4<<10

	// heldKeep ends messages that nobody can read.
	heldKeep = 400 * 24 * time.Hour
	// heldKnown is for how long a message of the same key is not taken again.
	heldKnown = 10 * time.Minute
)

const (
	messageStream  = "sallyport_im"
	messageSubject = "sallyport.im.held."
	removedSubject = "sallyport.im.removed"
	heldHeader     = "Sallyport-Held"
)

// errNoMessage: there is no message of that number (JSNoMessageFoundErr).
const errNoMessage jetstream.ErrorCode = 10037

// Messages is the store of messages that wait for their readers, a JetStream
// stream; see [im.Store].
//
// The embedded server has it in a directory of its own, with a server of its
// own that syncs each write to the disk before it acknowledges it: the other
// stores need not pay for that. In a cluster it is the servers' sync_interval
// that says what an acknowledgement is worth.
type Messages struct {
	store  *Store
	conn   *nats.Conn
	js     jetstream.JetStream
	stream jetstream.Stream
}

var _ im.Store = (*Messages)(nil)

// heldMark is what a message is known by without reading it.
type heldMark struct {
	V       int    `json:"v"`
	Device  string `json:"device"`
	Key     string `json:"key"`
	Sender  uint64 `json:"sender,omitempty"`
	Added   int64  `json:"added"` // ms since 1970
	Expires int64  `json:"expires"`
}

// removedWord says to the other cores that a message is held no longer.
type removedWord struct {
	Device string `json:"device"`
	Seq    uint64 `json:"seq"`
}

func (s *Store) newMessages(ctx context.Context) (*Messages, error) {
	m := &Messages{store: s, conn: s.durable.conn, js: s.durable.js}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	var err error
	m.stream, err = m.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name: messageStream, Subjects: []string{messageSubject + "*"}, Storage: jetstream.FileStorage,
		Replicas: s.cfg.Replicas, Discard: jetstream.DiscardNew, MaxMsgs: maxHeld, MaxBytes: maxHeldBytes,
		MaxMsgSize: maxHeldSize, MaxAge: heldKeep, Duplicates: heldKnown,
		// A copy that answers for the leader may lag behind what was acknowledged.
		AllowDirect: s.embedded != nil,
	})
	if err != nil {
		return nil, fmt.Errorf("store stream %s with %d replicas: %w", messageStream, s.cfg.Replicas, err)
	}
	return m, nil
}

// Add implements [im.Store].
func (m *Messages) Add(ctx context.Context, e im.Entry, data []byte) (seq uint64, added bool, err error) {
	mark, err := json.Marshal(heldMark{V: 1, Device: e.Device, Key: e.Key, Sender: e.Sender, Added: e.Added.UnixMilli(), Expires: e.Expires.UnixMilli()})
	if err != nil {
		return 0, false, fmt.Errorf("store stream %s: %w", messageStream, err)
	}
	name := subjectOf(e.Device)
	ack, err := m.js.PublishMsgAsync(&nats.Msg{
		Subject: messageSubject + name, Data: data,
		Header: nats.Header{jetstream.MsgIDHeader: {name + e.Key}, heldHeader: {string(mark)}},
	}, jetstream.WithStallWait(m.store.cfg.Timeout))
	if err != nil {
		return 0, false, fmt.Errorf("store stream %s: %w", messageStream, err)
	}
	select {
	case a := <-ack.Ok():
		return a.Sequence, !a.Duplicate, nil
	case err := <-ack.Err():
		if full(err) {
			return 0, false, im.ErrFull
		}
		return 0, false, fmt.Errorf("store stream %s: not acknowledged: %w", messageStream, err)
	case <-ctx.Done():
		return 0, false, context.Cause(ctx)
	}
}

// Get implements [im.Store].
func (m *Messages) Get(ctx context.Context, seq uint64) ([]byte, error) {
	raw, err := m.stream.GetMsg(ctx, seq)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, im.ErrNotHeld
	}
	if err != nil {
		return nil, fmt.Errorf("store stream %s: %w", messageStream, err)
	}
	return raw.Data, nil
}

// Remove implements [im.Store].
func (m *Messages) Remove(ctx context.Context, device string, seq uint64) (removed bool, err error) {
	err = m.stream.DeleteMsg(ctx, seq)
	removed = err == nil
	var api *jetstream.APIError
	if err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) && (!errors.As(err, &api) || api.ErrorCode != errNoMessage) {
		if _, left := m.Get(ctx, seq); !errors.Is(left, im.ErrNotHeld) {
			return false, fmt.Errorf("store stream %s: %w", messageStream, err)
		}
	}
	if m.store.embedded != nil {
		return removed, nil
	}
	word, err := json.Marshal(removedWord{device, seq})
	if err != nil {
		return removed, fmt.Errorf("store stream %s: %w", messageStream, err)
	}
	return removed, m.conn.Publish(removedSubject, word)
}

// Follow implements [im.Store].
func (m *Messages) Follow(ctx context.Context, held func(im.Entry), removed func(string, uint64), caughtUp func()) error {
	info, err := m.stream.Info(ctx)
	if err != nil {
		return fmt.Errorf("store stream %s: %w", messageStream, err)
	}
	last := info.State.LastSeq
	marks := make(chan jetstream.Msg, wordsAhead)
	words := make(chan *nats.Msg, wordsAhead)
	if m.store.embedded == nil {
		sub, err := m.conn.ChanSubscribe(removedSubject, words)
		if err != nil {
			return fmt.Errorf("store: %w", err)
		}
		defer func() { _ = sub.Unsubscribe() }()
	}
	rest := info.State.Msgs
	if rest == 0 {
		caughtUp()
	}
	reader, err := m.stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{
		HeadersOnly: true, NamePrefix: "follow_" + rand.Text(), DeliverPolicy: jetstream.DeliverAllPolicy,
	})
	if err != nil {
		return fmt.Errorf("store stream %s: %w", messageStream, err)
	}
	over := make(chan struct{})
	reading, err := reader.Consume(func(msg jetstream.Msg) {
		select {
		case marks <- msg:
		case <-over:
		}
	})
	if err != nil {
		return fmt.Errorf("store stream %s: %w", messageStream, err)
	}
	defer func() {
		close(over)
		reading.Stop()
		<-reading.Closed()
	}()
	// Another core may remove the last before it is read.
	silent := time.NewTimer(m.store.cfg.Timeout)
	defer silent.Stop()
	for {
		select {
		case msg := <-marks:
			md, err := msg.Metadata()
			if err != nil {
				continue
			}
			if e, ok := entryOf(msg, md.Sequence.Stream); ok {
				held(e)
			}
			silent.Reset(m.store.cfg.Timeout)
			if rest > 0 && (md.NumPending == 0 || md.Sequence.Stream >= last) {
				rest = 0
				caughtUp()
			}
		case w := <-words:
			var word removedWord
			if json.Unmarshal(w.Data, &word) == nil {
				removed(word.Device, word.Seq)
			}
		case <-silent.C:
			if rest > 0 {
				rest = 0
				caughtUp()
			}
		case <-reading.Closed():
			return fmt.Errorf("store stream %s: reading ended", messageStream)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// entryOf reads the mark of a message. One that a later version wrote is left
// alone.
func entryOf(msg jetstream.Msg, seq uint64) (im.Entry, bool) {
	var mark heldMark
	if json.Unmarshal([]byte(msg.Headers().Get(heldHeader)), &mark) != nil || mark.V != 1 {
		return im.Entry{}, false
	}
	return im.Entry{
		Seq: seq, Device: mark.Device, Key: mark.Key, Sender: mark.Sender, Added: time.UnixMilli(mark.Added), Expires: time.UnixMilli(mark.Expires),
	}, true
}
