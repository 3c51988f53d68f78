package jetstream

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"sallyport/core/xmppproxy/session"
)

// Bounds of what is kept of sessions, all together and of one. The bounds of
// one are session's own; these are behind them.
const (
	maxSessions       = 1_000_000
	maxRecordBytes    = 8 << 30
	maxJournal        = 10_000_000
	maxJournalBytes   = 16 << 30
	maxSessionEntries = 250_000
	maxSessionID      = 1024

	// sessionKeep ends what nobody can read.
	sessionKeep = 400 * 24 * time.Hour
	// appendKnown is for how long an append that failed may be tried again
	// without being there twice.
	appendKnown = 30 * time.Second
)

const (
	recordStream   = "sallyport_xmpp_sessions"
	recordSubject  = "sallyport.xmpp.session."
	journalStream  = "sallyport_xmpp_journal"
	journalSubject = "sallyport.xmpp.journal."
)

// Sealer keeps what stanzas say from whoever reads the store. name is not
// sealed, and the same for both.
type Sealer interface {
	Seal(name string, plain []byte) []byte
	Open(name string, sealed []byte) (plain []byte, stale bool, err error)
}

// Sessions keeps XMPP sessions over a restart: a stream of records, of which
// each session has one, and a stream of journals, where a session's entries are
// those under its subject and their positions the stream's numbers. It is on the
// server that syncs each write, as [Messages] is. In a cluster a core sees its
// own sessions alone, by its name.
type Sessions struct {
	// Static.
	store    *Store
	sealer   Sealer // nil leaves all in clear, which is for tests
	core     string // a token of subjects
	records  jetstream.Stream
	journals jetstream.Stream
	puts     *group // to records
	appends  *group // to journals

	mu sync.Mutex
	// doubtful are the appends that failed and may be on disk.
	doubtful map[string]doubt
}

// doubt is an append of which nobody knows whether it is on disk.
type doubt struct {
	sum [sha256.Size]byte // of the entry
	key string            // under which it went
}

var _ session.Store = (*Sessions)(nil)

// Sessions opens the store of XMPP sessions, made if it is missing. Values are
// sealed by sealer.
func (s *Store) Sessions(ctx context.Context, sealer Sealer) (*Sessions, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	k := &Sessions{store: s, sealer: sealer, core: "own", doubtful: make(map[string]doubt)}
	if s.embedded == nil {
		k.core = subjectOf(s.cfg.Name)
	}
	stream := func(c jetstream.StreamConfig) (jetstream.Stream, error) {
		c.Storage, c.Replicas, c.Discard, c.MaxAge = jetstream.FileStorage, s.cfg.Replicas, jetstream.DiscardNew, sessionKeep
		// A copy that answers for the leader may lag behind what was acknowledged.
		c.AllowDirect, c.AllowAtomicPublish = s.embedded != nil, true
		made, err := s.durable.js.CreateOrUpdateStream(ctx, c)
		if err != nil {
			return nil, fmt.Errorf("store stream %s with %d replicas: %w", c.Name, c.Replicas, err)
		}
		return made, nil
	}
	var err error
	k.records, err = stream(jetstream.StreamConfig{
		Name: recordStream, Subjects: []string{recordSubject + "*.*"}, MaxMsgsPerSubject: 1,
		MaxMsgs: maxSessions, MaxBytes: maxRecordBytes, MaxMsgSize: session.MaxRecord + 4<<10,
	})
	if err != nil {
		return nil, err
	}
	k.journals, err = stream(jetstream.StreamConfig{
		Name: journalStream, Subjects: []string{journalSubject + "*.*"},
		MaxMsgsPerSubject: maxSessionEntries, DiscardNewPerSubject: true, Duplicates: appendKnown,
		MaxMsgs: maxJournal, MaxBytes: maxJournalBytes, MaxMsgSize: session.MaxEntry + 4<<10,
	})
	if err != nil {
		return nil, err
	}
	together := func(of jetstream.Stream) *group {
		return &group{
			stream: of.CachedInfo().Config.Name, wire: s.durable, timeout: s.cfg.Timeout,
			batches: of.CachedInfo().Config.AllowAtomicPublish,
		}
	}
	k.puts, k.appends = together(k.records), together(k.journals)
	return k, nil
}

// subject is a session's, in either stream; it says nothing of the session.
func (k *Sessions) subject(prefix, id string) string { return prefix + k.core + "." + subjectOf(id) }

// Put implements [session.Store].
func (k *Sessions) Put(ctx context.Context, id string, record []byte) error {
	if len(record) > session.MaxRecord || len(id) > maxSessionID {
		return fmt.Errorf("store stream %s: record of %d bytes, at most %d", recordStream, len(record), session.MaxRecord)
	}
	subject := k.subject(recordSubject, id)
	plain := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(id)+len(record)), uint16(len(id)))
	plain = append(append(plain, id...), record...)
	_, err := k.puts.publish(ctx, &nats.Msg{Subject: subject, Data: k.seal(subject, plain)})
	return err
}

// Append implements [session.Store]. One that fails may be on disk all the same;
// when the same entry is tried again it is there once.
func (k *Sessions) Append(ctx context.Context, id string, entry []byte) (uint64, error) {
	if len(entry) > session.MaxEntry {
		return 0, fmt.Errorf("store stream %s: entry of %d bytes, at most %d", journalStream, len(entry), session.MaxEntry)
	}
	subject := k.subject(journalSubject, id)
	d := doubt{sum: sha256.Sum256(entry)}
	k.mu.Lock()
	if before, ok := k.doubtful[subject]; ok && before.sum == d.sum {
		d.key = before.key
	} else {
		d.key = rand.Text()
	}
	k.mu.Unlock()
	seq, err := k.appends.publish(ctx, &nats.Msg{
		Subject: subject, Data: k.seal(subject, entry), Header: nats.Header{jetstream.MsgIDHeader: {d.key}},
	})
	k.mu.Lock()
	defer k.mu.Unlock()
	if err != nil {
		k.doubtful[subject] = d
		return 0, err
	}
	delete(k.doubtful, subject)
	return seq, nil
}

// Read implements [session.Store].
func (k *Sessions) Read(ctx context.Context, id string, from uint64, each func(pos uint64, entry []byte) bool) error {
	subject := k.subject(journalSubject, id)
	for {
		m, err := k.journals.GetMsg(ctx, max(from, 1), jetstream.WithGetMsgSubject(subject))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("store stream %s: %w", journalStream, err)
		}
		entry, err := k.open(subject, m.Data)
		if err != nil {
			return fmt.Errorf("store stream %s: entry %d: %w", journalStream, m.Sequence, err)
		}
		if !each(m.Sequence, entry) {
			return nil
		}
		from = m.Sequence + 1
	}
}

// Trim implements [session.Store].
func (k *Sessions) Trim(ctx context.Context, id string, upTo uint64) error {
	subject := k.subject(journalSubject, id)
	if err := k.journals.Purge(ctx, jetstream.WithPurgeSubject(subject), jetstream.WithPurgeSequence(upTo+1)); err != nil {
		return fmt.Errorf("store stream %s: %w", journalStream, err)
	}
	return nil
}

// Remove implements [session.Store]. The record goes last: while it is there,
// Remove can be called again.
func (k *Sessions) Remove(ctx context.Context, id string) error {
	subject := k.subject(journalSubject, id)
	if err := k.journals.Purge(ctx, jetstream.WithPurgeSubject(subject)); err != nil {
		return fmt.Errorf("store stream %s: %w", journalStream, err)
	}
	k.mu.Lock()
	delete(k.doubtful, subject)
	k.mu.Unlock()
	if err := k.records.Purge(ctx, jetstream.WithPurgeSubject(k.subject(recordSubject, id))); err != nil {
		return fmt.Errorf("store stream %s: %w", recordStream, err)
	}
	return nil
}

func (k *Sessions) seal(name string, plain []byte) []byte {
	if k.sealer == nil {
		return plain
	}
	return k.sealer.Seal(name, plain)
}

func (k *Sessions) open(name string, sealed []byte) ([]byte, error) {
	if k.sealer == nil {
		return sealed, nil
	}
	plain, _, err := k.sealer.Open(name, sealed)
	return plain, err
}
