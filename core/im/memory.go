package im

import (
	"context"
	"slices"
	"sync"
)

// Memory is a [Store] that forgets everything with the process: for tests, and
// for a demonstration that leaves nothing behind. The zero value is ready.
type Memory struct {
	mu      sync.Mutex
	last    uint64
	entries []memoryEntry                   // guarded by mu
	keys    map[string]bool                 // ever added; guarded by mu
	hear    map[chan<- struct{}]func(Entry) // who follows; guarded by mu
}

type memoryEntry struct {
	Entry
	data []byte
}

// Add implements [Store].
func (m *Memory) Add(_ context.Context, e Entry, data []byte) (seq uint64, added bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.keys == nil {
		m.keys = make(map[string]bool)
	}
	if m.keys[e.Device+"\x00"+e.Key] {
		for i := range m.entries {
			if m.entries[i].Device == e.Device && m.entries[i].Key == e.Key {
				seq = m.entries[i].Seq
			}
		}
		return seq, false, nil
	}
	m.keys[e.Device+"\x00"+e.Key] = true
	m.last++
	e.Seq = m.last
	m.entries = append(m.entries, memoryEntry{e, slices.Clone(data)})
	for _, f := range m.hear {
		f(e)
	}
	return e.Seq, true, nil
}

// Get implements [Store].
func (m *Memory) Get(_ context.Context, seq uint64) (data []byte, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.entries {
		if m.entries[i].Seq == seq {
			return slices.Clone(m.entries[i].data), nil
		}
	}
	return nil, ErrNotHeld
}

// Remove implements [Store].
func (m *Memory) Remove(_ context.Context, _ string, seq uint64) (removed bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	before := len(m.entries)
	m.entries = slices.DeleteFunc(m.entries, func(e memoryEntry) bool { return e.Seq == seq })
	return len(m.entries) < before, nil
}

// Follow implements [Store].
func (m *Memory) Follow(ctx context.Context, held func(Entry), _ func(string, uint64), caughtUp func()) error {
	key := make(chan<- struct{})
	m.mu.Lock()
	for i := range m.entries {
		held(m.entries[i].Entry)
	}
	if m.hear == nil {
		m.hear = make(map[chan<- struct{}]func(Entry))
	}
	m.hear[key] = held
	m.mu.Unlock()
	caughtUp()
	<-ctx.Done()
	m.mu.Lock()
	delete(m.hear, key)
	m.mu.Unlock()
	return context.Cause(ctx)
}
