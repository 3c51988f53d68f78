package xmppproxy

import (
	"context"
	"errors"
	"slices"
	"sync"

	"sallyport/core/xmppproxy/session"
)

// Memory is a session.Store that a restart of the process empties. It is for
// tests.
type Memory struct {
	mu      sync.Mutex
	records map[string][]byte          // guarded by mu
	entries map[string][]session.Entry // guarded by mu
	pos     uint64                     // guarded by mu
	failing error                      // guarded by mu
}

// NewMemory makes an empty store.
func NewMemory() *Memory {
	return &Memory{records: make(map[string][]byte), entries: make(map[string][]session.Entry)}
}

// Fail has all writes fail with err from now on, nil to end it.
func (m *Memory) Fail(err error) { m.mu.Lock(); m.failing = err; m.mu.Unlock() }

// Len is how many records and entries there are.
func (m *Memory) Len() (records, entries int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, list := range m.entries {
		entries += len(list)
	}
	return len(m.records), entries
}

// Put implements session.Store.
func (m *Memory) Put(_ context.Context, id string, record []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failing != nil {
		return m.failing
	}
	m.records[id] = slices.Clone(record)
	return nil
}

// Append implements session.Store.
func (m *Memory) Append(_ context.Context, id string, entry []byte) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failing != nil {
		return 0, m.failing
	}
	if len(entry) > session.MaxEntry {
		return 0, errors.New("entry too long")
	}
	m.pos++
	m.entries[id] = append(m.entries[id], session.Entry{Pos: m.pos, Data: slices.Clone(entry)})
	return m.pos, nil
}

// Read implements session.Store.
func (m *Memory) Read(_ context.Context, id string, from uint64, each func(uint64, []byte) bool) error {
	m.mu.Lock()
	list := slices.Clone(m.entries[id])
	m.mu.Unlock()
	for _, e := range list {
		if e.Pos >= from && !each(e.Pos, e.Data) {
			break
		}
	}
	return nil
}

// Trim implements session.Store.
func (m *Memory) Trim(_ context.Context, id string, upTo uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.entries[id] = slices.DeleteFunc(m.entries[id], func(e session.Entry) bool { return e.Pos <= upTo })
	return nil
}

// Remove implements session.Store.
func (m *Memory) Remove(_ context.Context, id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failing != nil {
		return m.failing
	}
	delete(m.records, id)
	delete(m.entries, id)
	return nil
}

// Load implements session.Store.
func (m *Memory) Load(_ context.Context, each func(string, []byte) bool) error {
	m.mu.Lock()
	all := make(map[string][]byte, len(m.records))
	for id, r := range m.records {
		all[id] = slices.Clone(r)
	}
	m.mu.Unlock()
	for id, r := range all {
		if !each(id, r) {
			break
		}
	}
	return nil
}
